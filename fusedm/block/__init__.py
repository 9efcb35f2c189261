"""The words of the house: bios, contexts, capabilities, limits, plans. All of it is pure."""

from fusedm.block import crypt_ctx, errors, plan, units
from fusedm.block.bio import FLUSH, NO_DATA, Bio, Op
from fusedm.block.capabilities import ALL_CAPABILITIES, NO_CAPABILITIES, Capabilities
from fusedm.block.crypt_ctx import MODES, CryptContext, CryptoConfig, CryptoKey, KeyType
from fusedm.block.device import BlockDevice, KeyHolder
from fusedm.block.limits import Limits
from fusedm.block.range_locks import RangeLocks
from fusedm.block.span import Generation, Span
from fusedm.block.stats import CryptoCounts, IoStats

__all__ = [
    "ALL_CAPABILITIES",
    "FLUSH",
    "MODES",
    "NO_CAPABILITIES",
    "NO_DATA",
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
    "Limits",
    "Op",
    "RangeLocks",
    "Span",
    "crypt_ctx",
    "errors",
    "plan",
    "units",
]
