"""Crypto capabilities: modes, data unit sizes, DUN bytes and types of keys a device does natively.

Intersection is how a mapped device gets its own from those below; covers is the order that goes
with it: a.covers(b) exactly when a & b == b. An empty mask is dropped, and a device without any
mode or type of key has nothing at all, so that equal capabilities compare equal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fusedm.block.crypt_ctx import (
    MAX_DATA_UNIT_SIZE,
    MIN_DATA_UNIT_SIZE,
    MODES,
    CryptoConfig,
    KeyType,
    check_data_unit_size,
)
from fusedm.block.errors import CryptoError

#: Every data unit size at once: bit value equals the size in bytes.
ALL_DATA_UNIT_SIZES = 2 * MAX_DATA_UNIT_SIZE - MIN_DATA_UNIT_SIZE

RAW_KEYS = frozenset({KeyType.RAW})

#: The kernel's BLK_CRYPTO_MAX_IV_SIZE: hardware may do more than any mode here needs.
MAX_DUN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Supported data unit sizes of each mode, as a mask whose bit values are the sizes in bytes.

    Source: struct blk_crypto_profile (modes_supported, max_dun_bytes_supported,
            key_types_supported).
    """

    modes: Mapping[str, int] = field(default_factory=dict)
    max_dun_bytes: int = 0
    key_types: frozenset[KeyType] = RAW_KEYS

    def __post_init__(self) -> None:
        modes = {name: mask for name, mask in sorted(self.modes.items()) if mask}
        if not self.key_types:
            modes = {}
        object.__setattr__(self, "modes", MappingProxyType(modes))
        object.__setattr__(self, "max_dun_bytes", self.max_dun_bytes if modes else 0)
        object.__setattr__(self, "key_types", self.key_types if modes else frozenset())

    @classmethod
    def of(
        cls,
        modes: Mapping[str, Iterable[int]],
        max_dun_bytes: int,
        key_types: Iterable[KeyType] = RAW_KEYS,
    ) -> "Capabilities":
        """Capabilities from lists of data unit sizes.

        Raises: CryptoError(EINVAL) for an unknown mode, a bad size or DUN bytes outside 1..32.
        """
        masks = {}
        for name, sizes in modes.items():
            if name not in MODES:
                raise CryptoError(f"mode {name!r} is unknown: the modes are {', '.join(MODES)}")
            masks[name] = 0
            for size in sizes:
                check_data_unit_size(size)
                masks[name] |= size
        if not 1 <= max_dun_bytes <= MAX_DUN_BYTES:
            raise CryptoError(f"max_dun_bytes {max_dun_bytes} is not in 1..{MAX_DUN_BYTES}")
        return cls(masks, max_dun_bytes, frozenset(key_types))

    def supports(self, config: CryptoConfig) -> bool:
        """Whether a key of this config can be used natively."""
        return (
            bool(self.modes.get(config.mode, 0) & config.data_unit_size)
            and config.dun_bytes <= self.max_dun_bytes
            and config.key_type in self.key_types
        )

    def intersect(self, other: "Capabilities") -> "Capabilities":
        """What both can do."""
        return Capabilities(
            {name: mask & other.modes.get(name, 0) for name, mask in self.modes.items()},
            min(self.max_dun_bytes, other.max_dun_bytes),
            self.key_types & other.key_types,
        )

    def covers(self, other: "Capabilities") -> bool:
        """Whether everything other can do can be done here."""
        return self.intersect(other) == other

    def without_data_unit_sizes(self, mask: int) -> "Capabilities":
        """The same without the data unit sizes of a mask."""
        return Capabilities(
            {name: own & ~mask for name, own in self.modes.items()},
            self.max_dun_bytes,
            self.key_types,
        )

    def __bool__(self) -> bool:
        return bool(self.modes)


NO_CAPABILITIES = Capabilities()
ALL_CAPABILITIES = Capabilities(
    dict.fromkeys(MODES, ALL_DATA_UNIT_SIZES), MAX_DUN_BYTES, frozenset(KeyType)
)


def data_unit_sizes(mask: int) -> list[int]:
    """The sizes in a mask, smallest first."""
    return [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
