"""Verbs that look into a running stack: they change nothing, and no key bytes are in an answer."""

from time import monotonic
from typing import Any

from fusedm.inspect import explain, parse_config, swap, why
from fusedm.stack import Stack

Json = dict[str, Any]


class Looking:
    """The verbs of `why`, `explain` and `verify`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def verb_why(self, name: str, config: str = "") -> Json:
        """What is native on a device or view and what is not, and why; config as MODE/SIZE."""
        return why(self._stack.system, name, parse_config(config) if config else None)

    def verb_why_table(self, name: str, table: str) -> Json:
        """What a mapped device, and those above it, would gain and lose by a table."""
        return swap(self._stack.system, name, table, monotonic)

    def verb_explain(self, name: str, offset: int, length: int, write: bool = False) -> Json:
        """The way of one READ or WRITE through every layer; nothing of it is carried out."""
        stores = {disk.name: disk.store for disk in self._stack.spec().disks.values()}
        return explain(self._stack.system, name, offset, length, write, stores)
