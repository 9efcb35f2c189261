"""Ready-made engines, named after the hardware they resemble, with its numbers. Pure.

Hardware tells most of its numbers in registers, so of one kind there are several: those here are
common ones, and each can be given anew. A further engine is one entry here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType

from fusedm.block import MODES, Capabilities, KeyType
from fusedm.block.capabilities import ALL_DATA_UNIT_SIZES, MAX_DUN_BYTES, data_unit_sizes
from fusedm.block.errors import CryptoError

#: Engines in hardware have 16 to 64; above this a number is a mistake.
MAX_KEYSLOTS = 1024


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """The numbers of an engine, and what has such; 0 keyslots is hardware without any.

    Units: max_dun_bytes and the data unit sizes of each mode in bytes.
    """

    name: str
    resembles: str
    keyslots: int
    max_dun_bytes: int
    modes: Mapping[str, Sequence[int]]
    key_types: Sequence[KeyType] = (KeyType.RAW,)

    @property
    def capabilities(self) -> Capabilities:
        """What such an engine can do.

        Raises: CryptoError naming the argument and the number.
        """
        return Capabilities.of(self.modes, self.max_dun_bytes, self.key_types)

    def having(
        self,
        keyslots: int | None = None,
        max_dun_bytes: int | None = None,
        modes: Mapping[str, Sequence[int]] | None = None,
        key_types: Sequence[KeyType] | None = None,
    ) -> "EngineProfile":
        """The same with other numbers, as far as they are given.

        Raises: CryptoError naming the argument and the number.
        """
        changed = replace(
            self,
            keyslots=self.keyslots if keyslots is None else keyslots,
            max_dun_bytes=self.max_dun_bytes if max_dun_bytes is None else max_dun_bytes,
            modes=self.modes if modes is None else modes,
            key_types=self.key_types if key_types is None else key_types,
        )
        if not 0 <= changed.keyslots <= MAX_KEYSLOTS:
            raise CryptoError(f"keyslots {changed.keyslots} is not in 0..{MAX_KEYSLOTS}")
        _ = changed.capabilities
        return changed


#: What nothing resembles: every number is to be given.
BARE = EngineProfile("", "", keyslots=0, max_dun_bytes=1, modes={})

_XTS = {"AES-256-XTS": (4096,)}

_ALL = (
    EngineProfile(
        "ufs",
        "a UFS host controller (JESD223): 8 bytes of DUN in each transfer request",
        keyslots=32,
        max_dun_bytes=8,
        modes=_XTS,
    ),
    EngineProfile(
        "emmc",
        "an eMMC controller with a command queue (CQHCI): 4 bytes of DUN in a task descriptor",
        keyslots=16,
        max_dun_bytes=4,
        modes=_XTS,
    ),
    EngineProfile(
        "exynos-fmp",
        "Exynos FMP: no keyslots, key and whole IV come with each request",
        keyslots=0,
        max_dun_bytes=16,
        modes=_XTS,
    ),
    EngineProfile(
        "qti-ice",
        "Qualcomm ICE with a hardware key manager: takes wrapped keys only, never sees raw ones",
        keyslots=32,
        max_dun_bytes=8,
        modes=_XTS,
        key_types=(KeyType.HW_WRAPPED,),
    ),
    EngineProfile(
        "everything",
        "nothing there is: every mode, data unit size and type of key known here",
        keyslots=32,
        max_dun_bytes=MAX_DUN_BYTES,
        modes={mode: data_unit_sizes(ALL_DATA_UNIT_SIZES) for mode in MODES},
        key_types=tuple(KeyType),
    ),
)

ENGINE_PROFILES: Mapping[str, EngineProfile] = MappingProxyType({one.name: one for one in _ALL})


def engine_profile(name: str) -> EngineProfile:
    """The engine of a name.

    Raises: CryptoError(EINVAL) with the names there are.
    """
    if name not in ENGINE_PROFILES:
        close = get_close_matches(name, ENGINE_PROFILES, 1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise CryptoError(
            f"profile {name!r} is no engine{hint}; the engines are {', '.join(ENGINE_PROFILES)}"
        )
    return ENGINE_PROFILES[name]
