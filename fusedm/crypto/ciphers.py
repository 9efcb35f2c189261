"""Software ciphers, on `cryptography`: the only place where it is imported.

A cipher here is a key made ready. A further mode is one class here and one row in block's MODES.
"""

from collections.abc import Mapping
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher as _Cipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.block.plan import Cipher
from fusedm.crypto.data_units import split_at_data_units


class CipherMaker(Protocol):
    """A cipher class: made from a key, or refusing it with CryptoError."""

    def __call__(self, key: CryptoKey) -> Cipher: ...


class AesXts:
    """AES-256 in XTS mode, one data unit at a time, as a context cannot be used for a second unit.

    Raises: CryptoError(EINVAL) for a key whose halves are equal.
    Source: IEEE 1619; the kernel's fallback forbids equal halves (CRYPTO_TFM_REQ_FORBID_WEAK_KEYS).
    """

    def __init__(self, key: CryptoKey) -> None:
        half = len(key.raw) // 2
        if key.raw[:half] == key.raw[half:]:
            raise CryptoError(
                f"key {key.name!r}: the two halves of an XTS key are equal, which gives its tweak "
                f"away; use {2 * half} random bytes"
            )
        self._config = key.config
        self._aes = algorithms.AES(bytes(key.raw))

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each data unit of src into dst."""
        for iv, unit in split_at_data_units(self._config, dun, len(src)):
            _Cipher(self._aes, modes.XTS(iv)).encryptor().update_into(src[unit], dst[unit])

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each data unit of src into dst."""
        for iv, unit in split_at_data_units(self._config, dun, len(src)):
            _Cipher(self._aes, modes.XTS(iv)).decryptor().update_into(src[unit], dst[unit])


CIPHERS: Mapping[str, CipherMaker] = {"AES-256-XTS": AesXts}


def make_cipher(key: CryptoKey) -> Cipher:
    """A key made ready for use.

    Raises: CryptoError(EINVAL) for a key the mode refuses.
    """
    return CIPHERS[key.config.mode](key)
