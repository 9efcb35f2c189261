"""Key slots of LUKS headers opened here, for those whose cipher cryptsetup cannot do.

A slot holds the key blown up to many stripes, all of which are needed to put it together again
(the anti-forensic splitter), encrypted under a key derived from the passphrase.

Source: the LUKS1 on-disk format 1.2.3, sections 2.4 and 4; the LUKS2 on-disk format 1.1, section 3.
"""

import errno
import hashlib
from dataclasses import dataclass, field

from fusedm.block.errors import CryptoError
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto.cipher_spec import parse_cipher_spec
from fusedm.crypto.ciphers import make_sector_cipher


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a key is made of a secret: pbkdf2, argon2i or argon2id; memory in KiB."""

    kind: str
    salt: bytes
    iterations: int
    digest: str = ""
    memory: int = 0
    lanes: int = 0


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One slot, and how its key is told from another one.

    Units: sizes and offset in bytes; stripes are so many of key_size.
    """

    number: int
    cipher: str
    offset: int
    key_size: int
    area_key_size: int
    stripes: int
    splitter: str
    derivation: Derivation
    check: Derivation
    checked: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Of what is encrypted, in whole sectors."""
        return -(-self.key_size * self.stripes // SECTOR_SIZE) * SECTOR_SIZE


def open_key_slot(
    slot: KeySlot, material: bytearray, passphrase: bytes | bytearray
) -> bytearray | None:
    """The key in a slot, None if the passphrase is not its; material is overwritten.

    Raises: CryptoError: ENOENT for a cipher, digest or derivation that is not known here.
    """
    area_key = bytearray(derive(slot.derivation, passphrase, slot.area_key_size))
    try:
        cipher = make_sector_cipher(
            parse_cipher_spec(slot.cipher), memoryview(area_key), SECTOR_SIZE, counts_large=False
        )
        data = memoryview(material)
        cipher.decrypt(0, data, data)
        key = _merge(material, slot)
        if derive(slot.check, key, len(slot.checked)) == slot.checked:
            return key
        key[:] = bytearray(len(key))
        return None
    finally:
        area_key[:] = bytearray(len(area_key))
        material[:] = bytearray(len(material))


def derive(how: Derivation, secret: bytes | bytearray, length: int) -> bytes:
    """A key of a length.

    Raises: CryptoError: ENOENT for what is not known here.
    """
    if how.kind == "pbkdf2":
        _check_digest(how.digest)
        return hashlib.pbkdf2_hmac(how.digest, secret, how.salt, how.iterations, length)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf import argon2

    if how.kind not in ("argon2i", "argon2id"):
        raise CryptoError(f"key derivation {how.kind!r} is not known here", errno.ENOENT)
    kind = argon2.Argon2i if how.kind == "argon2i" else argon2.Argon2id
    try:
        made: bytes = kind(
            salt=how.salt,
            length=length,
            iterations=how.iterations,
            lanes=how.lanes,
            memory_cost=how.memory,
        ).derive(bytes(secret))
        return made
    except UnsupportedAlgorithm:
        text = f"key derivation {how.kind} cannot be done here: OpenSSL was built without it"
        raise CryptoError(text, errno.ENOENT) from None


def _check_digest(name: str) -> None:
    if name not in hashlib.algorithms_available:
        raise CryptoError(f"digest {name!r} is not known here", errno.ENOENT)


def _merge(stripes: bytearray, slot: KeySlot) -> bytearray:
    """The key that stripes were made of: all xored, and mixed after each but the last."""
    _check_digest(slot.splitter)
    size = slot.key_size
    mixed = bytearray(size)
    for index in range(slot.stripes):
        stripe = int.from_bytes(stripes[index * size : (index + 1) * size])
        mixed = bytearray((int.from_bytes(mixed) ^ stripe).to_bytes(size))
        if index < slot.stripes - 1:
            mixed = _diffused(mixed, slot.splitter)
    return mixed


def _diffused(key: bytearray, digest: str) -> bytearray:
    """Each piece of the length of a digest replaced by that of its number and itself."""
    size = hashlib.new(digest).digest_size
    result = bytearray()
    for number, begin in enumerate(range(0, len(key), size)):
        piece = key[begin : begin + size]
        made = hashlib.new(digest, number.to_bytes(4, "big") + piece).digest()
        result += made[: len(piece)]
    return result
