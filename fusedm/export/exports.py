"""What one server offers: disks, mapped devices and views by the names of their files."""

from collections.abc import Sequence
from itertools import count

from fusedm.block.errors import FusedmError
from fusedm.files import Handles, OpenDevice
from fusedm.nbd import Exported, ExportFlag
from fusedm.system import System, View

_ALWAYS = (
    ExportFlag.HAS_FLAGS
    | ExportFlag.SEND_FLUSH
    | ExportFlag.SEND_FUA
    | ExportFlag.SEND_WRITE_ZEROES
    | ExportFlag.SEND_DF
    | ExportFlag.SEND_CACHE
    # What was flushed on one connection was written on any: they are all the same open device.
    | ExportFlag.CAN_MULTI_CONN
)

_numbers = count(1)


class Exports:
    """The exports of one server: those of the given names, or of all there are.

    handles are shared by all servers of a daemon: each has the open device of one client.
    """

    def __init__(
        self, system: System, handles: Handles, names: Sequence[str], read_only: bool
    ) -> None:
        self.system = system
        self.handles = handles
        self._only = frozenset(names)
        self._read_only = read_only

    def names(self) -> list[str]:
        """Of every export, in order of age."""
        there = self.system.names.created
        return [name for name in there if not self._only or name in self._only]

    def find(self, asked_for: str) -> str | None:
        """The name that a client means by NAME, by the path in the mount, or by nothing.

        Nothing is the only export, if there is only one.
        """
        names = self.names()
        folder, _, name = asked_for.strip("/").rpartition("/")
        if not name:
            return names[0] if len(names) == 1 else None
        if folder and folder != self._folder(name):
            return None
        return name if name in names else None

    def told(self, name: str) -> Exported:
        """What is told of an export."""
        view = self.system.view(name)
        flags = _ALWAYS
        if self.is_read_only(view):
            flags |= ExportFlag.READ_ONLY
        if view.takes_discards:
            flags |= ExportFlag.SEND_TRIM
        return Exported(view.size, flags, view.block_size)

    def is_read_only(self, view: View) -> bool:
        """Whether the server lets nobody write to a view."""
        return self._read_only or view.read_only

    def _folder(self, name: str) -> str:
        """The folder of the mount in which the file of a name is."""
        if name in self.system.views:
            return "views"
        return "disks" if name in self.system.disks else "mapper"


class ClientOffer:
    """What there is for one client, and what it has opened: its open device counts as a file's."""

    def __init__(self, exports: Exports) -> None:
        self._exports = exports
        self.handle = 0

    def names(self) -> Sequence[str]:
        """Of every export."""
        return self._exports.names()

    def look_up(self, name: str) -> Exported | None:
        """What is told of an export; None if there is none of that name."""
        found = self._exports.find(name)
        return self._exports.told(found) if found is not None else None

    def open(self, name: str) -> Exported | None:
        """The same, and it stays until close."""
        found = self._exports.find(name)
        if found is None:
            return None
        try:
            opened = OpenDevice(self._exports.system.open(found), durable_writes=False)
        except FusedmError:
            return None  # It is going just now.
        self.handle = next(_numbers)
        self._exports.handles[self.handle] = opened
        return self._exports.told(found)

    @property
    def opened(self) -> OpenDevice:
        """The open device of a client that has chosen an export."""
        opened = self._exports.handles[self.handle]
        assert isinstance(opened, OpenDevice), "only devices are exported"
        return opened

    def close(self) -> None:
        """Let go of what the client had open, if anything."""
        opened = self._exports.handles.pop(self.handle, None)
        if isinstance(opened, OpenDevice):
            self._exports.system.closed(opened.view.name)
