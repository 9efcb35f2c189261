"""Verbs that dmsetup is made of: a part of Commands. Errnos are those of the kernel's ioctls.

A device is meant by {"name": ...}, {"uuid": ...} or {"number": "253:0"}; none there is ENXIO.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from fusedm.block import BlockDevice
from fusedm.block.errors import FusedmError, StackError
from fusedm.control.freezing import Freezing
from fusedm.control.outside import OutsideDevices
from fusedm.dm import MappedDevice, format_status, format_table
from fusedm.stack import Stack

Json = dict[str, Any]
Which = dict[str, str]


class DmCommands:
    """The verbs of one stack that dmsetup calls."""

    def __init__(self, stack: Stack, mount_point: Path, freezing: Freezing) -> None:
        self._of = stack.system
        self._freezing = freezing
        self._mapper = mount_point / "mapper"
        self._outside = OutsideDevices(stack, mount_point)

    def verb_dmsetup_list(self) -> list[Json]:
        """Every mapped device, in order of name."""
        return [self._tell(mapped) for _, mapped in sorted(self._of.mapped.items())]

    def verb_dmsetup_info(self, device: Which) -> Json:
        """One of them."""
        return self._tell(self._find(device))

    def verb_dmsetup_create(self, name: str, uuid: str = "", minor: int | None = None) -> Json:
        """Make a device without a table."""
        with _errnos({errno.EEXIST: errno.EBUSY, errno.EBUSY: errno.ENXIO}):
            return self._tell(self._of.add_mapped(name, uuid, minor))

    async def verb_dmsetup_load(self, device: Which, table: str, read_only: bool = False) -> Json:
        """Load the inactive table; it may name any device and file of this machine."""
        mapped = self._find(device)
        await self._outside.load(mapped.name, table, read_only)
        return self._tell(mapped)

    async def verb_dmsetup_suspend(
        self, device: Which, noflush: bool = False, lockfs: bool = True
    ) -> Json:
        """Let no new bios in and wait for those under way; lockfs freezes what is mounted."""
        mapped = self._find(device)
        await self._freezing.suspend(mapped, lockfs and not noflush)
        return self._tell(mapped)

    async def verb_dmsetup_clear(self, device: Which) -> Json:
        """Drop the inactive table."""
        mapped = self._find(device)
        self._of.clear(mapped.name)
        await self._outside.close_unused()
        return self._tell(mapped)

    async def verb_dmsetup_resume(
        self, device: Which, noflush: bool = False, lockfs: bool = True
    ) -> Json:
        """Make the inactive table live and let bios in; one that was not suspended stays so."""
        mapped = self._find(device)
        if mapped.live is not None or mapped.inactive is not None or mapped.suspended:
            try:
                await self._freezing.resume(mapped, lockfs and not noflush)
            finally:
                await self._outside.close_unused()
        return self._tell(mapped)

    async def verb_dmsetup_remove(self, device: Which, deferred: bool = False) -> bool:
        """Remove a device; deferred, one in use goes later: whether it has gone."""
        mapped = self._find(device)
        is_gone = self._of.remove_mapped(mapped.name, deferred)
        await self._of.settle()
        await self._outside.close_unused()
        return is_gone

    async def verb_dmsetup_rename(self, device: Which, new: str) -> Json:
        """Call a device something else, for the kernel too: loop devices show the new path."""
        mapped = self._find(device)
        with _errnos({errno.EEXIST: errno.EBUSY}):
            await self.rename_in_mount(mapped, new)
        return self._tell(mapped)

    async def rename_in_mount(self, mapped: MappedDevice, new: str) -> None:
        """Rename the file of a mapped device; the kernel passes that on, and it is done there.

        Raises: StackError: EEXIST or EINVAL for the new name, or what the kernel says.
        """
        self._of.names.check_free("mapped device", new)
        old, new_path = self._mapper / mapped.name, self._mapper / new
        try:
            await trio.to_thread.run_sync(os.rename, old, new_path)
        except OSError as error:
            text = f"{mapped.name}: renaming it to {new}: {error.strerror}"
            raise StackError(text, error.errno) from None

    def verb_dmsetup_setuuid(self, device: Which, uuid: str) -> Json:
        """Give a device the UUID it has none of."""
        mapped = self._find(device)
        with _errnos({errno.EEXIST: errno.EBUSY}):
            if not uuid:
                raise StackError("a UUID is not empty")
            self._of.set_uuid(mapped.name, uuid)
        return self._tell(mapped)

    def verb_dmsetup_table(
        self, device: Which, inactive: bool = False, show_keys: bool = False
    ) -> str:
        """The live table or the inactive one, with numbers of devices; keys only if asked for."""
        mapped = self._find(device)
        table = mapped.inactive if inactive else mapped.live
        return format_table(table, self._number, show_keys) if table is not None else ""

    def verb_dmsetup_status(self, device: Which, inactive: bool = False) -> str:
        """What the targets of a table say of themselves."""
        mapped = self._find(device)
        table = mapped.inactive if inactive else mapped.live
        return format_status(table, self._number) if table is not None else ""

    def verb_dmsetup_deps(self, device: Which, inactive: bool = False) -> list[str]:
        """The numbers of the devices below a table, latest first."""
        mapped = self._find(device)
        table = mapped.inactive if inactive else mapped.live
        return self._below(table.devices() if table is not None else [])

    async def verb_dmsetup_message(self, device: Which, sector: int, words: list[str]) -> str:
        """Give a message to the target of a sector, or to device mapper; its reply."""
        mapped = self._find(device)
        if words and words[0].startswith("@"):
            if words != ["@cancel_deferred_remove"]:
                raise StackError(f"{words[0]} is no message to device mapper itself")
            mapped.deferred_remove = False
            return ""
        return await mapped.message(sector, words)

    async def verb_dmsetup_wait(self, device: Which, event: int) -> Json:
        """Wait until a device has counted another number of events."""
        mapped = self._find(device)
        await mapped.wait_event(event)
        if self._of.mapped.get(mapped.name) is not mapped:
            raise StackError(f"{mapped.name!r} has been removed", errno.ENXIO)
        return self._tell(mapped)

    def verb_dmsetup_show(self, device: Which, number: str = "") -> None:
        """Have a device known by the number of the loop device over it, or no more."""
        major, _, minor = number.partition(":")
        shown = (int(major), int(minor)) if number else None
        self._of.numbers.show(self._find(device), shown)

    # What is told.

    def _find(self, device: Which) -> MappedDevice:
        found: BlockDevice | None = None
        if "name" in device:
            found = self._of.mapped.get(device["name"])
        elif "uuid" in device:
            same = (m for m in self._of.mapped.values() if m.uuid and m.uuid == device["uuid"])
            found = next(same, None)
        elif "number" in device:
            found = self._of.numbers.find(device["number"])
        if not isinstance(found, MappedDevice):
            text = f"{' '.join(device.values())!r} is not a mapped device of this stack"
            raise StackError(text, errno.ENXIO)
        return found

    def _number(self, device: BlockDevice) -> str:
        major, minor = self._of.numbers.of(device)
        return f"{major}:{minor}"

    def _below(self, devices: list[BlockDevice]) -> list[str]:
        return [self._number(device) for device in reversed(devices)]

    def _tell(self, mapped: MappedDevice) -> Json:
        live = mapped.live
        view = self._of.view(mapped.name)
        return {
            "name": mapped.name,
            "uuid": mapped.uuid,
            "number": self._number(mapped),
            "minor": self._of.numbers.own(mapped)[1],
            "live": live is not None,
            "inactive": mapped.inactive is not None,
            "suspended": mapped.suspended,
            "ro": live is not None and mapped.is_table_read_only,
            "deferred": mapped.deferred_remove,
            "event": mapped.event_number,
            "targets": len(live.entries) if live is not None else 0,
            "below": self._below(live.devices() if live is not None else []),
            "holders": self._of.holders(mapped.name),
            "open": self._of.names.open_count(mapped.name),
            "path": str(self._mapper / mapped.name),
            "sectors": mapped.sector_count,
            "log_sec": view.block_size,
        }


@contextmanager
def _errnos(changed: dict[int, int]) -> Iterator[None]:
    """Have what the stack refuses refused with the errno the kernel has for it."""
    try:
        yield
    except FusedmError as error:
        raise StackError(str(error), changed.get(error.errno, error.errno)) from None
