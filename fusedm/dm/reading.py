"""From the text of a table to a table, keys that it names in keyrings included."""

from collections.abc import Callable, Iterable

from fusedm.dm.arguments import KeyRing, Lookup
from fusedm.dm.key_rings import read_keys, wipe_keys
from fusedm.dm.table import Table, key_references, make_table
from fusedm.tables import read_lines


def read_table(
    text: str,
    lookup: Lookup,
    clock: Callable[[], float],
    is_checked: bool = True,
    read_keys: Callable[[Iterable[str]], KeyRing] = read_keys,
    read_only: bool | None = None,
) -> Table:
    """parse_table, with the keys read before that the text names; by read_keys, given their words.

    read_only: whether it is loaded so, None if that is not known.

    Raises: TableError.
    """
    lines = read_lines(text, is_checked, read_only)
    ring = read_keys(key_references(lines))
    try:
        return make_table(lines, lookup, clock, is_checked, ring)
    finally:
        wipe_keys(ring)
