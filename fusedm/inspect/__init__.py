"""Looking into a running system: why it does what it does, and whether that is right."""

from fusedm.inspect.why import loses, parse_config, swap, why

__all__ = ["loses", "parse_config", "swap", "why"]
