"""From the text of a table to a table, keys that it names in keyrings included."""

from collections.abc import Callable, Iterable

from fusedm.dm.key_rings import read_keys, wipe_keys
from fusedm.dm.table import Lookup, Table, key_references, parse_table
from fusedm.dm.target import KeyRing


def read_table(
    text: str,
    lookup: Lookup,
    clock: Callable[[], float],
    is_checked: bool = True,
    read_keys: Callable[[Iterable[str]], KeyRing] = read_keys,
) -> Table:
    """parse_table, with the keys read before that the text names; by read_keys, given their words.

    Raises: TableError.
    """
    ring = read_keys(key_references(text))
    try:
        return parse_table(text, lookup, clock, is_checked, ring)
    finally:
        wipe_keys(ring)
