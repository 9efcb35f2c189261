"""Encryption words: modes, configs, keys and contexts, and the arithmetic of data unit numbers.

A data unit is encrypted on its own under an IV made from its data unit number (DUN). Hence a
context is a key and the DUN of the first unit of a bio; the DUN of the unit k units further on is
dun + k. Advancing moves by whole data units only: the kernel drops a remainder silently, here it
is a bug and asserted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fusedm.block.errors import CryptoError
from fusedm.block.units import is_power_of_two

MIN_DATA_UNIT_SIZE = 512
MAX_DATA_UNIT_SIZE = 65536


@dataclass(frozen=True, slots=True)
class CryptoMode:
    """One row of the table of modes: sizes in bytes; the name is the kernel's sysfs name.

    Source: blk_crypto_modes in the kernel's block/blk-crypto.c.
    """

    name: str
    key_size: int
    iv_size: int


#: A further mode is one row here and one cipher in crypto/ciphers.py.
MODES: Mapping[str, CryptoMode] = MappingProxyType(
    {
        mode.name: mode
        for mode in (
            CryptoMode("AES-256-XTS", key_size=64, iv_size=16),
            CryptoMode("AES-128-CBC-ESSIV", key_size=16, iv_size=16),
            CryptoMode("Adiantum", key_size=32, iv_size=32),
            CryptoMode("SM4-XTS", key_size=32, iv_size=16),
        )
    }
)


@dataclass(frozen=True, slots=True)
class CryptoConfig:
    """What a key is for, without its bytes: mode, data unit size and how many DUN bytes are used.

    Raises: CryptoError(EINVAL) naming the argument.
    """

    mode: str
    data_unit_size: int
    dun_bytes: int

    def __post_init__(self) -> None:
        mode = MODES.get(self.mode)
        if mode is None:
            raise CryptoError(f"mode {self.mode!r} is unknown: the modes are {', '.join(MODES)}")
        if not 0 < self.dun_bytes <= mode.iv_size:
            raise CryptoError(
                f"dun_bytes {self.dun_bytes} is not in 1..{mode.iv_size} (IV size of {self.mode})"
            )
        check_data_unit_size(self.data_unit_size)

    @property
    def key_size(self) -> int:
        """Bytes of a raw key of this mode."""
        return MODES[self.mode].key_size

    def __str__(self) -> str:
        return f"{self.mode}/{self.data_unit_size}"


def check_data_unit_size(size: int) -> None:
    """Refuse a data unit size that is no power of two in 512..65536.

    Raises: CryptoError(EINVAL).
    """
    if not is_power_of_two(size) or not MIN_DATA_UNIT_SIZE <= size <= MAX_DATA_UNIT_SIZE:
        raise CryptoError(
            f"data_unit_size {size} is not a power of two in "
            f"{MIN_DATA_UNIT_SIZE}..{MAX_DATA_UNIT_SIZE}"
        )


class CryptoKey:
    """A config and the raw bytes of one key.

    Identity matters, as in the kernel: two keys with equal bytes are different keys for keyslots
    and eviction. The name, which is all that is ever printed, is the user's.
    Owns: its own copy of the bytes, until wipe().
    """

    __slots__ = ("_raw", "config", "name")

    def __init__(self, name: str, config: CryptoConfig, raw: bytes | bytearray) -> None:
        if len(raw) != config.key_size:
            raise CryptoError(
                f"key {name!r}: {len(raw)} bytes given, {config.mode} needs {config.key_size}"
            )
        self.name = name
        self.config = config
        self._raw = bytearray(raw)

    @property
    def raw(self) -> memoryview:
        """The key bytes, read-only, for ciphers only."""
        return memoryview(self._raw).toreadonly()

    def wipe(self) -> None:
        """Overwrite the bytes; the key is of no use afterwards."""
        self._raw[:] = bytes(len(self._raw))

    def __repr__(self) -> str:
        return f"CryptoKey({self.name!r}, {self.config})"


@dataclass(frozen=True, slots=True)
class CryptContext:
    """The key of a bio and the DUN of its first data unit.

    With zeros_are_holes a data unit of zeros on the medium is not decrypted but reads as zeros. No
    ciphertext looks like that (once in 2**4096 units), so what was given up or never written is
    told from data without a map, whatever the key. Without, as in the kernel, it reads as noise.
    """

    key: CryptoKey
    dun: int
    zeros_are_holes: bool = False

    def advance(self, length_bytes: int) -> "CryptContext":
        """The context of what follows length_bytes further on.

        Units: bytes; a whole number of data units.
        Source: bio_crypt_advance; a DUN that outgrows its bytes is refused by submit_bio.
        """
        size = self.key.config.data_unit_size
        assert length_bytes % size == 0, f"{length_bytes} is not a multiple of {size}"
        return CryptContext(self.key, self.dun + length_bytes // size, self.zeros_are_holes)

    def is_followed_by(self, length_bytes: int, other: "CryptContext | None") -> bool:
        """Whether other continues this context after length_bytes: next DUN, all else the same."""
        return (
            other is not None
            and other.key is self.key
            and other.zeros_are_holes is self.zeros_are_holes
            and length_bytes % self.key.config.data_unit_size == 0
            and other.dun == self.dun + length_bytes // self.key.config.data_unit_size
        )


def dun_limit(config: CryptoConfig) -> int:
    """The first DUN that no longer fits the config's DUN bytes."""
    return 1 << (8 * config.dun_bytes)


def check_dun_range(context: CryptContext, length_bytes: int) -> str | None:
    """What is wrong with the DUNs of length_bytes under a context; None if nothing is."""
    config = context.key.config
    last = context.dun + max(length_bytes // config.data_unit_size, 1) - 1
    if context.dun < 0 or last >= dun_limit(config):
        return f"data unit numbers {context.dun}..{last} do not fit {config.dun_bytes} DUN bytes"
    return None
