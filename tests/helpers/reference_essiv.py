"""AES-128-CBC-ESSIV written from its definition over single AES blocks: a second opinion.

It shares no code with fusedm. ESSIV encrypts the data unit number under the SHA-256 of the key and
takes that for the IV; CBC is then done by hand.  Source: crypto/essiv.c of the kernel.
"""

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16


def encrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """Data of whole units, the first of them numbered dun."""
    return b"".join(
        _encrypt_unit(key, dun + at // unit, data[at : at + unit])
        for at in range(0, len(data), unit)
    )


def decrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """The inverse of encrypt."""
    return b"".join(
        _decrypt_unit(key, dun + at // unit, data[at : at + unit])
        for at in range(0, len(data), unit)
    )


def first_iv(key: bytes, dun: int) -> bytes:
    """The IV of the unit numbered dun: AES-256 of the number under the key's hash."""
    number = dun.to_bytes(BLOCK, "little")
    return _ecb(hashlib.sha256(key).digest()).encryptor().update(number)


def _encrypt_unit(key: bytes, dun: int, data: bytes) -> bytes:
    block_cipher = _ecb(key).encryptor()
    before, result = first_iv(key, dun), b""
    for at in range(0, len(data), BLOCK):
        before = block_cipher.update(_xor(data[at : at + BLOCK], before))
        result += before
    return result


def _decrypt_unit(key: bytes, dun: int, data: bytes) -> bytes:
    before = first_iv(key, dun) + data[:-BLOCK]
    return _xor(_ecb(key).decryptor().update(data), before)


def _ecb(key: bytes) -> Cipher[modes.ECB]:
    # Electronic codebook only as a way to call the block cipher itself.
    return Cipher(algorithms.AES(key), modes.ECB())


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return number.to_bytes(len(left), "little")
