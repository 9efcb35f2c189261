"""Ciphers: in software on `cryptography`, and the engine's.

A cipher here is a key made ready. A further mode is one row in the table below, one in array_modes
and one in block's MODES. What a mode does with its block cipher is in a module of its own: xts,
essiv, adiantum.
"""

import errno
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher as _Cipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes

from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.block.plan import Cipher, SectorCipher
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto.cipher_spec import CipherSpec
from fusedm.crypto.data_units import runs_of_data, split_at_data_units
from fusedm.crypto.evp import EVP_MODES, EvpCipher

#: From this data unit size on, and up to this many data units, the library's own XTS with a call
#: for each data unit is not slower than the arithmetic on arrays of crypto/xts.py.
_LARGE_UNIT = 4096
_FEW_UNITS = 24


class AesXts:
    """AES-256 in XTS mode: small data units all at once if they are many, else one by one."""

    def __init__(self, key: CryptoKey) -> None:
        # A copy, since a cipher may outlive its key.
        self._key = CryptoKey(key.name, key.config, bytearray(key.raw))
        self._config = key.config
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

    @cached_property
    def _batched(self) -> Cipher:
        return make_of_arrays(self._key)


def make_of_arrays(key: CryptoKey) -> Cipher:
    """A key of any mode, all data units of a call at once; see array_modes.

    Raises: UnsupportedAlgorithm for a mode the library lacks.
    """
    from fusedm.crypto.array_modes import ARRAY_MODES

    return ARRAY_MODES[key.config.mode](key)


#: Numbers of sectors have 64 bits.
_SECTOR_LIMIT = 1 << 64
_PLAIN_XTS = CipherSpec("xts", "plain64")
#: As for the other ciphers on arrays: what takes less than a hop to a worker thread, and a little.
_SECTORS_ON_THE_SPOT = 32

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
    "AES-128-CBC-ESSIV": make_of_arrays,
    "Adiantum": make_of_arrays,
    "SM4-XTS": make_of_arrays,
}


def make_cipher(key: CryptoKey) -> Cipher:
    """A key made ready for use.

    Raises: CryptoError(EINVAL) for a key the mode refuses, ENOPKG for a mode the library lacks.
    """
    check_key(key)
    return make_software(key)


def make_software(key: CryptoKey) -> Cipher:
    """The same whatever the key; only to see whether there is software for its mode.

    Raises: CryptoError(ENOPKG).
    """
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
    if is_weak(key):
        raise CryptoError(
            f"key {key.name!r}: the two halves of an XTS key are equal, which gives its tweak "
            f"away; use {len(key.raw)} random bytes"
        )


def is_weak(key: CryptoKey) -> bool:
    """Whether it is an XTS key of equal halves."""
    half = len(key.raw) // 2
    return key.config.mode.endswith("-XTS") and key.raw[:half] == key.raw[half:]


@dataclass(frozen=True, slots=True)
class CipherKind:
    """Whose ciphers: an engine's are compiled where there are such, which is much faster.

    takes_weak_keys is hardware as it is: it does not look at keys.
    """

    compiled: bool
    takes_weak_keys: bool = False

    def make(self, key: CryptoKey) -> Cipher:
        """A key made ready for use.

        Raises: CryptoError as make_cipher.
        """
        if self.takes_weak_keys and is_weak(key):
            return make_of_arrays(key)  # The library's own XTS refuses it.
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
STRICT_ENGINE = CipherKind(compiled=True, takes_weak_keys=True)


class _PlainXts:
    """aes-xts-plain64 with 64 bytes of key: compiled, but for numbers of sectors that wrap."""

    def __init__(self, raw: memoryview, sector_size: int, counts_large: bool) -> None:
        self._evp = EvpCipher("AES-256-XTS", raw, sector_size)
        self._sector_size = sector_size
        self._shift = (sector_size // SECTOR_SIZE).bit_length() - 1 if counts_large else 0
        self._step = 1 if counts_large else sector_size // SECTOR_SIZE

    def is_slow(self, length_bytes: int) -> bool:
        """Never: it is as fast as copying."""
        return False

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each sector of src into dst."""
        for number, part in self._runs(dun, len(src)):
            self._evp.encrypt(number, src[part], dst[part])

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each sector of src into dst."""
        for number, part in self._runs(dun, len(src)):
            self._evp.decrypt(number, src[part], dst[part])

    def _runs(self, sector: int, length_bytes: int) -> Iterator[tuple[int, slice]]:
        """What one call can do: all, if IVs follow each other, else each sector alone."""
        first = sector % _SECTOR_LIMIT >> self._shift
        count = length_bytes // self._sector_size
        if self._step == 1 and first + count <= _SECTOR_LIMIT >> self._shift:
            yield first, slice(0, length_bytes)
            return
        for index in range(count):
            number = sector + index * self._sector_size // SECTOR_SIZE
            start = index * self._sector_size
            part = slice(start, start + self._sector_size)
            yield number % _SECTOR_LIMIT >> self._shift, part


class _ArraySectors:
    """Any cipher of dm-crypt, on arrays."""

    def __init__(self, cipher: Cipher, most_bytes: int) -> None:
        self.encrypt = cipher.encrypt
        self.decrypt = cipher.decrypt
        self._most = most_bytes

    def is_slow(self, length_bytes: int) -> bool:
        """Whether transforming so much belongs in a worker thread."""
        return length_bytes > self._most


class _KeepsZeros:
    """A cipher to which a sector of zeros on the medium is a hole, and stays one."""

    def __init__(self, cipher: SectorCipher, sector_size: int) -> None:
        self._cipher = cipher
        self._sector_size = sector_size
        self.encrypt = cipher.encrypt
        self.is_slow = cipher.is_slow

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each sector of src into dst, which is src."""
        for run in runs_of_data(src, self._sector_size):
            self._cipher.decrypt(dun + run.start // SECTOR_SIZE, src[run], dst[run])


def make_sector_cipher(
    spec: CipherSpec,
    raw: memoryview,
    sector_size: int,
    counts_large: bool,
    keeps_zeros: bool = False,
) -> SectorCipher:
    """A cipher of dm-crypt and its keys made ready; counts_large has IVs count sectors, not 512s.

    With keeps_zeros a sector of zeros is not decrypted. As for contexts, no ciphertext looks so.
    Raises: CryptoError(EINVAL) for a wrong number of bytes.
    """
    if len(raw) not in spec.key_sizes:
        sizes = ", ".join(map(str, spec.key_sizes))
        raise CryptoError(f"{len(raw)} bytes of key given, the cipher needs {sizes}")
    cipher = _sector_cipher(spec, raw, sector_size, counts_large)
    return _KeepsZeros(cipher, sector_size) if keeps_zeros else cipher


def _sector_cipher(
    spec: CipherSpec, raw: memoryview, sector_size: int, counts_large: bool
) -> SectorCipher:
    half = len(raw) // 2
    if spec == _PLAIN_XTS and len(raw) == 64 and raw[:half] != raw[half:]:
        return _PlainXts(raw, sector_size, counts_large)
    from fusedm.crypto.array_modes import sector_arrays

    # A call of adiantum costs as much before its first byte as a hop to a thread.
    on_the_spot = 0 if spec.rounds else _SECTORS_ON_THE_SPOT * sector_size
    return _ArraySectors(sector_arrays(spec, raw, sector_size, counts_large), on_the_spot)
