"""Looking into a running system: why it does what it does, and whether that is right."""

from fusedm.inspect.explain import FAILS, check_range, explain
from fusedm.inspect.independent import decrypt_unit, knows
from fusedm.inspect.leak import Sectors
from fusedm.inspect.registers import check_keyslots
from fusedm.inspect.reuse import compare_data, dun_ranges, find_overlaps, views_named
from fusedm.inspect.sample import MAX_SAMPLE, sample_duns
from fusedm.inspect.verify import verify_part
from fusedm.inspect.why import loses, parse_config, swap, why

__all__ = [
    "FAILS",
    "MAX_SAMPLE",
    "Sectors",
    "check_keyslots",
    "check_range",
    "compare_data",
    "decrypt_unit",
    "dun_ranges",
    "explain",
    "find_overlaps",
    "knows",
    "loses",
    "parse_config",
    "sample_duns",
    "swap",
    "verify_part",
    "views_named",
    "why",
]
