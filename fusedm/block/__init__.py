"""The words of the house: bios, contexts, capabilities, limits, plans. All of it is pure."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.block import crypt_ctx, errors, plan, units
    from fusedm.block.bio import FLUSH, FUA, NO_DATA, PREFLUSH, Bio, Op
    from fusedm.block.capabilities import ALL_CAPABILITIES, NO_CAPABILITIES, Capabilities
    from fusedm.block.crypt_ctx import MODES, CryptContext, CryptoConfig, CryptoKey, KeyType
    from fusedm.block.device import BlockDevice, KeyHolder
    from fusedm.block.limits import Limits
    from fusedm.block.range_locks import RangeLocks
    from fusedm.block.span import Generation, Leg, Span
    from fusedm.block.stats import CryptoCounts, IoStats

__all__ = [
    "ALL_CAPABILITIES",
    "FLUSH",
    "FUA",
    "MODES",
    "NO_CAPABILITIES",
    "NO_DATA",
    "PREFLUSH",
    "Bio",
    "BlockDevice",
    "Capabilities",
    "CryptContext",
    "CryptoConfig",
    "CryptoCounts",
    "CryptoKey",
    "Generation",
    "IoStats",
    "KeyHolder",
    "KeyType",
    "Leg",
    "Limits",
    "Op",
    "RangeLocks",
    "Span",
    "crypt_ctx",
    "errors",
    "plan",
    "units",
]

__getattr__ = door(
    __name__,
    {
        "bio": "FLUSH FUA NO_DATA PREFLUSH Bio Op",
        "capabilities": "ALL_CAPABILITIES NO_CAPABILITIES Capabilities",
        "crypt_ctx": "MODES CryptContext CryptoConfig CryptoKey KeyType",
        "device": "BlockDevice KeyHolder",
        "limits": "Limits",
        "range_locks": "RangeLocks",
        "span": "Generation Leg Span",
        "stats": "CryptoCounts IoStats",
    },
)
