"""Adding disks, their engines and views."""

from typing import Any

from fusedm.block.errors import ControlError
from fusedm.stack import DiskSpec, Stack, ViewSpec, engine_from

Json = dict[str, Any]


class DeviceVerbs:
    """Verbs whose arguments are put together before they are the stack's."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def add_disk(
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

    async def gain_engine(self, name: str, engine: dict[str, Any]) -> None:
        """Give a disk without engine one under I/O; engine as for disk.add."""
        await self._stack.gain_engine(name, engine_from(engine))

    def add_view(
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
