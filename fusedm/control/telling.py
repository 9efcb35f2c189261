"""What is told of files and devices: what each is, what lies below it, and how it encrypts."""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fusedm.block import BlockDevice
from fusedm.block.capabilities import data_unit_sizes
from fusedm.block.errors import StackError
from fusedm.dm import MappedDevice
from fusedm.fuse import crypto_extents, keyslot_count, keyslots
from fusedm.stores import WaitingStore
from fusedm.system import System, View

Json = dict[str, Any]

#: Folder of the mount in which each kind of file is.
FOLDERS = {"disk": "disks", "mapped": "mapper", "view": "views"}


class Telling:
    """Tells of the disks, mapped devices and views of one system; each public method is a verb.

    Without a mount, mount_point is the socket of its NBD server.
    """

    def __init__(self, system: System, mount_point: Path, has_mount: bool = True) -> None:
        self._system = system
        self._mount_point = mount_point
        self._has_mount = has_mount

    def ls(self) -> list[Json]:
        """Every disk, mapped device and view."""
        return [self._file(name) for name in self._system.names.created]

    def file(self, name: str) -> Json:
        """One of them."""
        self._system.view(name)
        return self._file(name)

    def disk(self, name: str) -> Json:
        """All about a disk."""
        disk = self._system.disk(name)
        told = self._describe(disk)
        return told | {"store": disk.store.state} if isinstance(disk.store, WaitingStore) else told

    def mapped(self, name: str) -> Json:
        """All about a mapped device."""
        return self._describe(self._system.mapped_device(name))

    def view(self, name: str) -> Json:
        """All about a view."""
        if name not in self._system.views:
            raise StackError(f"{name!r} is not a view of this stack", errno.ENXIO)
        return self._file(name)

    def _file(self, name: str) -> Json:
        view = self._system.view(name)
        kind = _kind(self._system, name)
        told = {
            "name": name,
            "kind": kind,
            "path": self._path(kind, name),
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

    def _path(self, kind: str, name: str) -> str:
        """Its file, or where there is none, its export."""
        if self._has_mount:
            return str(self._mount_point / FOLDERS[kind] / name)
        return f"nbd+unix:///{quote(name)}?socket={quote(str(self._mount_point))}"

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


def _kind(system: System, name: str) -> str:
    if name in system.views:
        return "view"
    return "disk" if name in system.disks else "mapped"


def _below(view: View) -> Iterable[BlockDevice]:
    return [view.device] if view.key is not None else list(view.device.underlying())
