"""Device mapper as its clients have it: the verbs dm.* of a running stack, with their types."""

import os
from collections.abc import Callable
from typing import Any

from fusedm.block.device_mapper import DeviceInfo, Name, Number, TargetLine
from fusedm.control.wire import decode


class MapperClient:
    """The mapped devices of a stack that another process serves; call has a verb carried out.

    What each verb does is told where it is done, in stack.DeviceMapper.
    Raises: every verb FusedmError as the daemon refuses it, and what call raises.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def ls(self) -> list[DeviceInfo]:
        """Every mapped device, in order of name."""
        return decode(list[DeviceInfo], self._call("dm.ls"))

    def targets(self) -> list[tuple[str, tuple[int, int, int]]]:
        """The types of targets there are, and their versions."""
        return decode(list[tuple[str, tuple[int, int, int]]], self._call("dm.targets"))

    def info(self, name: Name) -> DeviceInfo:
        """One of them."""
        return self._change("info", name=name)

    def add(
        self,
        name: str,
        table: str = "",
        uuid: str = "",
        read_only: bool = False,
        minor: int | None = None,
    ) -> DeviceInfo:
        """Make a device; a table is loaded and made live."""
        args = {"table": table, "uuid": uuid, "read_only": read_only, "minor": minor}
        return self._change("add", name=name, folder=_folder(), **args)

    def load(self, name: Name, table: str, read_only: bool = False) -> DeviceInfo:
        """Load the inactive table."""
        args = {"table": table, "read_only": read_only, "folder": _folder()}
        return self._change("load", name=name, **args)

    def clear(self, name: Name) -> DeviceInfo:
        """Drop it."""
        return self._change("clear", name=name)

    def suspend(self, name: Name, noflush: bool = False, nolockfs: bool = False) -> DeviceInfo:
        """Suspend a device."""
        return self._change("suspend", name=name, noflush=noflush, nolockfs=nolockfs)

    def resume(self, name: Name, noflush: bool = False, nolockfs: bool = False) -> DeviceInfo:
        """Make the inactive table live, if any, and let bios in."""
        return self._change("resume", name=name, noflush=noflush, nolockfs=nolockfs)

    def remove(self, name: Name, deferred: bool = False) -> bool:
        """Remove a device; whether it has gone."""
        return decode(bool, self._call("dm.remove", name=name, deferred=deferred))

    def rename(self, name: Name, new: str) -> DeviceInfo:
        """Give a device another name."""
        return self._change("rename", name=name, new=new)

    def set_uuid(self, name: Name, uuid: str) -> DeviceInfo:
        """Give a device the UUID it has none of."""
        return self._change("setuuid", name=name, uuid=uuid)

    def set_number(self, name: Name, number: Number | None) -> None:
        """Have a device known by the number of a block device, or no more."""
        self._call("dm.setnumber", name=name, number=number)

    def table(
        self, name: Name, inactive: bool = False, keys: bool = False, numbers: bool = False
    ) -> list[TargetLine]:
        """The live table or the inactive one."""
        return self._lines("table", name=name, inactive=inactive, keys=keys, numbers=numbers)

    def status(self, name: Name, inactive: bool = False, numbers: bool = False) -> list[TargetLine]:
        """What the targets of a table say of themselves."""
        return self._lines("status", name=name, inactive=inactive, numbers=numbers)

    def deps(self, name: Name, inactive: bool = False) -> tuple[Number, ...]:
        """The numbers of the devices below a table."""
        return decode(tuple[Number, ...], self._call("dm.deps", name=name, inactive=inactive))

    def message(self, name: Name, sector: int, words: list[str]) -> str:
        """Give a message to the target of a sector; its reply."""
        return decode(str, self._call("dm.message", name=name, sector=sector, words=words))

    def wait(self, name: Name, event: int) -> DeviceInfo:
        """Wait until another number of events than this has been counted."""
        return self._change("wait", name=name, event=event)

    def _change(self, verb: str, **args: object) -> DeviceInfo:
        return decode(DeviceInfo, self._call(f"dm.{verb}", **args))

    def _lines(self, verb: str, **args: object) -> list[TargetLine]:
        return decode(list[TargetLine], self._call(f"dm.{verb}", **args))


def _folder() -> str:
    """Where the paths begin that are meant here; one that has been removed has nothing in it."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"
