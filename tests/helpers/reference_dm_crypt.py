"""dm-crypt's ciphers written from their definitions over single AES blocks: a second opinion.

It shares no code with fusedm: slow and obvious.  Source: drivers/md/dm-crypt.c of the kernel.
"""

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.helpers import reference_adiantum

BLOCK = 16
WRAP = 1 << 64


def encrypt(
    cipher: str, key: bytes, sector: int, data: bytes, size: int = 512, large: bool = False
) -> bytes:
    """Data of whole sectors of a size; sector is the number of the first one, in 512 bytes.

    cipher is in the old form, name[:keys]-chain-iv[:digest]; large is iv_large_sectors.
    """
    return _sectors(cipher, key, sector, data, size, large, True)


def decrypt(
    cipher: str, key: bytes, sector: int, data: bytes, size: int = 512, large: bool = False
) -> bytes:
    """The inverse of encrypt."""
    return _sectors(cipher, key, sector, data, size, large, False)


def _sectors(
    cipher: str, key: bytes, sector: int, data: bytes, size: int, large: bool, forward: bool
) -> bytes:
    names, chain, ending = (*cipher.split("-", 2), "")[:3]
    key_count = int(names.partition(":")[2] or "1")
    each = len(key) // key_count
    result = b""
    for at in range(0, len(data), size):
        number = (sector + at // 512) % WRAP
        index = number % key_count
        own = key[index * each : (index + 1) * each]
        iv = iv_of(chain, ending, key[:each], own, number // (size // 512 if large else 1), size)
        unit = data[at : at + size]
        if chain == "adiantum":
            rounds = 12 if names.startswith("xchacha12,aes") else 20
            far = bytes(BLOCK)
            tweak = far + iv if ending in ("plain64be", "benbi") else iv + far
            result += reference_adiantum.one_unit(own, tweak, unit, forward, rounds)
            continue
        result += {"xts": _xts, "cbc": _cbc, "ecb": _ecb_unit}[chain](own, iv, unit, forward)
    return result


def iv_of(chain: str, ending: str, first_key: bytes, key: bytes, number: int, size: int) -> bytes:
    """The IV of one sector."""
    mode, _, digest = ending.partition(":")
    if mode == "plain":
        return (number % (1 << 32)).to_bytes(BLOCK, "little")
    if mode == "plain64":
        return number.to_bytes(BLOCK, "little")
    if mode == "plain64be":
        return number.to_bytes(BLOCK, "big")
    if mode == "benbi":
        return ((number * 32 + 1) % WRAP).to_bytes(BLOCK, "big")
    if mode == "essiv":
        salt = hashlib.new(digest, key).digest()
        return _ecb(salt, number.to_bytes(BLOCK, "little"), True)
    if mode == "eboiv":
        offset = (number * size % WRAP).to_bytes(BLOCK, "little")
        return {"xts": _xts, "cbc": _cbc}[chain](first_key, offset, bytes(BLOCK), True)
    return bytes(BLOCK)


def _xts(key: bytes, iv: bytes, data: bytes, forward: bool) -> bytes:
    half = len(key) // 2
    tweak = int.from_bytes(_ecb(key[half:], iv, True), "little")
    result = b""
    for at in range(0, len(data), BLOCK):
        mask = tweak.to_bytes(BLOCK, "little")
        block = _ecb(key[:half], _xor(data[at : at + BLOCK], mask), forward)
        result += _xor(block, mask)
        tweak = (tweak << 1) % (1 << 128) ^ (0x87 if tweak >> 127 else 0)
    return result


def _cbc(key: bytes, iv: bytes, data: bytes, forward: bool) -> bytes:
    before, result = iv, b""
    for at in range(0, len(data), BLOCK):
        block = data[at : at + BLOCK]
        if forward:
            before = _ecb(key, _xor(block, before), True)
            result += before
        else:
            result += _xor(_ecb(key, block, False), before)
            before = block
    return result


def _ecb_unit(key: bytes, iv: bytes, data: bytes, forward: bool) -> bytes:
    return _ecb(key, data, forward)


def _ecb(key: bytes, data: bytes, forward: bool) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    return (cipher.encryptor() if forward else cipher.decryptor()).update(data)


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))
