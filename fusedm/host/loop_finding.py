"""Which loop device is ours.

Loop devices are the machine's, and a path is another file in each mount namespace: two containers
have one `/run/fusedm` each, and see the same loop devices. So it is told by the file that the
driver says a device lies over, never by the name in sysfs, which only says which are worth asking.
The driver asks the file system of that file, so a loop device over one that hangs is not asked
unless it may be ours. Over a daemon that was killed nobody can say: then the name counts, if it
leads through the mounts of this namespace and of no other.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusedm.host import loop_control
from fusedm.host.loop_control import SYS_BLOCK, FileId, LoopStatus, make_missing_loop_node, opened
from fusedm.host.mounts import Mount, is_remote, lies_under, mount_over, read_mounts, resolve
from fusedm.host.process import read_from_root


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """An attached loop device; logical_block_size is in bytes.

    backing_file is a name for people. file is what it lies over, None where that cannot be asked:
    because its daemon has died, or we are not root. sequence is this attaching's own number.
    is_whole says that it begins where the file does and ends where that does.
    """

    node: str
    backing_file: str
    logical_block_size: int
    direct_io: bool
    read_only: bool
    file: FileId | None = None
    sequence: int = 0
    is_whole: bool = True


def loop_device(node: str) -> LoopDevice | None:
    """The loop device of a node, if something is attached to it."""
    name = _name_in_sysfs(os.path.basename(node))
    return _ask(os.path.basename(node), name) if name is not None else None


def attached(prefix: str) -> list[LoopDevice]:
    """Every loop device over this file, or over any file below this folder, in order of number.

    Not root, we cannot ask what they lie over: then the names are all there is to tell.
    """
    path, table = resolve(prefix), read_mounts()
    mount = mount_over(path, table)
    device = _number(mount)
    if mount.mount_point == path and is_remote(mount):
        return attached_on(device, path)
    last = os.path.basename(path)

    def may_be(name: str) -> bool:
        return lies_under(name, path) or _may_be(name, last, device, table)

    return _find(may_be, lambda found: _is_over([path], found) or _lies_under(found, path))


def attached_on(device: int, mount_point: str | None = None) -> list[LoopDevice]:
    """Every loop device over a file of the file system with this number, as stat has it.

    At its mount point, if that is given, what its dead daemon has left is looked for too.
    """
    table = read_mounts()
    return _find(
        lambda name: not _is_foreign(name, device, table),
        lambda found: (
            (found.file is not None and found.file.device == device)
            or (mount_point is not None and _lies_under(found, mount_point))
        ),
    )


def unproved(mount_point: str) -> list[LoopDevice]:
    """The loop devices that a dead daemon may have left, where only has_lost_way can tell.

    Right below `/` every way looks alike.
    """
    if os.path.dirname(mount_point) != "/" or os.geteuid() != 0:
        return []
    return _find(lambda name: lies_under(name, mount_point), lambda found: found.file is None)


def has_lost_way(device: LoopDevice, mount_point: str) -> bool:
    """Whether the name of a device no more leads through a mount that has just been taken away."""
    name = _name_in_sysfs(os.path.basename(device.node))
    return is_attached(device) and name is not None and not lies_under(name, mount_point)


def attached_to(files: Collection[str]) -> list[LoopDevice]:
    """Every loop device over one of these files, by whatever name; their daemon has to answer.

    Not root, we go by the names.
    """
    known = dict(file_ids(files))
    if not known:
        return []
    table = read_mounts()
    devices: dict[str, set[int]] = {}
    for file, found in known.items():
        devices.setdefault(os.path.basename(file), set()).add(found.device)
    ids, elsewhere = set(known.values()), {found.device for found in known.values()}

    def may_be(name: str) -> bool:
        same = devices.get(os.path.basename(name))
        if same is not None:
            return any(not _is_foreign(name, device, table) for device in same)
        return _is_mount_of(name, elsewhere, table)

    def is_it(device: LoopDevice) -> bool:
        return device.file in ids if os.geteuid() == 0 else device.backing_file in files

    return _find(may_be, is_it)


def is_attached(device: LoopDevice) -> bool:
    """Whether a device is still attached as it was, not to something else or anew."""
    is_so = has_sequence(device.node, device.sequence)
    return is_so and (bool(device.sequence) or loop_device(device.node) == device)


def has_sequence(node: str, sequence: int) -> bool:
    """Whether a loop device is attached under this number; nobody is asked who may hang."""
    entry = os.path.basename(node)
    return _name_in_sysfs(entry) is not None and _sequence(entry) == sequence


def _find(may_be: Callable[[str], bool], is_it: Callable[[LoopDevice], bool]) -> list[LoopDevice]:
    """The attached devices that are it, of those that may be by their names in sysfs."""
    entries: list[str] = []
    with suppress(FileNotFoundError):  # Without sysfs, as in a bare chroot.
        entries = [entry for entry in os.listdir(SYS_BLOCK) if entry.startswith("loop")]
    found = []
    for entry in sorted(entries, key=lambda name: (len(name), name)):
        name = _name_in_sysfs(entry)
        if name is not None and may_be(name):
            device = _ask(entry, name)
            if device is not None and is_it(device):
                found.append(device)
    return found


def _name_in_sysfs(entry: str) -> str | None:
    """What sysfs calls the file below a loop device; None for a free one."""
    try:
        name = _read(SYS_BLOCK / entry / "loop/backing_file")
    except OSError:
        return None
    # The kernel marks a file whose name is gone, which a FUSE file's may be for a moment.
    return name.removesuffix(" (deleted)")


def _ask(entry: str, name: str) -> LoopDevice | None:
    """What the driver says of an attached loop device; None if it is free by now."""
    sequence = _sequence(entry)
    try:
        told = _told(entry) if os.geteuid() == 0 else None
        directory = SYS_BLOCK / entry
        device = LoopDevice(
            node=f"/dev/{entry}",
            backing_file=name,
            logical_block_size=int(_read(directory / "queue/logical_block_size")),
            direct_io=_read(directory / "loop/dio") == "1",
            read_only=_read(directory / "ro") == "1",
            file=told.file if told is not None else None,
            sequence=sequence,
            is_whole=told is None or not (told.offset or told.size_limit),
        )
    except OSError:
        return None
    # Attached anew meanwhile, it is not what was asked about.
    return device if _sequence(entry) == sequence else None


def _told(entry: str) -> LoopStatus | None:
    """What the driver tells; None if the daemon below has died. Raises: OSError if it is free."""
    with opened(make_missing_loop_node(entry)) as descriptor:
        try:
            return loop_control.status(descriptor)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise
            return None


def _sequence(entry: str) -> int:
    """The number that each attaching gets anew and none gets twice; 0 before Linux 5.15."""
    try:
        return int(_read(SYS_BLOCK / entry / "diskseq"))
    except OSError:
        return 0


def _is_over(files: Collection[str], device: LoopDevice) -> bool:
    if os.geteuid() != 0:
        return device.backing_file in files
    return any(found == device.file for _, found in file_ids(files))


def file_ids(files: Collection[str]) -> Iterator[tuple[str, FileId]]:
    """Files by their paths, and which they are; one that is not there is left out."""
    for file in files:
        with suppress(OSError):
            yield file, FileId.of(file)


def _lies_under(device: LoopDevice, path: str) -> bool:
    """Whether a device lies over what is at a path or below it here, if its name says so.

    The file that has the name is looked at; where there is none (any more), or its daemon is dead,
    the way to it is.
    """
    name = device.backing_file
    if not lies_under(name, path):
        return False
    if os.geteuid() != 0:
        return True
    if device.file is not None:
        with suppress(OSError):
            return FileId.of(name) == device.file
    mount = mount_over(path)
    root = os.path.dirname(mount.mount_point if is_remote(mount) else path)
    seen = read_from_root(root, SYS_BLOCK / os.path.basename(device.node) / "loop/backing_file")
    if root == "/" or seen is None:
        return False
    return os.fsdecode(seen).rstrip("\n").removesuffix(" (deleted)") == name.removeprefix(root)


def _may_be(name: str, last: str, device: int, table: list[Mount]) -> bool:
    """Whether a name in sysfs may be of a file on a device whose own name is last.

    Whichever way leads to a file, its own name ends it, but where a mount shows it alone.
    """
    if os.path.basename(name) == last:
        return not _is_foreign(name, device, table)
    return _is_mount_of(name, {device}, table)


def _is_mount_of(name: str, devices: Collection[int], table: list[Mount]) -> bool:
    other = next((m for m in reversed(table) if m.mount_point == name), None)
    return other is not None and _number(other) in devices


def _is_foreign(name: str, device: int, table: list[Mount]) -> bool:
    """Whether a name leads to a mount of another device that may hang: it is not to be asked."""
    other = mount_over(name, table)
    return is_remote(other) and _number(other) != device


def _number(mount: Mount) -> int:
    major, minor = map(int, mount.device.split(":"))
    return os.makedev(major, minor)


def _read(file: Path) -> str:
    return os.fsdecode(file.read_bytes()).removesuffix("\n")
