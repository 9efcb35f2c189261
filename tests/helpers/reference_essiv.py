"""AES-CBC-ESSIV written from its definition over single AES blocks: slow, obvious.

It shares no code with fusedm.  Source: NIST SP 800-38A (CBC), and the kernel's documentation of
essiv(cbc(aes),sha256): the IV is the DUN encrypted under the SHA-256 of the key.
"""

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16


def encrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """Data of whole units, the first of them numbered dun: each block xored with the one before."""
    result = b""
    for at in range(0, len(data), BLOCK):
        link = result[-BLOCK:] if at % unit else _iv(key, dun + at // unit)
        result += _aes(key, True, _xor(data[at : at + BLOCK], link))
    return result


def decrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """The inverse of encrypt."""
    result = b""
    for at in range(0, len(data), BLOCK):
        link = data[at - BLOCK : at] if at % unit else _iv(key, dun + at // unit)
        result += _xor(_aes(key, False, data[at : at + BLOCK]), link)
    return result


def _iv(key: bytes, dun: int) -> bytes:
    return _aes(hashlib.sha256(key).digest(), True, dun.to_bytes(BLOCK, "little"))


def _aes(key: bytes, forward: bool, block: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    return (cipher.encryptor() if forward else cipher.decryptor()).update(block)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
