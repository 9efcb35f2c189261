"""Verbs on disks with their engines, and on views."""

from dataclasses import asdict
from typing import Any, Literal

from fusedm.block.errors import ControlError
from fusedm.stack import DiskSpec, Stack, ViewSpec, engine_from

Json = dict[str, Any]


class DiskVerbs:
    """The verbs disk.*; each public method is one."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def add(
        self,
        name: str,
        store: str,
        size: int | None = None,
        read_only: bool = False,
        engine: dict[str, Any] | str | None = None,
    ) -> None:
        """Add a disk; size in bytes; engine is as in a stack file."""
        told = engine_from(engine) if engine is not None else None
        if told is not None and told.secret and not told.secret.startswith(("file:/", "random")):
            # The environment, folder and descriptors that are meant are the client's.
            raise ControlError("disk.add: engine.secret is not file:/PATH or random")
        await self._stack.add_disk(DiskSpec(name, size, store, told, read_only))

    async def remove(self, name: str) -> None:
        """Remove a disk."""
        await self._stack.remove_disk(name)

    async def losepower(
        self, name: str, keep: Literal["nothing", "random", "everything"] = "random"
    ) -> None:
        """Lose what a disk's volatile cache has not flushed."""
        await self._stack.lose_power(name, keep)

    async def loseengine(self, name: str) -> None:
        """Take the engine of a disk away under I/O."""
        await self._stack.lose_engine(name)

    async def gainengine(self, name: str, engine: dict[str, Any]) -> None:
        """Give a disk without engine one under I/O; engine as for disk.add."""
        await self._stack.gain_engine(name, engine_from(engine))

    async def resetengine(self, name: str) -> Json:
        """Reset a disk's engine; the names of keys that are programmed anew, and that failed."""
        return asdict(await self._stack.reset_engine(name))


class ViewVerbs:
    """The verbs view.*; each public method is one."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def add(
        self,
        name: str,
        device: str,
        key: str,
        dun_base: int = 0,
        start: int = 0,
        size: int | None = None,
    ) -> None:
        """Add a view; start and size in bytes."""
        self._stack.add_view(ViewSpec(name, device, key, dun_base, start, size))

    def remove(self, name: str) -> None:
        """Remove a view."""
        self._stack.system.remove_view(name)
