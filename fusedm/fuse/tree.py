"""The tree a mount shows: what a path leads to, computed from the system as it is now. Pure.

    disks/NAME    the medium as it is             mapper/NAME   the device without context
    views/NAME    the device under a key          sys/block/    what the kernel's sysfs would say

Nothing here is kept: a device that is added or removed is there or gone at the next look. Only the
numbers of inodes are, in Inodes, for as long as the kernel remembers them.
"""

from collections.abc import Iterable, Mapping
from itertools import count

from fusedm.fuse.nodes import DeviceFile, Directory, Node, directory
from fusedm.fuse.sysfs import block_directory
from fusedm.system import System

Path = tuple[str, ...]

#: The folder of the mapped devices.
MAPPER = "mapper"


class Tree:
    """The names of a system, as paths."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._root = directory(
            {
                "disks": _device_files(system.disks),
                MAPPER: _device_files(system.mapped),
                "views": _device_files(system.views),
                "sys": directory({"block": Directory(lambda: system.names.created, self._block)}),
            }
        )

    def node(self, path: Path) -> Node | None:
        """What a path leads to now; None if to nothing."""
        node: Node | None = self._root
        for name in path:
            node = node.child(name) if isinstance(node, Directory) else None
        return node

    def names(self, path: Path) -> Iterable[str]:
        """The names in a directory; none if it has gone."""
        node = self.node(path)
        return node.names() if isinstance(node, Directory) else ()

    def _block(self, name: str) -> Node | None:
        return block_directory(self._system, name) if name in self._system.names.created else None


def _device_files(devices: Mapping[str, object]) -> Directory:
    return Directory(lambda: devices, lambda name: DeviceFile(name) if name in devices else None)


class Inodes:
    """Numbers of paths, while the kernel remembers them. A number is never given out twice.

    Owns: one entry for each path looked up and not yet forgotten.
    """

    ROOT = 1

    def __init__(self) -> None:
        self._next = count(self.ROOT + 1)
        self._paths: dict[int, Path] = {self.ROOT: ()}
        self._numbers: dict[Path, int] = {(): self.ROOT}
        self._lookups: dict[int, int] = {self.ROOT: 1}

    def path(self, inode: int) -> Path:
        """The path of a number the kernel knows."""
        return self._paths[inode]

    def look_up(self, path: Path) -> int:
        """The number of a path, which the kernel now remembers once more."""
        inode = self._numbers.get(path)
        if inode is None:
            inode = next(self._next)
            self._numbers[path] = inode
            self._paths[inode] = path
            self._lookups[inode] = 0
        self._lookups[inode] += 1
        return inode

    def forget(self, inode: int, times: int) -> None:
        """The kernel has forgotten a number as often as told."""
        self._lookups[inode] -= times
        assert self._lookups[inode] >= 0, f"inode {inode} forgotten too often"
        if not self._lookups[inode] and inode != self.ROOT:
            del self._lookups[inode]
            path = self._paths.pop(inode)
            if self._numbers.get(path) == inode:
                del self._numbers[path]

    def rename(self, old: Path, new: Path) -> None:
        """What the kernel knows by one path it knows by another now, which was nothing before."""
        gone = self._numbers.pop(new, None)
        if gone is not None:  # Remembered of a file that has gone, and may be asked about still.
            self._paths[gone] = ("",)
        inode = self._numbers.pop(old, None)
        if inode is not None:
            self._numbers[new] = inode
            self._paths[inode] = new

    def __len__(self) -> int:
        return len(self._paths)
