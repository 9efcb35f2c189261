"""The system: names to disks, mapped devices, keys and views, and who uses whom. No I/O of its own.

Names are unique across disks, mapped devices and views; keys have a namespace of their own. What is
in use cannot be removed: the refusal says by whom.
"""

import errno
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic

from fusedm.block import BlockDevice, CryptoKey, KeyHolder
from fusedm.block.errors import StackError, TableError
from fusedm.block.names import check_name
from fusedm.crypto import InlineEngine, start_using_key
from fusedm.disk import Disk, close_disks
from fusedm.dm import Lookup, MappedDevice, keys_of_targets, on_trial, open_targets, read_table
from fusedm.system.above import all_above
from fusedm.system.device_numbers import FIRST_DISK_MINOR, DeviceNumbers
from fusedm.system.name_table import NameTable
from fusedm.system.view import View, check_view


class System:
    """Everything one mount shows.

    strict has it follow the kernel's decisions, refusals and errnos where it goes its own way else.
    hot_add, if any, is what is asked of devices that a table adds.
    Owns: its disks, mapped devices, keys and views. Lives: until close().
    """

    def __init__(
        self, clock: Callable[[], float] = monotonic, strict: bool = False, hot_add: str = ""
    ) -> None:
        self.read_table = partial(read_table, clock=clock)
        self.strict = strict
        #: Whether it is only tried how a stack will be, with empty media.
        self.is_dry = False
        self._takes_weaker = not hot_add
        self.disks: dict[str, Disk] = {}
        self.mapped: dict[str, MappedDevice] = {}
        self.keys: dict[str, CryptoKey] = {}
        self.views: dict[str, View] = {}
        self.names = NameTable()
        self.numbers = DeviceNumbers()
        #: Removed, but their targets may not have written yet what they owe.
        self._ending: list[MappedDevice] = []
        self._views_on: dict[BlockDevice, dict[str, None]] = {}

    # Looking up.

    def device(self, name: str) -> BlockDevice:
        """The disk or mapped device of a name or of major:minor.

        Raises: StackError(ENXIO).
        """
        found = self.disks.get(name) or self.mapped.get(name) or self.numbers.find(name)
        if found is None:
            what = "is a view, not a device" if name in self.views else "is not a device"
            raise StackError(f"{name!r} {what} of this stack", errno.ENXIO)
        return found

    def view(self, name: str) -> View:
        """What opening a name gives: a view, or a disk or mapped device without context.

        Raises: StackError(ENXIO).
        """
        return self.views.get(name) or View(name, self.device(name))

    def disk(self, name: str) -> Disk:
        """The disk of a name.

        Raises: StackError(ENXIO).
        """
        if name not in self.disks:
            raise StackError(f"{name!r} is not a disk of this stack", errno.ENXIO)
        return self.disks[name]

    def mapped_device(self, name: str) -> MappedDevice:
        """The mapped device of a name.

        Raises: StackError(ENXIO).
        """
        if name not in self.mapped:
            raise StackError(f"{name!r} is not a mapped device of this stack", errno.ENXIO)
        return self.mapped[name]

    def holders(self, name: str) -> list[str]:
        """The mapped devices (through either table) and views directly on a device."""
        device = self.device(name)
        return [*(holder.name for holder in device.holders), *self._views_on.get(device, ())]

    # Adding; every name is checked before anything changes.

    def add_disk(self, disk: Disk) -> None:
        """Take a disk in.

        Raises: StackError for an illegal (EINVAL) or taken (EEXIST) name.
        """
        self.names.claim("disk", disk.name)
        if self.strict:
            disk.become_strict()
        self.disks[disk.name] = disk
        self.numbers.add(disk, FIRST_DISK_MINOR)

    def add_mapped(self, name: str, uuid: str = "", minor: int | None = None) -> MappedDevice:
        """A new mapped device, without a table.

        Raises: StackError for an illegal or taken name, UUID (EEXIST) or minor (EBUSY).
        """
        self.names.check_free("mapped device", name)
        self._check_uuid(uuid)
        mapped = MappedDevice(name, uuid, self.strict, self._takes_weaker)
        mapped.is_dry = self.is_dry
        self.numbers.add(mapped, minor=minor)
        self.names.claim("mapped device", name)
        self.mapped[name] = mapped
        return mapped

    def _check_uuid(self, uuid: str) -> None:
        if not uuid:
            return
        check_name("UUID", uuid)
        if any(uuid == mapped.uuid for mapped in self.mapped.values()):
            raise StackError(f"UUID {uuid!r} is taken", errno.EEXIST)

    def rename_mapped(self, name: str, new: str) -> None:
        """Call a mapped device something else; it may be open and in use.

        Raises: StackError: ENXIO; EEXIST or EINVAL for the new name.
        """
        mapped = self.mapped_device(name)
        self.names.check_free("mapped device", new)
        self.names.rename(name, new)
        self.mapped[new] = self.mapped.pop(name)
        mapped.rename(new)
        if mapped.live is not None:
            mapped.raise_event()

    def set_uuid(self, name: str, uuid: str) -> None:
        """Give a mapped device the UUID it has none of.

        Raises: StackError: ENXIO; EEXIST; EINVAL if it has one.
        """
        mapped = self.mapped_device(name)
        self._check_uuid(uuid)
        if mapped.uuid:
            raise StackError(f"{name!r} has the UUID {mapped.uuid!r}, which cannot be changed")
        mapped.uuid = uuid
        if mapped.live is not None:
            mapped.raise_event()

    def add_key(self, key: CryptoKey) -> None:
        """Take a key in.

        Raises: StackError for an illegal or taken name.
        """
        check_name("key", key.name)
        if key.name in self.keys:
            raise StackError(f"key {key.name!r} is there already", errno.EEXIST)
        self.keys[key.name] = key

    def add_view(
        self,
        name: str,
        device_name: str,
        key_name: str,
        dun_base: int = 0,
        start: int = 0,
        length: int | None = None,
    ) -> View:
        """Open a device, or length bytes of it from start on, under a key, which is started on it.

        Raises: StackError for names, and for a range that is not of whole blocks of the device;
                CryptoError(EINVAL) for a DUN base that does not fit; as start_using_key.
        """
        device = self.device(device_name)
        key = self.keys.get(key_name)
        if key is None:
            raise StackError(f"{key_name!r} is not a key of this stack", errno.ENXIO)
        view = View(name, device, key, dun_base, start, length, zeros_are_holes=not self.strict)
        check_view(view, key)
        self.names.check_free("view", name)
        start_using_key(device, key)
        self.names.claim("view", name)
        self.views[name] = view
        self._views_on.setdefault(device, {})[name] = None
        return view

    def load(self, name: str, table_text: str, read_only: bool = False) -> None:
        """Put a table into the inactive slot of a mapped device; it is opened at its resume.

        Raises: TableError; StackError(ENXIO).
        """
        table = self.read_table(table_text, self.device, read_only=read_only)
        with on_trial(table):
            self.mapped_device(name).load(table, read_only)
        self._remove_deferred()

    async def load_opened(
        self, name: str, table_text: str, read_only: bool = False, lookup: Lookup | None = None
    ) -> None:
        """The same, opened before; strictly, a table after the first need not fit until its resume.

        Raises: TableError; StackError(ENXIO); BlockIOError, StackError from a target.
        """
        mapped = self.mapped_device(name)
        must_fit = not self.strict or (mapped.live is None and mapped.inactive is None)
        table = self.read_table(
            table_text, lookup or self.device, is_checked=must_fit, read_only=read_only
        )
        with on_trial(table):
            mapped.check_load(table, read_only)
            await open_targets(table, mapped)
            mapped.load(table, read_only)
        await mapped.settle()
        self._remove_deferred()

    def clear(self, name: str) -> None:
        """Drop the inactive table of a mapped device.

        Raises: StackError(ENXIO).
        """
        self.mapped_device(name).clear()
        self._remove_deferred()

    async def resume(self, name: str) -> None:
        """Resume a mapped device, and let those above it know what has changed.

        Raises: as MappedDevice.resume; StackError(ENXIO).
        """
        changed = self.mapped_device(name)
        if self.strict and not (changed.suspended or changed.live or changed.inactive):
            return  # The kernel finds nothing to do.
        await changed.resume()
        for device in all_above(changed):
            device.refresh()
        self._remove_deferred()

    def swap_engine(self, name: str, engine: InlineEngine | None) -> Callable[[], Awaitable[None]]:
        """Give a disk another engine, or take it away, while bios flow; returns a wait for the end.

        First everything that may fail is done, on every device concerned, and changes nothing; then
        the engine is changed, which cannot fail. What is waited for is the last bio on the old one.
        Raises: StackError(ENXIO); CryptoError for a key in use that could not be used any more.
        """
        disk = self.disk(name)
        above = all_above(disk)
        concerned = {disk, *above}
        keys = {v.key: None for v in self.views.values() if v.key and v.device in concerned}
        keys |= dict.fromkeys(keys_of_targets(t for m in above for t in (m.live, m.inactive)))
        disk.prepare_engine(engine, keys)
        for device in above:
            device.prepare_change()
        wait_ended = disk.swap_engine(engine)
        for device in above:
            device.refresh()
        return wait_ended

    async def resume_all(self) -> None:
        """Resume every suspended device that has a table, so that nothing waits for it any more."""
        for name in [name for name, mapped in self.mapped.items() if mapped.suspended]:
            with suppress(StackError, TableError):
                await self.resume(name)

    # Removing; what is in use stays.

    def check_removable(self, name: str) -> Disk:
        """The disk of a name, if nothing uses it.

        Raises: StackError(EBUSY) with its holders, or with bios in flight; ENXIO.
        """
        disk = self.disk(name)
        self._check_unused(name, self.holders(name))
        _check_idle(disk)
        return disk

    def remove_disk(self, name: str) -> Disk:
        """Forget a disk that nothing uses; it is the caller's to close.

        Raises: StackError as check_removable.
        """
        self.check_removable(name)
        self.names.release(name)
        self.numbers.remove(self.disks[name])
        return self.disks.pop(name)

    def remove_mapped(self, name: str, deferred: bool = False) -> bool:
        """Forget a mapped device and both its tables; settle lets targets write what they owe.

        Deferred, one in use goes when nobody uses it any more; returns whether it has gone.
        Raises: StackError(EBUSY) with its holders, or with bios in flight.
        """
        mapped = self.mapped_device(name)
        try:
            self._check_unused(name, self.holders(name))
            _check_idle(mapped)
        except StackError:
            if not deferred:
                raise
            mapped.deferred_remove = True
            return False
        self.names.release(name)
        self.numbers.remove(mapped)
        self.mapped.pop(name).close()
        self._ending.append(mapped)
        self._remove_deferred()
        return True

    def _remove_deferred(self) -> None:
        """Remove what was to go once nobody uses it; that may set free what lies below."""
        for name, mapped in list(self.mapped.items()):
            if mapped.deferred_remove and name in self.mapped:
                self.remove_mapped(name, deferred=True)

    async def settle(self, everything: bool = False) -> None:
        """Let the targets of removed devices write what they owe; before close() those of all."""
        if everything:
            self._ending += [mapped for mapped in self.mapped.values() if mapped.must_settle]
        while self._ending:
            await self._ending.pop().end()

    def remove_view(self, name: str) -> None:
        """Forget a view, and evict its key from wherever no other view uses it.

        Raises: StackError(EBUSY) while it is open; KeyBusy while a bio uses the key.
        """
        if name not in self.views:
            raise StackError(f"{name!r} is not a view of this stack", errno.ENXIO)
        self._check_unused(name, ())
        self._evict_unshared(self.views[name])
        self.names.release(name)
        view = self.views.pop(name)
        del self._views_on[view.device][name]
        if not self._views_on[view.device]:
            del self._views_on[view.device]

    def remove_key(self, name: str) -> None:
        """Forget a key and overwrite its bytes.

        Raises: StackError(EBUSY) with the views that use it.
        """
        if name not in self.keys:
            raise StackError(f"{name!r} is not a key of this stack", errno.ENXIO)
        views = [view.name for view in self.views.values() if view.key is self.keys[name]]
        self._check_unused(name, views)
        self.keys.pop(name).wipe()

    async def close(self) -> None:
        """Close every disk and overwrite every key, whichever of them fails to close.

        Nothing may be in flight.
        Raises: OSError.
        """
        try:
            await close_disks(self.disks.values())
        finally:
            for key in self.keys.values():
                key.wipe()

    # Open files.

    def open(self, name: str) -> View:
        """Note that a name has been opened: it cannot be removed until closed() is called."""
        view = self.view(name)
        self.names.opened(view.name)
        return view

    def closed(self, name: str) -> None:
        """Note that an open name has been closed."""
        self.names.closed(name)
        if name in self.mapped and self.mapped[name].deferred_remove:
            self._remove_deferred()

    def _check_unused(self, name: str, holders: Iterable[str]) -> None:
        users = list(holders)
        if self.names.open_count(name):
            users.append(f"{self.names.open_count(name)} open files")
        if users:
            raise StackError(f"{name!r} is in use by {', '.join(users)}", errno.EBUSY)

    def _evict_unshared(self, view: View) -> None:
        assert view.key is not None, "a view in the table of views has a key"
        shared: set[KeyHolder] = set()
        for other in self.views.values():
            if other is not view and other.key is view.key:
                shared.update(other.device.key_users(view.key))
        own = [holder for holder in view.device.key_users(view.key) if holder not in shared]
        for holder in own:
            holder.check_evictable(view.key)
        for holder in own:
            holder.evict(view.key)


def _check_idle(device: BlockDevice) -> None:
    """A store closed under a bio, or a device forgotten with one, would lose it."""
    if device.stats.in_flight:
        text = f"{device.name!r} has {device.stats.in_flight} bios in flight"
        raise StackError(text, errno.EBUSY)
