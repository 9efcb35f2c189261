"""Device nodes of mapped devices: DIR/mapper/NAME, with the number of the loop device below.

They are nodes of their own, not links: libmount and test suites compare names, and a link would be
followed to the loop device. Who wants what udev makes, links to names that sysfs knows, says so by
FUSEDM_NODES=links. Others may have theirs in the same folder. So what is ours is told by a
record of each, in a folder that only its user may write to, and by the number it was made with;
a record is written before its node is made and removed after it.
"""

import errno
import grp
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fusedm.block.errors import StackError, UsageError
from fusedm.block.names import MAX_NAME_BYTES, check_name
from fusedm.host import loop
from fusedm.host.loop_finding import LoopDevice, has_sequence, loop_device
from fusedm.host.mounts import device_of_node

#: Where nodes are unless the environment names another folder.
DEV_DIR = "/dev"
DEV_DIR_VARIABLE = "DM_DEV_DIR"

#: The number of device mapper's own node.
CONTROL = (10, 236)

#: What has nodes be links, and how that is said.
LINKS_VARIABLE, LINKS = "FUSEDM_NODES", "links"

#: As those of udev's rules for disks.
NODE_MODE = 0o660
NODE_GROUP = "disk"

#: How the records of nodes end, in a folder that others' files are in too.
RECORD_ENDING = ".node"

#: What names of nodes are made of as it is.  Source: libdevmapper, and udev.
_PLAIN = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#+-.:=@_")
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A node of ours: device is its number ("7:3"), sequence that of its loop device's attaching.

    inode is the node's own, 0 where whoever made it was stopped before it could be recorded.
    is_link: it is a link to the loop device's own node.
    """

    path: str
    device: str
    loop_node: str
    sequence: int
    inode: int = 0
    is_link: bool = False

    @property
    def is_there(self) -> bool:
        """Whether the node at its path is still the one that was made."""
        with suppress(OSError):
            is_same = not self.inode or os.lstat(self.path).st_ino == self.inode
            is_same &= os.path.islink(self.path) == self.is_link
            return is_same and device_of_node(self.path) == self.device
        return False

    @property
    def is_stale(self) -> bool:
        """Whether its loop device is free by now, or was attached anew by anybody."""
        return not has_sequence(self.loop_node, self.sequence)


def dev_dir() -> str:
    """The folder that nodes are below: DM_DEV_DIR or /dev.

    Raises: UsageError if it is not an absolute path.
    """
    told = os.environ.get(DEV_DIR_VARIABLE) or DEV_DIR
    if not told.startswith("/"):
        raise UsageError(f"{DEV_DIR_VARIABLE}={told}: is not an absolute path", errno.EINVAL)
    return told.rstrip("/") or "/"


def mangle(name: str) -> str:
    r"""A name as its node has it: a byte that is not plain becomes \xNN; escaped ones stay so.

    Raises: StackError(EINVAL) for a name that is escaped in part, or cannot be a node's.
    """
    check_name("mapped device", name.replace(" ", ""))
    raw = os.fsencode(name)
    rest = _ESCAPE.sub(b"", raw)
    is_escaped, is_plain = rest != raw, set(rest) <= _PLAIN
    if (is_escaped and not is_plain) or b"\\x" in rest:
        raise StackError(f"mapped device name {name!r} is escaped in part", errno.EINVAL)
    if not is_escaped and not is_plain:
        raw = b"".join(bytes([b]) if b in _PLAIN else b"\\x%02x" % b for b in raw)
    if len(raw) > MAX_NAME_BYTES:
        text = f"mapped device name: {len(raw)} bytes when escaped, at most {MAX_NAME_BYTES}"
        raise StackError(text, errno.ENAMETOOLONG)
    return os.fsdecode(raw)


def unmangle(name: str) -> str:
    r"""A name with its \xNN undone."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(name)))


def node_path(name: str, directory: str | None = None) -> str:
    """Where the node of a mapped device is; directory is else that of dev_dir."""
    return os.path.join(directory or dev_dir(), "mapper", mangle(name))


def make(name: str, device: LoopDevice, records: Path, directory: str | None = None) -> DeviceNode:
    """Make the node of a mapped device over an attached loop device.

    One of ours that is there already is used, or replaced if it is to be another one.
    Raises: StackError(EEXIST) for what is there and not ours; UsageError where it may not be made.
    """
    path = node_path(name, directory)
    number = device_of_node(device.node)
    if number is None:
        raise StackError(f"{device.node}: is no block device", errno.ENODEV)
    is_link = os.environ.get(LINKS_VARIABLE) == LINKS
    node = DeviceNode(path, number, device.node, device.sequence, is_link=is_link)
    before = find(path, records)
    if before is not None and before.is_there and not node.is_there:
        os.unlink(path)
    elif os.path.lexists(path) and (before is None or not before.is_there):
        raise StackError(f"{path}: is there already and not ours", errno.EEXIST)
    _write_record(node, records)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not node.is_there:
            _make(node)
        node = replace(node, inode=os.lstat(path).st_ino)
        _write_record(node, records)
    except OSError as error:
        # What came there meanwhile is not ours.
        _forget(node, records)
        text = f"{path}: cannot be made: {error.strerror}"
        if error.errno == errno.EEXIST:
            raise StackError(text, error.errno) from None
        raise UsageError(text, error.errno) from None
    return node


def remove(node: DeviceNode, records: Path) -> None:
    """Remove a node of ours; what others have put in its place stays."""
    if node.is_there:
        with suppress(FileNotFoundError):
            os.unlink(node.path)
    _forget(node, records)


def rename(node: DeviceNode, name: str, records: Path) -> DeviceNode:
    """Give a node of ours another name, in the folder it is in.

    Raises: StackError(EEXIST) for a name that is taken; then nothing has changed.
    """
    path = os.path.join(os.path.dirname(node.path), mangle(name))
    renamed = replace(node, path=path)
    if path == node.path:
        return node
    if os.path.lexists(path):
        raise StackError(f"{path}: is there already", errno.EEXIST)
    _write_record(renamed, records)
    try:
        # A rename would replace what has come there meanwhile.
        os.link(node.path, path, follow_symlinks=False)
    except OSError as error:
        _forget(renamed, records)
        raise StackError(f"{path}: cannot be made: {error.strerror}", error.errno) from None
    remove(node, records)
    return renamed


def ours(records: Path) -> list[DeviceNode]:
    """Every node that a record tells of, in order of path, whether it is still there or not."""
    return sorted(_read_records(records), key=lambda node: node.path)


def find(path: str, records: Path) -> DeviceNode | None:
    """What the record of a node's path tells."""
    return _read_record(_record_of(path, records))


def make_control(directory: str) -> None:
    """Make DIR/mapper/control, by which scripts tell whether there is device mapper.

    Nothing is behind it. Only root makes it, and where it cannot be made there is none.
    """
    path = os.path.join(directory, "mapper", "control")
    if os.geteuid() == 0 and not os.path.lexists(path):
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(*CONTROL))


def remove_control(directory: str) -> None:
    """Remove it, unless it leads to something: a kernel that has device mapper."""
    folder = os.path.join(directory, "mapper")
    path = os.path.join(folder, "control")
    with suppress(OSError):
        info = os.lstat(path)
        is_ours = stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(*CONTROL)
        if is_ours and "device-mapper" not in Path("/proc/misc").read_text():
            os.unlink(path)
            os.rmdir(folder)


def clear_stale(records: Path) -> list[str]:
    """Remove the nodes of ours whose loop device has gone; what was done."""
    done = []
    for node in ours(records):
        if node.is_stale:
            if node.is_there:
                done.append(f"removed the stale node {node.path}")
            remove(node, records)
    return done


def release_dead(records: Path, force: bool = False) -> list[str]:
    """Detach the loop devices of our nodes whose daemon has died; what was done.

    The record proves that a device is ours, in whatever mount namespace its daemon was.
    Raises: StackError(EBUSY).
    """
    done = []
    for node in ours(records):
        device = None if node.is_stale else loop_device(node.loop_node)
        if device is not None and device.file is None and os.geteuid() == 0:
            loop.detach(device, force)
            done.append(f"detached {device.node} from {device.backing_file}")
    return done


def link_target(path: str, loop_node: str) -> str:
    """What a link at a path says: as udev's do, where the loop devices are in the folder above."""
    folder, name = os.path.split(loop_node)
    return f"../{name}" if folder == os.path.dirname(os.path.dirname(path)) else loop_node


def _make(node: DeviceNode) -> None:
    """Make a node that nobody but root may open until it is as it should be, or a link."""
    path = node.path
    if node.is_link:
        os.symlink(link_target(path, node.loop_node), path)
        return
    major, minor = map(int, node.device.split(":"))
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))
    with suppress(KeyError, PermissionError):
        os.chown(path, 0, grp.getgrnam(NODE_GROUP).gr_gid)
        os.chmod(path, NODE_MODE)


def _record_of(path: str, records: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return records / f"{digest}{RECORD_ENDING}"


def _write_record(node: DeviceNode, records: Path) -> None:
    record = _record_of(node.path, records)
    new = record.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(asdict(node)))
    new.replace(record)


def _forget(node: DeviceNode, records: Path) -> None:
    _record_of(node.path, records).unlink(missing_ok=True)


def _read_records(records: Path) -> Iterator[DeviceNode]:
    for record in records.glob(f"*{RECORD_ENDING}"):
        node = _read_record(record)
        if node is not None:
            yield node


def _read_record(record: Path) -> DeviceNode | None:
    """A record; None for one that is gone, or that we cannot have written."""
    with suppress(OSError, ValueError, TypeError):
        return DeviceNode(**json.loads(record.read_text()))
    return None
