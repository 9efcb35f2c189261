"""Verbs that look into a running stack: they change nothing, and no key bytes are in an answer."""

from time import monotonic
from typing import Any

from fusedm.block.errors import ControlError
from fusedm.inspect import (
    check_keyslots,
    compare_data,
    dun_ranges,
    find_overlaps,
    knows,
    parse_config,
    sample_duns,
    verify_part,
    views_named,
)
from fusedm.inspect import explain as find_way
from fusedm.inspect import swap as compare
from fusedm.inspect import why as ask_why
from fusedm.stack import Stack
from fusedm.system import View

Json = dict[str, Any]


class Looking:
    """Why, what a table would change, and the way of a request; each public method is a verb."""

    def __init__(self, stack: Stack, has_lane: bool = True) -> None:
        self._stack = stack
        self._has_lane = has_lane

    def why(self, name: str, config: str = "") -> Json:
        """What is native on a device or view and what is not, and why; config as MODE/SIZE."""
        return ask_why(self._stack.system, name, parse_config(config) if config else None)

    def swap(self, name: str, table: str) -> Json:
        """What a mapped device, and those above it, would gain and lose by a table."""
        return compare(self._stack.system, name, table, monotonic)

    def explain(self, name: str, offset: int, length: int, write: bool = False) -> Json:
        """The way of one READ or WRITE through every layer; nothing of it is carried out."""
        stores = {disk.name: disk.store for disk in self._stack.spec().disks.values()}
        return find_way(self._stack.system, name, offset, length, write, stores, self._has_lane)


class Verifying:
    """The verbs verify.*; each public method is one."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def view(self, name: str) -> Json:
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

    async def part(self, name: str, begin: int, end: int) -> Json:
        """Verify a part of a range of a view: what the media hold against what it shows."""
        system = self._stack.system
        view = system.open(name)  # It is not removed meanwhile, and its key not overwritten.
        try:
            return await verify_part(view, begin, end)
        finally:
            system.closed(name)

    async def reuse(self, names: list[str]) -> list[Json]:
        """Data unit numbers that lead views under one key to different places."""
        return await find_overlaps(self._stack.system, names)

    async def duns(self, names: list[str], duns: list[int]) -> Json:
        """Whether two views hold different data under the same numbers."""
        return await compare_data(*self._two("verify.duns", names), duns)

    async def sample(self, names: list[str], first: int, last: int, count: int, seed: int) -> Json:
        """Numbers that two views share and have data under, at most count of them."""
        one, other = self._two("verify.sample", names)
        return await sample_duns(one, other, first, last, count, seed)

    def _two(self, verb: str, names: list[str]) -> tuple[View, View]:
        views = views_named(self._stack.system, names)
        if len(names) != 2 or len(views) != 2:
            raise ControlError(f"{verb}: names is {len(set(names))} views, not 2")
        return views[0], views[1]

    def keyslots(self, name: str) -> Json:
        """Whether the keyslots of a disk's engine hold the keys they should."""
        return check_keyslots(self._stack.system, name)

    def dun(self, names: list[str]) -> list[Json]:
        """The data unit numbers of views, and whether they fit."""
        return dun_ranges(self._stack.system, names)
