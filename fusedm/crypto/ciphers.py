"""Ciphers: in software on `cryptography`, which is imported here only, and the engine's.

A cipher here is a key made ready. A further mode is one row in the table below and one in block's
MODES. What a mode does with its block cipher is in a module of its own: xts, essiv, adiantum.
"""

import errno
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import (
    BlockCipherAlgorithm,
    CipherContext,
    algorithms,
    modes,
)
from cryptography.hazmat.primitives.ciphers import Cipher as _Cipher

from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.block.plan import Cipher
from fusedm.crypto.adiantum import Adiantum
from fusedm.crypto.blocks import BLOCK_BYTES, Blocks
from fusedm.crypto.data_units import split_at_data_units
from fusedm.crypto.essiv import CbcEssiv
from fusedm.crypto.evp import EVP_MODES, EvpCipher
from fusedm.crypto.xts import Xts

#: From this data unit size on, and up to this many data units, the library's own XTS with a call
#: for each data unit is not slower than the arithmetic on arrays of crypto/xts.py.
_LARGE_UNIT = 4096
_FEW_UNITS = 24


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


class AesXts:
    """AES-256 in XTS mode: small data units all at once if they are many, else one by one."""

    def __init__(self, key: CryptoKey) -> None:
        self._config = key.config
        self._batched = _xts(key, algorithms.AES)
        self._aes = algorithms.AES(bytes(key.raw))
        size = key.config.data_unit_size
        self._few_bytes = _FEW_UNITS * size if size < _LARGE_UNIT else sys.maxsize

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each data unit of src into dst."""
        if len(src) > self._few_bytes:
            self._batched.encrypt(dun, src, dst)
            return
        for iv, unit in split_at_data_units(self._config, dun, len(src)):
            _Cipher(self._aes, modes.XTS(iv)).encryptor().update_into(src[unit], dst[unit])

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each data unit of src into dst."""
        if len(src) > self._few_bytes:
            self._batched.decrypt(dun, src, dst)
            return
        for iv, unit in split_at_data_units(self._config, dun, len(src)):
            _Cipher(self._aes, modes.XTS(iv)).decryptor().update_into(src[unit], dst[unit])


def _sm4_xts(key: CryptoKey) -> Cipher:
    """SM4 in XTS mode, with the tweaks of IEEE 1619 as the kernel's xts(sm4) has them."""
    return _xts(key, algorithms.SM4)


def _xts(key: CryptoKey, algorithm: Callable[[bytes], BlockCipherAlgorithm]) -> Xts:
    """XTS over a block cipher; the key's second half is that of the tweaks.

    Source: IEEE 1619.
    """
    half = len(key.raw) // 2
    first, second = bytes(key.raw[:half]), bytes(key.raw[half:])
    return Xts(key.config, _EcbBlocks(algorithm(first)), _EcbBlocks(algorithm(second)))


def _aes_cbc_essiv(key: CryptoKey) -> Cipher:
    """AES-128 in CBC mode; the IVs are encrypted by AES-256 under the SHA-256 of the key."""
    aes = algorithms.AES(bytes(key.raw))
    chain = _Cipher(aes, modes.CBC(bytes(BLOCK_BYTES)))
    iv_cipher = _EcbBlocks(algorithms.AES(sha256(key.raw).digest()))
    return CbcEssiv(key.config, _EcbBlocks(aes), iv_cipher, chain.encryptor)


def _adiantum(key: CryptoKey) -> Cipher:
    """Adiantum with XChaCha12 and AES-256."""
    return Adiantum(key.config, key.raw, lambda raw: _EcbBlocks(algorithms.AES(bytes(raw))))


#: Data units of each mode transformed on the spot in software; more go to a worker thread. A hop
#: to a thread and back costs about 100 microseconds, a unit of AES 11: 32 units keep the stack busy
#: for 0.4 ms. A call for the others costs as much before its first byte.
UNITS_ON_THE_SPOT: Mapping[str, int] = {
    "AES-256-XTS": 32,
    "AES-128-CBC-ESSIV": 32,
    "Adiantum": 0,
    "SM4-XTS": 1,
}

#: Made from a key, or refusing it with CryptoError.
CIPHERS: Mapping[str, Callable[[CryptoKey], Cipher]] = {
    "AES-256-XTS": AesXts,
    "AES-128-CBC-ESSIV": _aes_cbc_essiv,
    "Adiantum": _adiantum,
    "SM4-XTS": _sm4_xts,
}


def make_cipher(key: CryptoKey) -> Cipher:
    """A key made ready for use.

    Raises: CryptoError(EINVAL) for a key the mode refuses, ENOPKG for a mode the library lacks.
    """
    check_key(key)
    try:
        return CIPHERS[key.config.mode](key)
    except UnsupportedAlgorithm:
        text = "cannot be done here: OpenSSL was built without its block cipher"
        raise CryptoError(f"key {key.name!r}: {key.config.mode} {text}", errno.ENOPKG) from None


def check_key(key: CryptoKey) -> None:
    """Refuse a key that gives itself away.

    Raises: CryptoError(EINVAL) for an XTS key whose halves are equal.
    Source: the kernel's fallback forbids equal halves (CRYPTO_TFM_REQ_FORBID_WEAK_KEYS).
    """
    half = len(key.raw) // 2
    if key.config.mode.endswith("-XTS") and key.raw[:half] == key.raw[half:]:
        raise CryptoError(
            f"key {key.name!r}: the two halves of an XTS key are equal, which gives its tweak "
            f"away; use {2 * half} random bytes"
        )


@dataclass(frozen=True, slots=True)
class CipherKind:
    """Whose ciphers: an engine's are compiled where there are such, which is much faster."""

    compiled: bool

    def make(self, key: CryptoKey) -> Cipher:
        """A key made ready for use.

        Raises: CryptoError as make_cipher.
        """
        if self._is_compiled(key):
            check_key(key)
            return EvpCipher(key.config.mode, key.raw, key.config.data_unit_size)
        return make_cipher(key)

    def is_slow(self, key: CryptoKey, length_bytes: int) -> bool:
        """Whether transforming so much belongs in a worker thread."""
        largest = UNITS_ON_THE_SPOT[key.config.mode] * key.config.data_unit_size
        return length_bytes > largest and not self._is_compiled(key)

    def _is_compiled(self, key: CryptoKey) -> bool:
        return self.compiled and key.config.mode in EVP_MODES


SOFTWARE = CipherKind(compiled=False)
ENGINE = CipherKind(compiled=True)
