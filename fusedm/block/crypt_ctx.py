"""Encryption words: modes, configs, keys and contexts, and the arithmetic of data unit numbers.

A data unit is encrypted on its own under an IV made from its data unit number (DUN). Hence a
context is a key and the DUN of the first unit of a bio; the DUN of the unit k units further on is
dun + k. Advancing moves by whole data units only: the kernel drops a remainder silently, here it
is a bug and asserted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from fusedm.block.errors import CryptoError
from fusedm.block.units import is_power_of_two
from fusedm.block.value import value

MIN_DATA_UNIT_SIZE = 512
MAX_DATA_UNIT_SIZE = 65536

#: The kernel's BLK_CRYPTO_MAX_HW_WRAPPED_KEY_SIZE, in bytes.
MAX_WRAPPED_KEY_SIZE = 128


class KeyType(Enum):
    """What the bytes of a key are: the key itself, or a blob that only an engine can unwrap.

    Source: enum blk_crypto_key_type in the kernel's include/linux/blk-crypto.h.
    """

    RAW = "raw"
    HW_WRAPPED = "hw-wrapped"


@dataclass(frozen=True, slots=True)
class CryptoMode:
    """One row of the table of modes: sizes in bytes; the name is the kernel's sysfs name.

    Source: blk_crypto_modes in the kernel's block/blk-crypto.c.
    """

    name: str
    key_size: int
    iv_size: int

    @property
    def security_strength(self) -> int:
        """Bytes; half of an XTS key is for its tweak."""
        return self.key_size // 2 if self.name.endswith("-XTS") else self.key_size


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
    key_type: KeyType = KeyType.RAW

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

    @property
    def is_wrapped(self) -> bool:
        """Whether the key's bytes are for an engine only."""
        return self.key_type is KeyType.HW_WRAPPED

    @property
    def as_raw(self) -> "CryptoConfig":
        """The config of the raw key that data are encrypted with."""
        return replace(self, key_type=KeyType.RAW)

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


def check_key_size(name: str, config: CryptoConfig, size: int) -> None:
    """Refuse bytes that cannot be a key of a config.

    Raises: CryptoError(EINVAL) with both numbers.
    Source: blk_crypto_init_key.
    """
    if config.is_wrapped:
        least = MODES[config.mode].security_strength
        if not least <= size <= MAX_WRAPPED_KEY_SIZE:
            raise CryptoError(
                f"key {name!r}: {size} bytes given, a hardware-wrapped key for {config.mode} has "
                f"{least}..{MAX_WRAPPED_KEY_SIZE}"
            )
    elif size != config.key_size:
        raise CryptoError(
            f"key {name!r}: {size} bytes given, {config.mode} needs {config.key_size}"
        )


class CryptoKey:
    """A config and the bytes of one key: raw, or wrapped for an engine.

    Identity matters, as in the kernel: two keys with equal bytes are different keys for keyslots
    and eviction. The name, which is all that is ever printed, is the user's.
    Owns: its own copy of the bytes, until wipe().
    """

    __slots__ = ("_raw", "config", "name")

    def __init__(
        self, name: str, config: CryptoConfig, raw: bytes | bytearray | memoryview
    ) -> None:
        check_key_size(name, config, len(raw))
        self.name = name
        self.config = config
        self._raw = bytearray(raw)

    @property
    def raw(self) -> memoryview:
        """The key bytes, read-only, for ciphers and engines only."""
        return memoryview(self._raw).toreadonly()

    def wipe(self) -> None:
        """Overwrite the bytes; the key is of no use afterwards."""
        self._raw[:] = bytes(len(self._raw))

    def __repr__(self) -> str:
        return f"CryptoKey({self.name!r}, {self.config})"


@value
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
