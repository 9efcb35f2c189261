"""Modes made of a block cipher of `cryptography` and arithmetic on arrays of numpy.

It is imported when the first key needs it: most commands never do, and run before numpy is loaded.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256

import numpy as np
from cryptography.hazmat.primitives.ciphers import (
    BlockCipherAlgorithm,
    CipherContext,
    algorithms,
    modes,
)
from cryptography.hazmat.primitives.ciphers import Cipher as _Cipher

from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.plan import Cipher
from fusedm.crypto.adiantum import Adiantum, AdiantumUnits
from fusedm.crypto.blocks import BLOCK_BYTES, Blocks
from fusedm.crypto.cipher_spec import DIGESTS, CipherSpec
from fusedm.crypto.essiv import CbcEssiv
from fusedm.crypto.sector_ivs import Encrypt, IvCiphers, IvMaker, make_iv_maker
from fusedm.crypto.sector_modes import CbcUnits, EcbUnits, SectorArrays, UnitMode, XtsUnits
from fusedm.crypto.xts import Xts


class _EcbBlocks:
    """A block cipher on many blocks: electronic codebook is only the way to call it.

    A context is made for each call, as two threads cannot share one.
    Raises: UnsupportedAlgorithm, which the library does only when a context is made.
    """

    def __init__(self, algorithm: BlockCipherAlgorithm) -> None:
        self._cipher = _Cipher(algorithm, modes.ECB())
        self._cipher.encryptor()

    def encrypt(self, blocks: Blocks) -> Blocks:
        """Each block encrypted."""
        return _through(self._cipher.encryptor(), blocks)

    def decrypt(self, blocks: Blocks) -> Blocks:
        """Each block decrypted."""
        return _through(self._cipher.decryptor(), blocks)


def _through(context: CipherContext, blocks: Blocks) -> Blocks:
    # update_into asks for a block's room, less one byte, behind its output.
    result = np.empty(blocks.nbytes + BLOCK_BYTES - 1, np.uint8)
    context.update_into(blocks.data.cast("B"), result.data)
    return result[: blocks.nbytes].view("<u8").reshape(blocks.shape)


def aes_xts(key: CryptoKey) -> Cipher:
    """AES in XTS mode."""
    return _xts(key, algorithms.AES)


def sm4_xts(key: CryptoKey) -> Cipher:
    """SM4 in XTS mode, with the tweaks of IEEE 1619 as the kernel's xts(sm4) has them."""
    return _xts(key, algorithms.SM4)


def _xts(key: CryptoKey, algorithm: Callable[[bytes], BlockCipherAlgorithm]) -> Xts:
    """XTS over a block cipher; the key's second half is that of the tweaks.

    Source: IEEE 1619.
    """
    half = len(key.raw) // 2
    first, second = bytes(key.raw[:half]), bytes(key.raw[half:])
    return Xts(key.config, _EcbBlocks(algorithm(first)), _EcbBlocks(algorithm(second)))


def aes_cbc_essiv(key: CryptoKey) -> Cipher:
    """AES-128 in CBC mode; the IVs are encrypted by AES-256 under the SHA-256 of the key."""
    aes = algorithms.AES(bytes(key.raw))
    chain = _Cipher(aes, modes.CBC(bytes(BLOCK_BYTES)))
    iv_cipher = _EcbBlocks(algorithms.AES(sha256(key.raw).digest()))
    return CbcEssiv(key.config, _EcbBlocks(aes), iv_cipher, chain.encryptor)


def adiantum(key: CryptoKey) -> Cipher:
    """Adiantum with XChaCha12 and AES-256."""
    return Adiantum(key.config, key.raw, _aes)


def _aes(raw: memoryview) -> _EcbBlocks:
    return _EcbBlocks(algorithms.AES(bytes(raw)))


def sector_arrays(
    spec: CipherSpec, raw: memoryview, sector_size: int, counts_large: bool
) -> SectorArrays:
    """A cipher of dm-crypt, its keys one after the other in raw.

    Source: crypt_setkey; each key has its own digest for essiv, and eboiv takes the first key.
    """
    size = len(raw) // spec.key_count
    keys: list[tuple[IvMaker, UnitMode]] = []
    zero_under: Encrypt | None = None
    for index in range(spec.key_count):
        key = bytes(raw[index * size : (index + 1) * size])
        if spec.rounds:
            units = AdiantumUnits(sector_size, memoryview(key), _aes, spec.rounds)
            keys.append((make_iv_maker(spec, sector_size, None), units))
            continue
        mode, own_zero_under = _unit_mode(spec.chain, key)
        zero_under = zero_under or own_zero_under
        salted = _salted(spec.digest, key) if spec.digest else zero_under
        keys.append((make_iv_maker(spec, sector_size, IvCiphers(salted, zero_under)), mode))
    return SectorArrays(sector_size, counts_large, keys)


def _unit_mode(chain: str, key: bytes) -> tuple[UnitMode, Encrypt]:
    """The mode of one key, and how it encrypts a block of zeros under given IVs."""
    if chain == "xts":
        half = len(key) // 2
        data, tweak = (_EcbBlocks(algorithms.AES(part)) for part in (key[:half], key[half:]))
        xts = XtsUnits(data, tweak)
        return xts, xts.zero_under
    aes = algorithms.AES(key)
    if chain == "ecb":
        return EcbUnits(_EcbBlocks(aes)), _EcbBlocks(aes).encrypt
    cbc = CbcUnits(_EcbBlocks(aes), _Cipher(aes, modes.CBC(bytes(BLOCK_BYTES))).encryptor)
    return cbc, cbc.zero_under


def _salted(digest: str, key: bytes) -> Encrypt:
    return _EcbBlocks(algorithms.AES(DIGESTS[digest](key))).encrypt


#: Made from a key; UnsupportedAlgorithm for a block cipher the library lacks.
ARRAY_MODES: Mapping[str, Callable[[CryptoKey], Cipher]] = {
    "AES-256-XTS": aes_xts,
    "AES-128-CBC-ESSIV": aes_cbc_essiv,
    "Adiantum": adiantum,
    "SM4-XTS": sm4_xts,
}
