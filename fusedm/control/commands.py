"""Verbs: the only list of what a running stack can be asked, and what each answers.

A verb takes named arguments, checks their types against its signature, and answers with something
JSON can say. Names of verbs and of what they answer are the interface; see also the README.
"""

import errno
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fusedm.block import BlockDevice
from fusedm.block.capabilities import data_unit_sizes
from fusedm.block.errors import ControlError, StackError
from fusedm.control.dm_commands import DmCommands
from fusedm.control.freezing import Freezing
from fusedm.control.hardware_commands import HardwareCommands, decode_bytes
from fusedm.control.looking import Looking
from fusedm.control.protocol import Request
from fusedm.dm import MappedDevice, format_status, format_table
from fusedm.fuse import crypto_extents, keyslot_count, keyslots
from fusedm.stack import (
    DiskSpec,
    KeySpec,
    MapperSpec,
    Stack,
    ViewSpec,
    check_source,
    engine_from,
    format_spec,
)
from fusedm.system import System, View

Json = dict[str, Any]

#: Folder of the mount in which each kind of file is.
FOLDERS = {"disk": "disks", "mapped": "mapper", "view": "views"}


class Commands(Looking, HardwareCommands, DmCommands):
    """The verbs of one stack, with those that have modules of their own.

    stop is called to have the daemon end. The methods named verb_* are the verbs: a dot in the name
    of a verb is an underscore here.
    """

    def __init__(
        self, stack: Stack, mount_point: Path, stop: Callable[[], None], has_lane: bool = True
    ) -> None:
        super().__init__(stack, has_lane)
        self._freezing = Freezing(stack, mount_point)
        DmCommands.__init__(self, stack, mount_point, self._freezing)
        self._mount_point = mount_point
        self._stop = stop

    async def dispatch(self, request: Request) -> object:
        """Carry out a request.

        Raises: FusedmError; ControlError for an unknown verb or arguments it does not take.
        """
        verb = getattr(self, f"verb_{request.verb.replace('.', '_')}", None)
        if verb is None or "_" in request.verb:
            raise ControlError(f"verb {request.verb!r} is unknown")
        check_arguments(request, verb)
        result = verb(**request.args)
        return await result if inspect.isawaitable(result) else result

    @property
    def _system(self) -> System:
        return self._stack.system

    # The stack.

    def verb_status(self) -> Json:
        """What is running and how much of it."""
        system = self._system
        return {
            "mount_point": str(self._mount_point),
            "pid": os.getpid(),
            "strict": "linux" if system.strict else None,
            "disks": len(system.disks),
            "mapped": len(system.mapped),
            "keys": len(system.keys),
            "views": len(system.views),
            "suspended": [name for name, mapped in system.mapped.items() if mapped.suspended],
            "in_flight": sum(device.stats.in_flight for device in _devices(system)),
        }

    def verb_ls(self) -> list[Json]:
        """Every disk, mapped device and view."""
        return [self._file(name) for name in self._system.names.created]

    def verb_file(self, name: str) -> Json:
        """One of them."""
        self._system.view(name)
        return self._file(name)

    def verb_save(self) -> str:
        """The stack file that brings up the stack as it is now."""
        return format_spec(self._stack.spec())

    def verb_stop(self, force: bool = False) -> None:
        """End the daemon; files that are open refuse it, unless forced."""
        open_now = [
            name for name in self._system.names.created if self._system.names.open_count(name)
        ]
        if open_now and not force:
            raise StackError(f"{', '.join(open_now)}: open", errno.EBUSY)
        self._stop()

    # Disks.

    async def verb_disk_add(
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

    async def verb_disk_remove(self, name: str) -> None:
        """Remove a disk."""
        await self._stack.remove_disk(name)

    def verb_disk_show(self, name: str) -> Json:
        """All about a disk."""
        return self._describe(self._system.disk(name))

    async def verb_disk_losepower(
        self, name: str, keep: Literal["nothing", "random", "everything"] = "random"
    ) -> None:
        """Lose what a disk's volatile cache has not flushed."""
        await self._stack.lose_power(name, keep)

    async def verb_disk_loseengine(self, name: str) -> None:
        """Take the engine of a disk away under I/O."""
        await self._stack.lose_engine(name)

    async def verb_disk_gainengine(self, name: str, engine: dict[str, Any]) -> None:
        """Give a disk without engine one under I/O; engine as for disk.add."""
        await self._stack.gain_engine(name, engine_from(engine))

    # Mapped devices.

    async def verb_dm_add(
        self, name: str, table: str = "", uuid: str = "", read_only: bool = False
    ) -> None:
        """Add a mapped device; a table is loaded and resumed."""
        await self._stack.add_mapped(MapperSpec(name, table, uuid, read_only))

    async def verb_dm_remove(self, name: str) -> None:
        """Remove a mapped device."""
        self._system.remove_mapped(name)
        await self._system.settle()

    async def verb_dm_load(self, name: str, table: str, read_only: bool = False) -> None:
        """Load the inactive table."""
        await self._system.load_opened(name, table, read_only)

    def verb_dm_clear(self, name: str) -> None:
        """Drop the inactive table."""
        self._system.clear(name)

    async def verb_dm_suspend(
        self, name: str, noflush: bool = False, nolockfs: bool = False
    ) -> None:
        """Freeze what is mounted on a device, then suspend it and wait for bios in flight.

        nolockfs does not freeze; nor does noflush.
        """
        mapped = self._system.mapped_device(name)
        await self._freezing.suspend(mapped, lockfs=not (noflush or nolockfs))

    async def verb_dm_resume(
        self, name: str, noflush: bool = False, nolockfs: bool = False
    ) -> None:
        """Make the inactive table live, let bios in, and thaw; loop devices get the new size.

        A device that is not suspended is so for the swap, frozen before as for dm.suspend.
        """
        mapped = self._system.mapped_device(name)
        await self._freezing.resume(mapped, lockfs=not (noflush or nolockfs))

    async def verb_dm_resumeall(self) -> None:
        """Resume every suspended device that has a table, and thaw all."""
        await self._freezing.resume_all()

    async def verb_dm_message(self, name: str, sector: int, words: list[str]) -> str:
        """Give a message to the target of a sector; its reply, empty if there is none."""
        return await self._system.mapped_device(name).message(sector, words)

    async def verb_dm_wait(self, name: str, event: int) -> int:
        """Wait until another number of events has been counted than this; which."""
        mapped = self._system.mapped_device(name)
        await mapped.wait_event(event)
        return mapped.event_number

    async def verb_dm_rename(self, name: str, new: str) -> None:
        """Call a mapped device something else, for the kernel too: loop devices show the new path.

        The kernel passes that on to this daemon, which is where it is done.
        """
        await self.rename_in_mount(self._system.mapped_device(name), new)

    def verb_dm_table(self, name: str, inactive: bool = False) -> str:
        """The live table, or the inactive one."""
        mapped = self._system.mapped_device(name)
        table = mapped.inactive if inactive else mapped.live
        return format_table(table) if table is not None else ""

    def verb_dm_status(self, name: str) -> str:
        """What the targets of the live table say."""
        live = self._system.mapped_device(name).live
        return format_status(live) if live is not None else ""

    def verb_dm_show(self, name: str) -> Json:
        """All about a mapped device."""
        return self._describe(self._system.mapped_device(name))

    # Keys.

    async def verb_key_add(
        self,
        name: str,
        mode: str,
        data_unit_size: int,
        dun_bytes: int,
        source: str,
        raw: str | None = None,
        type: Literal["raw", "hw-wrapped"] = "raw",
        wrapped_by: str = "",
    ) -> None:
        """Add a key; raw is its bytes in base64, read from the source by the client.

        A hw-wrapped key is long-term and prepared by the engine of the device wrapped_by; without
        wrapped_by it is prepared already.
        """
        check_source(source)
        if raw is None and source != "random":
            # The environment and the descriptors that are meant are the client's.
            raise ControlError(f"key.add: raw is needed with source {source!r}")
        spec = KeySpec(name, mode, data_unit_size, dun_bytes, source, type, wrapped_by)
        given = decode_bytes("key.add: raw", raw) if raw is not None else None
        await self._stack.add_key(spec, given)

    def verb_key_remove(self, name: str) -> None:
        """Remove a key."""
        self._stack.remove_key(name)

    def verb_key_list(self) -> list[Json]:
        """Every key, without its bytes."""
        return [
            {
                "name": key.name,
                "type": key.config.key_type.value,
                "mode": key.config.mode,
                "data_unit_size": key.config.data_unit_size,
                "dun_bytes": key.config.dun_bytes,
                "views": [v.name for v in self._system.views.values() if v.key is key],
            }
            for key in self._system.keys.values()
        ]

    # Views.

    def verb_view_add(
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

    def verb_view_remove(self, name: str) -> None:
        """Remove a view."""
        self._system.remove_view(name)

    def verb_view_show(self, name: str) -> Json:
        """All about a view."""
        if name not in self._system.views:
            raise StackError(f"{name!r} is not a view of this stack", errno.ENXIO)
        return self._file(name)

    # What is told.

    def _file(self, name: str) -> Json:
        view = self._system.view(name)
        kind = _kind(self._system, name)
        told = {
            "name": name,
            "kind": kind,
            "path": str(self._mount_point / FOLDERS[kind] / name),
            "size": view.size,
            "ro": view.read_only,
            "log_sec": view.block_size,
            "open": self._system.names.open_count(name),
            "below": [device.name for device in _below(view)],
            "suspended": isinstance(view.device, MappedDevice) and view.device.suspended,
        }
        if view.key is not None:
            told |= {"key": view.key.name, "dun_base": view.dun_base, "start": view.start}
        return told

    def _describe(self, device: BlockDevice) -> Json:
        modes = {name: data_unit_sizes(mask) for name, mask in device.capabilities.modes.items()}
        told = self._file(device.name) | {
            "holders": self._system.holders(device.name),
            "sectors": device.sector_count,
            "native_modes": modes,
            "max_dun_bytes": device.capabilities.max_dun_bytes,
            "keyslots": keyslot_count(device),
            "slots": keyslots(device),
            "crypto_extents": crypto_extents(device),
        }
        if isinstance(device, MappedDevice):
            told |= {
                "uuid": device.uuid,
                "suspending": device.is_suspending,
                "events": device.event_number,
                "tables": [
                    which
                    for which, table in (("live", device.live), ("inactive", device.inactive))
                    if table is not None
                ],
            }
        return told


def check_arguments(request: Request, verb: Callable[..., object]) -> None:
    """Refuse arguments that are missing, unknown or of the wrong type.

    Raises: ControlError naming the argument.
    """
    parameters = inspect.signature(verb).parameters
    hints = get_type_hints(verb)
    for name, value in request.args.items():
        if name not in parameters:
            raise ControlError(f"{request.verb}: argument {name!r} is unknown")
        if not _fits(value, hints[name]):
            raise ControlError(f"{request.verb}: argument {name} is of the wrong type")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in request.args:
            raise ControlError(f"{request.verb}: argument {name!r} is missing")


def _fits(value: object, hint: Any) -> bool:
    """Whether a JSON value is of a hinted type; true and false are no numbers."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is Any:
        return True
    if kind is Literal:
        return value in inner
    if kind in (Union, UnionType):
        return any(_fits(value, choice) for choice in inner)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        return False
    if isinstance(value, dict):
        return all(_fits(item, inner[1]) for item in value.values())
    if isinstance(value, list):
        return all(_fits(item, inner[0]) for item in value)
    return True


def _devices(system: System) -> Iterable[BlockDevice]:
    yield from system.disks.values()
    yield from system.mapped.values()


def _kind(system: System, name: str) -> str:
    if name in system.views:
        return "view"
    return "disk" if name in system.disks else "mapped"


def _below(view: View) -> Iterable[BlockDevice]:
    return [view.device] if view.key is not None else list(view.device.underlying())
