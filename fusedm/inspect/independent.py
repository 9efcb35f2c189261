"""Ciphers again, from their definitions over block ciphers: a second opinion.

Nothing here is shared with the data path: not a line of code, and of `cryptography` no more than
the block ciphers and CBC. It is slower.
Source: IEEE 1619, clauses 5.2 to 5.4, for whole blocks; drivers/md/dm-crypt.c for ESSIV.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fusedm.block.errors import StackError
from fusedm.inspect.independent_adiantum import adiantum

_BLOCK = 16
#: What is shifted out of a block comes back in below, up to 7 bits higher: it must not be long.
_MAX_SHIFT = 64

#: (key bytes, DUN, one data unit, whether to encrypt) to the transformed data unit.
_Transform = Callable[[bytes, int, bytes, bool], bytes]
#: A block cipher from its key.
_Block = Callable[[bytes], algorithms.AES | algorithms.SM4]


def encrypt_unit(mode: str, raw: bytes, dun: int, data: bytes) -> bytes:
    """The ciphertext of one data unit.

    Raises: StackError for a mode that is not known here.
    """
    return _transform_of(mode)(raw, dun, data, True)


def decrypt_unit(mode: str, raw: bytes, dun: int, data: bytes) -> bytes:
    """The plaintext of one data unit.

    Raises: StackError for a mode that is not known here.
    """
    return _transform_of(mode)(raw, dun, data, False)


def knows(mode: str) -> bool:
    """Whether there is a second opinion on a mode."""
    return mode in _TRANSFORMS


def _transform_of(mode: str) -> _Transform:
    if mode not in _TRANSFORMS:
        raise StackError(
            f"mode {mode}: there is no independent implementation to compare with, "
            f"only of {', '.join(_TRANSFORMS)}"
        )
    return _TRANSFORMS[mode]


def _xts(make: _Block, raw: bytes, dun: int, data: bytes, forward: bool) -> bytes:
    """Each block is T ^ E(key 1, block ^ T); T is E(key 2, DUN), doubled for each block."""
    half = len(raw) // 2
    first = _ecb(make(raw[half:]), _number(dun), True)
    tweaks = _tweaks(first, len(data) // _BLOCK)
    return _xor(_ecb(make(raw[:half]), _xor(data, tweaks), forward), tweaks)


def _cbc_essiv(raw: bytes, dun: int, data: bytes, forward: bool) -> bytes:
    """CBC from an IV that is the DUN encrypted under the SHA-256 of the key."""
    iv = _ecb(algorithms.AES(sha256(raw).digest()), _number(dun), True)
    cipher = Cipher(algorithms.AES(raw), modes.CBC(iv))
    return (cipher.encryptor() if forward else cipher.decryptor()).update(data)


def _aes(key: bytes, block: bytes, forward: bool) -> bytes:
    return _ecb(algorithms.AES(key), block, forward)


def _number(dun: int) -> bytes:
    return dun.to_bytes(_BLOCK, "little")


def _tweaks(first: bytes, count: int) -> bytes:
    """T, T * x, T * x**2, ... as count blocks; those there are give as many more at once."""
    tweaks, done = int.from_bytes(first, "little"), 1
    while done < count:
        more = tweaks
        for _ in range(0, done, _MAX_SHIFT):
            more = _times(more, done, min(done, _MAX_SHIFT))
        tweaks |= more << (128 * done)
        done *= 2
    return tweaks.to_bytes(_BLOCK * done, "little")[: _BLOCK * count]


def _times(blocks: int, count: int, power: int) -> int:
    """Each of count blocks times x**power in GF(2**128) modulo x**128 + x**7 + x**2 + x + 1."""
    stay, leave = _masks(count, power)
    over = (blocks >> (128 - power)) & leave
    return ((blocks & stay) << power) ^ over ^ over << 1 ^ over << 2 ^ over << 7


@cache
def _masks(count: int, power: int) -> tuple[int, int]:
    """The bits of each block that stay in it when it is shifted, and where those that leave go."""
    ones = sum(1 << (128 * index) for index in range(count))
    return ones * ((1 << (128 - power)) - 1), ones * ((1 << power) - 1)


def _ecb(block: algorithms.AES | algorithms.SM4, data: bytes, forward: bool) -> bytes:
    # Electronic codebook only as a way to call the block cipher itself.
    cipher = Cipher(block, modes.ECB())
    return (cipher.encryptor() if forward else cipher.decryptor()).update(data)


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return number.to_bytes(len(left), "little")


_TRANSFORMS: Mapping[str, _Transform] = {
    "AES-256-XTS": partial(_xts, algorithms.AES),
    "SM4-XTS": partial(_xts, algorithms.SM4),
    "AES-128-CBC-ESSIV": _cbc_essiv,
    "Adiantum": partial(adiantum, _aes),
}
