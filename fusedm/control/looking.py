"""Verbs that look into a running stack: they change nothing, and no key bytes are in an answer."""

from time import monotonic
from typing import Any

from fusedm.block.errors import ControlError
from fusedm.inspect import (
    compare_data,
    dun_ranges,
    explain,
    find_overlaps,
    knows,
    parse_config,
    swap,
    verify_part,
    views_named,
    why,
)
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

    def verb_verify_view(self, name: str) -> Json:
        """What there is to know before a view is verified."""
        view = self._stack.system.view(name)
        config = view.key.config if view.key is not None else None
        return {
            "name": name,
            "size": view.size,
            "block_size": view.block_size,
            "data_unit_size": config.data_unit_size if config is not None else None,
            "mode": config.mode if config is not None else None,
            "is_known": config is not None and knows(config.mode),
        }

    async def verb_verify_part(self, name: str, begin: int, end: int) -> Json:
        """Verify a part of a range of a view: what the media hold against what it shows."""
        system = self._stack.system
        view = system.open(name)  # It is not removed meanwhile, and its key not overwritten.
        try:
            return await verify_part(view, begin, end)
        finally:
            system.closed(name)

    async def verb_verify_reuse(self, names: list[str]) -> list[Json]:
        """Data unit numbers that lead views under one key to different places."""
        return await find_overlaps(self._stack.system, names)

    async def verb_verify_duns(self, names: list[str], duns: list[int]) -> Json:
        """Whether two views hold different data under the same numbers."""
        views = views_named(self._stack.system, names)
        if len(names) != 2 or len(views) != 2:
            raise ControlError(f"verify.duns: names is {len(set(names))} views, not 2")
        return await compare_data(views[0], views[1], duns)

    def verb_verify_dun(self, names: list[str]) -> list[Json]:
        """The data unit numbers of views, and whether they fit."""
        return dun_ranges(self._stack.system, names)
