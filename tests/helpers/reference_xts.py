"""XTS written from its definition over single blocks: slow, obvious, a second opinion.

It shares no code with fusedm.  Source: IEEE 1619, clauses 5.2 to 5.4, for whole blocks; SM4-XTS is
the same over another block cipher.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import (
    BlockCipherAlgorithm,
    Cipher,
    algorithms,
    modes,
)

BLOCK = 16

Algorithm = Callable[[bytes], BlockCipherAlgorithm]


def tweaks(first: bytes, count: int) -> bytes:
    """The tweak of each block of a unit: the first one, doubled from block to block."""
    tweak = int.from_bytes(first, "little")
    result = b""
    for _ in range(count):
        result += tweak.to_bytes(BLOCK, "little")
        carry = tweak >> 127
        tweak = (tweak << 1) % (1 << 128)
        if carry:
            tweak ^= 0x87
    return result


def encrypt(
    key: bytes, unit: int, dun: int, data: bytes, algorithm: Algorithm = algorithms.AES
) -> bytes:
    """Data of whole units, the first of them numbered dun."""
    return _units(key, unit, dun, data, algorithm, True)


def decrypt(
    key: bytes, unit: int, dun: int, data: bytes, algorithm: Algorithm = algorithms.AES
) -> bytes:
    """The inverse of encrypt."""
    return _units(key, unit, dun, data, algorithm, False)


def _units(
    key: bytes, unit: int, dun: int, data: bytes, algorithm: Algorithm, forward: bool
) -> bytes:
    """Unit by unit: each block is T ^ E(key 1, block ^ T), the first T is E(key 2, DUN)."""
    half = len(key) // 2
    data_key, tweak_key = algorithm(bytes(key[:half])), algorithm(bytes(key[half:]))
    result = b""
    for at in range(0, len(data), unit):
        iv = (dun + at // unit).to_bytes(BLOCK, "little")
        tweak = tweaks(_ecb(tweak_key, True, iv), unit // BLOCK)
        result += _xor(_ecb(data_key, forward, _xor(data[at : at + unit], tweak)), tweak)
    return result


def _ecb(algorithm: BlockCipherAlgorithm, forward: bool, data: bytes) -> bytes:
    # Electronic codebook only as a way to call the block cipher itself.
    cipher = Cipher(algorithm, modes.ECB())
    return (cipher.encryptor() if forward else cipher.decryptor()).update(data)


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return number.to_bytes(len(left), "little")
