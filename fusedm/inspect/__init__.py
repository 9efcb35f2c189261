"""Looking into a running system: why it does what it does, and whether that is right."""

from fusedm.inspect.explain import FAILS, check_range, explain
from fusedm.inspect.why import loses, parse_config, swap, why

__all__ = ["FAILS", "check_range", "explain", "loses", "parse_config", "swap", "why"]
