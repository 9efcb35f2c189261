"""AES-256-XTS written from its definition over single AES blocks: slow, obvious, a second opinion.

It shares no code with fusedm.  Source: IEEE 1619, clauses 5.2 to 5.4, for whole blocks.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 16


def tweaks(key: bytes, dun: int, count: int) -> bytes:
    """The tweak of each block of a unit: E(key 2, DUN), doubled from block to block."""
    first = _ecb(key[32:], True, dun.to_bytes(BLOCK, "little"))
    tweak = int.from_bytes(first, "little")
    result = b""
    for _ in range(count):
        result += tweak.to_bytes(BLOCK, "little")
        carry = tweak >> 127
        tweak = (tweak << 1) % (1 << 128)
        if carry:
            tweak ^= 0x87
    return result


def transform_unit(key: bytes, dun: int, data: bytes, *, encrypt: bool) -> bytes:
    """One data unit: each block is T ^ AES(key 1, block ^ T)."""
    tweak = tweaks(key, dun, len(data) // BLOCK)
    return _xor(_ecb(key[:32], encrypt, _xor(data, tweak)), tweak)


def encrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """Data of whole units, the first of them numbered dun."""
    return _units(key, unit, dun, data, True)


def decrypt(key: bytes, unit: int, dun: int, data: bytes) -> bytes:
    """The inverse of encrypt."""
    return _units(key, unit, dun, data, False)


def _units(key: bytes, unit: int, dun: int, data: bytes, forward: bool) -> bytes:
    return b"".join(
        transform_unit(bytes(key), dun + at // unit, bytes(data[at : at + unit]), encrypt=forward)
        for at in range(0, len(data), unit)
    )


def _ecb(key: bytes, forward: bool, data: bytes) -> bytes:
    # Electronic codebook only as a way to call the block cipher itself.
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    return (cipher.encryptor() if forward else cipher.decryptor()).update(data)


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return number.to_bytes(len(left), "little")
