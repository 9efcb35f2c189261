"""Hardware-wrapped keys, in software: what a key manager in hardware does with secrets of its own.

    raw key --import_key--> long-term blob --prepare_key--> ephemeral blob --+--> inline key
             generate_key ------^                                            +--> software secret

A long-term blob may be kept: only this manager's long-term secret opens it. A prepared one is what
keys of type hw-wrapped hold; the secret that opens it is made when the manager is, so it is of no
use after a restart. Neither gives the key away, and the software secret says nothing of the inline
key, since both are derived from the wrapped key, each under a label of its own.

The construction is the one the kernel recommends, with AES-256-GCM around keys and AES-256-CMAC in
counter mode for derivation. It resembles hardware and equals none: labels, blobs and the first step
of derivation are ours, so what a vendor's hardware wrapped or encrypted cannot be read with it.

Source: Documentation/block/inline-encryption.rst ("Hardware-wrapped keys"); NIST SP 800-108.
"""

import errno
import os
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from fusedm.block.crypt_ctx import MAX_WRAPPED_KEY_SIZE, CryptoKey
from fusedm.block.errors import CryptoError

#: Bytes of a raw key that can be imported (the kernel's ioctl has the same bounds).
MIN_IMPORT_SIZE = 16
MAX_IMPORT_SIZE = 64

#: Bytes of a key made here: as strong as the strongest mode.
GENERATED_SIZE = 32

#: Bytes of a manager's own secrets, keys of AES-256.
SECRET_SIZE = 32

#: The kernel's BLK_CRYPTO_SW_SECRET_SIZE, in bytes.
SOFTWARE_SECRET_SIZE = 32

_NONCE_SIZE = 12
_TAG_SIZE = 16
_LONG_TERM = b"fusedm long-term wrapped key, version 1"
_EPHEMERAL = b"fusedm ephemerally wrapped key, version 1"


class KeyManager:
    """What wraps, unwraps and derives keys for the engines that share it.

    The long-term secret is given, or load_secret gives it when it is needed first, and makes it if
    told to; else it is of chance.
    Owns: both secrets, until wipe().
    """

    def __init__(
        self,
        secret: bytearray | None = None,
        load_secret: Callable[[bool], bytearray | None] | None = None,
    ) -> None:
        self._load_secret = load_secret or _new_secret
        self._long_term = secret
        self._ephemeral = _new_secret()

    def import_key(self, raw: bytes | bytearray) -> bytes:
        """A raw key as a long-term blob.

        Raises: CryptoError(EINVAL) for a size outside 16..64; whatever load_secret raises.
        """
        if not MIN_IMPORT_SIZE <= len(raw) <= MAX_IMPORT_SIZE:
            raise CryptoError(
                f"a raw key to be wrapped has {MIN_IMPORT_SIZE}..{MAX_IMPORT_SIZE} bytes, "
                f"{len(raw)} given"
            )
        secret = self._long_term_secret(make=True)
        assert secret is not None, "it is made if there is none"
        return _wrap(secret, raw, _LONG_TERM)

    def generate_key(self) -> bytes:
        """A new key that nobody has seen, as a long-term blob."""
        raw = bytearray(os.urandom(GENERATED_SIZE))
        try:
            return self.import_key(raw)
        finally:
            raw[:] = bytearray(len(raw))

    def prepare_key(self, long_term: bytes | bytearray) -> bytes:
        """A long-term blob as an ephemeral one, for use until the manager ends.

        Raises: CryptoError: EINVAL for more than 128 bytes, EBADMSG for what this manager has not
                wrapped.
        """
        if len(long_term) > MAX_WRAPPED_KEY_SIZE:
            raise CryptoError(
                f"a wrapped key has at most {MAX_WRAPPED_KEY_SIZE} bytes, {len(long_term)} given"
            )
        # Without a secret nothing was ever wrapped, and a refusal must not make one.
        secret = self._long_term_secret(make=False)
        raw = _unwrap(secret, long_term, _LONG_TERM, "long-term")
        return _wrap(self._ephemeral, raw, _EPHEMERAL)

    def software_secret(self, ephemeral: bytes | bytearray | memoryview) -> bytes:
        """The 32 bytes that software may have of a prepared key, for what it encrypts by itself.

        Raises: CryptoError(EBADMSG) for what this manager has not prepared.
        """
        raw = _unwrap(self._ephemeral, ephemeral, _EPHEMERAL, "prepared")
        return _derive(raw, b"software secret", b"", SOFTWARE_SECRET_SIZE)

    def inline_key(self, key: CryptoKey) -> CryptoKey:
        """The raw key that data are encrypted with under a prepared one; the caller's to wipe.

        Raises: CryptoError(EBADMSG) for what this manager has not prepared.
        """
        config = key.config.as_raw
        raw = _unwrap(self._ephemeral, key.raw, _EPHEMERAL, "prepared", f"key {key.name!r}: ")
        derived = _derive(raw, b"inline encryption key", config.mode.encode(), config.key_size)
        return CryptoKey(key.name, config, derived)

    def wipe(self) -> None:
        """Overwrite the secrets: nothing can be unwrapped any more."""
        self._long_term = self._long_term or bytearray(SECRET_SIZE)
        for secret in (self._long_term, self._ephemeral):
            secret[:] = bytearray(len(secret))

    def _long_term_secret(self, make: bool) -> bytearray | None:
        if self._long_term is None:
            self._long_term = self._load_secret(make)
        return self._long_term


def _new_secret(_make: bool = True) -> bytearray:
    return bytearray(os.urandom(SECRET_SIZE))


def _wrap(secret: bytearray, raw: bytes | bytearray, purpose: bytes) -> bytes:
    nonce = os.urandom(_NONCE_SIZE)
    return nonce + AESGCM(secret).encrypt(nonce, raw, purpose)


def _unwrap(
    secret: bytearray | None,
    blob: bytes | bytearray | memoryview,
    purpose: bytes,
    what: str,
    whose: str = "",
) -> bytes:
    try:
        if secret is None or len(blob) < _NONCE_SIZE + _TAG_SIZE + MIN_IMPORT_SIZE:
            raise InvalidTag
        return AESGCM(secret).decrypt(blob[:_NONCE_SIZE], blob[_NONCE_SIZE:], purpose)
    except InvalidTag:
        text = f"{whose}not a {what} key of this engine: corrupt, of another engine, or too old"
        raise CryptoError(text, errno.EBADMSG) from None


def _derive(raw: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Bytes that follow from a key, a label and a context, and say nothing of each other."""
    # The cipher of the next step takes 32 bytes, a raw key has 16 to 64.
    seed = HKDF(SHA256(), SECRET_SIZE, salt=None, info=b"fusedm wrapped key").derive(raw)
    kdf = KBKDFCMAC(
        AES, Mode.CounterMode, size, 4, 4, CounterLocation.BeforeFixed, label, context, None
    )
    return kdf.derive(seed)
