"""Freezing the file systems on loop devices, so that what lies below them is consistent at rest.

A freeze writes all that is dirty, through the daemon, so a thread that serves the mount must never
do it. Who freezes a file system second is refused; then it is another's, and theirs to thaw. While
ours is frozen we keep a descriptor on it: the kernel lets a frozen file system be unmounted, which
leaves it and its loop device behind, frozen and out of reach.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

from fusedm.block.errors import StackError
from fusedm.host.loop import LoopDevice, attached_to
from fusedm.host.mounts import Mount, mounts_of_source, run_tool
from fusedm.host.partitions import make_nodes
from fusedm.host.write_back import write_back

#: Source: include/uapi/linux/fs.h.
FIFREEZE = 0xC0045877
FITHAW = 0xC0045878


class Freeze:
    """The file systems on the loop devices over some files, frozen together and thawed together.

    What is not mounted is synced. Its methods block and belong in a worker thread, but thaw_later.
    Owns: a descriptor on each file system that it froze, until it is thawed.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._frozen: dict[str, int] = {}
        # Held while freezing: what thaws waits for its end, and so does not miss any.
        self._lock = threading.Lock()

    @property
    def mount_points(self) -> list[str]:
        """Where what is frozen by it now is mounted."""
        return list(self._frozen)

    def freeze(self) -> None:
        """Freeze each file system once, wherever and however often it is mounted.

        Raises: StackError; what was frozen already is thawed then.
        """
        with self._lock:
            try:
                for device in attached_to(self._files):
                    self._freeze_device(device)
            except BaseException:
                self._thaw()
                raise

    def thaw(self) -> None:
        """Thaw what it froze; somebody may have done so before. I/O must be let in again by now."""
        with self._lock:
            self._thaw()

    def thaw_later(self) -> None:
        """The same, in a thread of its own that nobody waits for, as soon as freezing has ended."""
        threading.Thread(target=self.thaw, daemon=True).start()

    def _freeze_device(self, device: LoopDevice) -> None:
        parts = make_nodes(device.node)
        self._freeze_node(device.node, device.node, is_synced=not device.read_only)
        for part in parts:
            self._freeze_node(part.node, part.number, is_synced=not device.read_only)

    def _freeze_node(self, node: str, source: str, is_synced: bool) -> None:
        by_file_system: dict[str, list[Mount]] = {}
        for mount in mounts_of_source(source):
            by_file_system.setdefault(mount.device, []).append(mount)
        try:
            for mounts in by_file_system.values():
                self._freeze_mounted(mounts)
            if not by_file_system and is_synced:
                write_back(node)
        except OSError as error:
            where = next((m[0].mount_point for m in by_file_system.values()), node)
            raise StackError(
                f"{where}: cannot be frozen (nolockfs goes without): {error.strerror}", error.errno
            ) from None

    def _freeze_mounted(self, mounts: list[Mount]) -> None:
        """Freeze the file system that all of these mounts show."""
        mount_point, descriptor = _open_one(mounts)
        try:
            fcntl.ioctl(descriptor, FIFREEZE, 0)
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EOPNOTSUPP:
                run_tool("sync", "--file-system", mount_point)
            elif error.errno != errno.EBUSY:
                raise
        else:
            self._frozen[mount_point] = descriptor

    def _thaw(self) -> None:
        while self._frozen:
            _, descriptor = self._frozen.popitem()
            with suppress(OSError):
                fcntl.ioctl(descriptor, FITHAW, 0)
            os.close(descriptor)


def _open_one(mounts: list[Mount]) -> tuple[str, int]:
    """A mount point with a descriptor on its file system; others may be mounted upon it there.

    Raises: OSError.
    """
    for mount in mounts:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(mount.mount_point, flags)
        except FileNotFoundError:  # It may be of another root.
            continue
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as info:
            numbers = [line.split()[1] for line in info if line.startswith("mnt_id:")]
        if numbers == [str(mount.mount_id)]:
            return mount.mount_point, descriptor
        os.close(descriptor)
    raise OSError(errno.EBUSY, "something else is mounted upon it")
