"""Suspending and resuming: what is mounted on a device is frozen before, and thawed after.

File systems are frozen while their device still answers, and thawed when it
does so again, both in worker threads: each needs I/O that this process carries out.
"""

import logging
from pathlib import Path

import trio

from fusedm.block.errors import FusedmError
from fusedm.dm import MappedDevice
from fusedm.host import loop
from fusedm.host.freeze import Freeze
from fusedm.system import System

log = logging.getLogger(__name__)

#: How long a resume waits for what follows from it: writing a superblock, where the disks answer.
AFTER_RESUME_SECONDS = 10.0


class Freezing:
    """Lets bios of mapped devices in or not.

    Owns: what is frozen, by device, until the device is resumed.
    """

    def __init__(self, system: System, mount_point: Path | None) -> None:
        self._system = system
        self._mount_point = mount_point
        self._frozen: dict[MappedDevice, list[Freeze]] = {}

    async def suspend(self, mapped: MappedDevice, lockfs: bool = True) -> None:
        """Freeze what is mounted on a device, then suspend it and wait for bios in flight.

        Raises: StackError for what cannot be frozen; then nothing has changed.
        """
        freeze = await self._freeze(mapped) if lockfs else None
        try:
            await mapped.suspend()
        finally:
            await self._after(mapped, freeze)

    async def resume(self, mapped: MappedDevice, lockfs: bool = True) -> None:
        """Make the inactive table live, let bios in, and thaw; loop devices get the new size.

        A device that is not suspended is so for the swap, and what is mounted on it frozen.
        Raises: as System.resume, and as suspend.
        """
        size = mapped.sector_count
        freeze = await self._freeze(mapped) if lockfs and mapped.inactive is not None else None
        try:
            await self._system.resume(mapped.name)
        finally:
            await self._after(mapped, freeze, has_new_size=mapped.sector_count != size)

    async def resume_all(self) -> None:
        """Resume every suspended device that has a table, and thaw all."""
        await self._system.resume_all()
        for mapped in list(self._frozen):
            await self._after(mapped, None)

    async def _freeze(self, mapped: MappedDevice) -> Freeze | None:
        """Freeze what is mounted on a device; where its I/O is held up already, that would hang.

        What it writes then is not delayed, nor is what it waits for.
        Raises: FusedmError. Cancelled, what is frozen later is thawed at once.
        """
        if mapped.is_suspending:
            return None
        freeze = Freeze(self._files(mapped))
        await mapped.prepare_suspend()
        try:
            await trio.to_thread.run_sync(freeze.freeze, abandon_on_cancel=True)
        except FusedmError:
            mapped.give_up_suspend()
            raise
        except trio.Cancelled:
            freeze.thaw_later()
            mapped.give_up_suspend()
            raise
        return freeze

    async def _after(
        self, mapped: MappedDevice, freeze: Freeze | None, has_new_size: bool = False
    ) -> None:
        """What follows from a device's being suspended, or from its not being so any more."""
        files = self._files(mapped) if has_new_size else []
        to_thaw: list[Freeze] = []
        if freeze is not None:
            self._frozen.setdefault(mapped, []).append(freeze)
        if not mapped.suspended:
            to_thaw = self._frozen.pop(mapped, [])

        def follow() -> None:
            _take_size(files)
            for frozen in to_thaw:
                frozen.thaw()

        if files or to_thaw:
            with trio.move_on_after(AFTER_RESUME_SECONDS, shield=True):
                await trio.to_thread.run_sync(follow, abandon_on_cancel=True)

    def _files(self, mapped: MappedDevice) -> list[str]:
        """The files of our mount that lead to a device: its own, and those of views of it.

        One that nobody has open is left out: there is no loop device over it.
        """
        if self._mount_point is None:
            return []
        views = [view.name for view in self._system.views.values() if view.device is mapped]
        files = [("mapper", mapped.name), *(("views", name) for name in views)]
        count = self._system.names.open_count
        return [str(self._mount_point / folder / name) for folder, name in files if count(name)]


def _take_size(files: list[str]) -> None:
    """Have the loop devices over files take their size; one that does not is no reason to fail."""
    for file in files:
        for device in loop.attached_to([file]):
            try:
                loop.set_capacity(device, file)
            except FusedmError as error:
                log.warning("%s", error)
