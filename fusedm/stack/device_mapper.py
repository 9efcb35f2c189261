"""Device mapper: the mapped devices of a stack, as whoever asks sees them.

`fusedm dm` and dmsetup come here by the control socket, stack files and Python directly. What is
asked is what the kernel's ioctls are asked, of a device by its name, its UUID or its number; none
there is ENXIO. The errnos of a strict stack are the kernel's.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fusedm.block import BlockDevice
from fusedm.block.device_mapper import DeviceInfo, Name, Number, TargetLine, Which
from fusedm.block.errors import FusedmError, StackError
from fusedm.dm import (
    MappedDevice,
    Namer,
    Table,
    name_of,
    status_lines,
    table_lines,
    target_class,
    target_names,
)
from fusedm.stack.freezing import Freezing
from fusedm.stack.outside import OutsideDevices

if TYPE_CHECKING:
    from fusedm.stack.stack import Stack


class DeviceMapper:
    """The mapped devices of one stack; mount_point is where it is seen, if anywhere.

    Each public method is a verb of the control socket as well. Those that change a device answer
    with what it is then.
    """

    def __init__(self, stack: "Stack", mount_point: Path | None) -> None:
        self._system = stack.system
        self._mapper = mount_point / "mapper" if mount_point is not None else None
        self._freezing = Freezing(stack.system, mount_point)
        self._outside = OutsideDevices(stack, mount_point)

    def ls(self) -> list[DeviceInfo]:
        """Every mapped device, in order of name."""
        return [self._tell(mapped) for _, mapped in sorted(self._system.mapped.items())]

    def targets(self) -> list[tuple[str, tuple[int, int, int]]]:
        """The types of targets there are, and their versions."""
        return [(name, target_class(name).version) for name in target_names()]

    def info(self, name: Name) -> DeviceInfo:
        """One of them."""
        return self._tell(self._find(name))

    async def add(
        self,
        name: str,
        table: str = "",
        uuid: str = "",
        read_only: bool = False,
        minor: int | None = None,
        folder: str | None = "/",
    ) -> DeviceInfo:
        """Make a device; a table is loaded and made live, and if that cannot be it is not there.

        folder is as for load.
        Raises: StackError for a name, UUID or minor that is taken or cannot be; as load and resume.
        """
        with self._errnos({errno.EEXIST: errno.EBUSY, errno.EBUSY: errno.ENXIO}):
            self._system.add_mapped(name, uuid, minor)
        if table.strip():
            try:
                await self.load(name, table, read_only, folder)
                await self.resume(name)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self.remove(name)
                raise
        return self.info(name)

    async def load(
        self, name: Name, table: str, read_only: bool = False, folder: str | None = "/"
    ) -> DeviceInfo:
        """Load the inactive table; it may name any device and file of this machine.

        folder is where relative paths begin; None: only devices of the stack may be named.
        Raises: as System.load_opened.
        """
        mapped = self._find(name)
        if folder is None:
            await self._system.load_opened(mapped.name, table, read_only)
        else:
            await self._outside.load(mapped.name, table, read_only, folder)
        return self._tell(mapped)

    async def clear(self, name: Name) -> DeviceInfo:
        """Drop the inactive table."""
        mapped = self._find(name)
        self._system.clear(mapped.name)
        await mapped.settle()
        await self._outside.close_unused()
        return self._tell(mapped)

    async def suspend(
        self, name: Name, noflush: bool = False, nolockfs: bool = False
    ) -> DeviceInfo:
        """Freeze what is mounted on a device, then suspend it and wait for bios in flight.

        nolockfs does not freeze; nor does noflush.
        """
        mapped = self._find(name)
        await self._freezing.suspend(mapped, lockfs=not (noflush or nolockfs))
        return self._tell(mapped)

    async def resume(self, name: Name, noflush: bool = False, nolockfs: bool = False) -> DeviceInfo:
        """Make the inactive table live, let bios in, and thaw; loop devices get the new size.

        A device that is not suspended is so for the swap, frozen before as for suspend.
        """
        mapped = self._find(name)
        try:
            await self._freezing.resume(mapped, lockfs=not (noflush or nolockfs))
        finally:
            await self._outside.close_unused()
        return self._tell(mapped)

    async def resumeall(self) -> None:
        """Resume every suspended device that has a table, and thaw all."""
        await self._freezing.resume_all()

    async def remove(self, name: Name, deferred: bool = False) -> bool:
        """Remove a device; deferred, one in use goes later: whether it has gone."""
        mapped = self._find(name)
        is_gone = self._system.remove_mapped(mapped.name, deferred)
        await self._system.settle()
        await self._outside.close_unused()
        return is_gone

    async def rename(self, name: Name, new: str) -> DeviceInfo:
        """Call a device something else, for the kernel too: loop devices show the new path.

        The kernel passes that on to this daemon, which is where it is done.
        Raises: StackError: EEXIST or EINVAL for the new name, or what the kernel says.
        """
        mapped = self._find(name)
        with self._errnos({errno.EEXIST: errno.EBUSY}):
            self._system.names.check_free("mapped device", new)
        if self._mapper is None:
            self._system.rename_mapped(mapped.name, new)
            return self._tell(mapped)
        old, new_path = self._mapper / mapped.name, self._mapper / new
        try:
            with self._system.names.renaming(mapped.name, new):
                await trio.to_thread.run_sync(os.rename, old, new_path)
        except OSError as error:
            text = f"{mapped.name}: renaming it to {new}: {error.strerror}"
            raise StackError(text, error.errno) from None
        return self._tell(mapped)

    def setuuid(self, name: Name, uuid: str) -> DeviceInfo:
        """Give a device the UUID it has none of."""
        mapped = self._find(name)
        with self._errnos({errno.EEXIST: errno.EBUSY}):
            if not uuid:
                raise StackError("a UUID is not empty")
            self._system.set_uuid(mapped.name, uuid)
        return self._tell(mapped)

    def setnumber(self, name: Name, number: Number | None) -> None:
        """Have a device known by the number of the loop device over it, or no more."""
        self._system.numbers.show(self._find(name), number)

    def table(
        self, name: Name, inactive: bool = False, keys: bool = False, numbers: bool = False
    ) -> list[TargetLine]:
        """The live or the inactive table, with its keys and numbers of devices if asked for."""
        table = self._table(name, inactive)
        return table_lines(table, self._namer(numbers), keys) if table is not None else []

    def status(self, name: Name, inactive: bool = False, numbers: bool = False) -> list[TargetLine]:
        """What the targets of a table say of themselves."""
        table = self._table(name, inactive)
        return status_lines(table, self._namer(numbers)) if table is not None else []

    def deps(self, name: Name, inactive: bool = False) -> tuple[Number, ...]:
        """The numbers of the devices below a table, latest first."""
        return self._below(self._table(name, inactive))

    async def message(self, name: Name, sector: int, words: list[str]) -> str:
        """Give a message to the target of a sector, or to device mapper; its reply."""
        mapped = self._find(name)
        if words and words[0].startswith("@"):
            if words != ["@cancel_deferred_remove"]:
                raise StackError(f"{words[0]} is no message to device mapper itself")
            mapped.deferred_remove = False
            return ""
        return await mapped.message(sector, words)

    async def wait(self, name: Name, event: int) -> DeviceInfo:
        """Wait until another number of events than this has been counted.

        Raises: StackError(ENXIO) if the device has been removed meanwhile.
        """
        mapped = self._find(name)
        await mapped.wait_event(event)
        if self._system.mapped.get(mapped.name) is not mapped:
            raise StackError(f"{mapped.name!r} has been removed", errno.ENXIO)
        return self._tell(mapped)

    def _find(self, name: Name) -> MappedDevice:
        which = Which(name) if isinstance(name, str) else name
        found: BlockDevice | None = None
        if which.name:
            found = self._system.mapped.get(which.name)
        elif which.uuid:
            same = (m for m in self._system.mapped.values() if m.uuid == which.uuid)
            found = next(same, None)
        elif which.number is not None:
            found = self._system.numbers.find("{}:{}".format(*which.number))
        if not isinstance(found, MappedDevice):
            told = which.name or which.uuid or which.number
            raise StackError(f"{told!r} is not a mapped device of this stack", errno.ENXIO)
        return found

    def _table(self, name: Name, inactive: bool) -> Table | None:
        mapped = self._find(name)
        return mapped.inactive if inactive else mapped.live

    def _namer(self, numbers: bool) -> Namer:
        return (
            (lambda device: "{}:{}".format(*self._system.numbers.of(device)))
            if numbers
            else name_of
        )

    def _below(self, table: Table | None) -> tuple[Number, ...]:
        devices = table.devices() if table is not None else []
        return tuple(self._system.numbers.of(device) for device in reversed(devices))

    def _tell(self, mapped: MappedDevice) -> DeviceInfo:
        live, system, view = mapped.live, self._system, self._system.view(mapped.name)
        return DeviceInfo(
            name=mapped.name,
            uuid=mapped.uuid,
            number=system.numbers.of(mapped),
            minor=system.numbers.own(mapped)[1],
            is_live=live is not None,
            is_inactive=mapped.inactive is not None,
            is_suspended=mapped.suspended,
            is_read_only=live is not None and mapped.is_table_read_only,
            is_deferred=mapped.deferred_remove,
            open_count=system.names.open_count(mapped.name),
            event_number=mapped.event_number,
            target_count=len(live.entries) if live is not None else 0,
            sector_count=mapped.sector_count,
            block_size=view.block_size,
            takes_discards=view.takes_discards,
            path=str(self._mapper / mapped.name) if self._mapper is not None else "",
            below=self._below(live),
            holders=tuple(system.holders(mapped.name)),
        )

    @contextmanager
    def _errnos(self, changed: dict[int, int]) -> Iterator[None]:
        """Strictly, have what is refused refused with the errno that the kernel has for it."""
        try:
            yield
        except FusedmError as error:
            if not self._system.strict:
                raise
            raise StackError(str(error), changed.get(error.errno, error.errno)) from None
