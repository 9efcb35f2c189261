"""Loop devices over our files: attach, find, detach, and leave none behind.

What is ours is told by the backing file, never by a count: others on the machine have loop devices
too. The kernel detaches a busy loop device lazily and reports success (LOOP_CLR_FD), so busy is
found out before, and gone is waited for after.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.host.mounts import (
    UNMOUNT_SECONDS,
    describe,
    device_of_node,
    holders_of_device,
    lies_under,
    mount_over,
    mounts_of_source,
    read_mounts,
    resolve,
    run_tool,
    unmount,
)

SYS_BLOCK = Path("/sys/block")

#: A device just closed may be open for a moment more: udev looks at every one that changes.
GRACE_SECONDS = 0.5
#: How long a device that was not busy may take to go.
DETACH_SECONDS = 10.0
POLL_SECONDS = 0.02

#: Source: include/uapi/linux/loop.h.
LOOP_SET_CAPACITY = 0x4C07
LOOP_CTL_GET_FREE = 0x4C82
#: Source: include/uapi/linux/fs.h. Its argument is in sectors.
BLKRASET = 0x1262

#: What the kernel reads ahead on our loop devices: as much as one request through FUSE may carry.
#: Its own 128 KiB makes eight requests of that; readahead of the mount itself has no effect, since
#: its files are opened for direct I/O.
READAHEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """An attached loop device; logical_block_size is in bytes."""

    node: str
    backing_file: str
    logical_block_size: int
    direct_io: bool
    read_only: bool


def loop_device(node: str, sys_block: Path = SYS_BLOCK) -> LoopDevice | None:
    """The loop device of a node, if something is attached to it."""
    device = sys_block / os.path.basename(node)
    try:
        # The kernel marks a file whose name is gone, which a FUSE file's may be for a moment.
        backing_file = _read(device / "loop/backing_file").removesuffix(" (deleted)")
        return LoopDevice(
            node=f"/dev/{device.name}",
            backing_file=backing_file,
            logical_block_size=int(_read(device / "queue/logical_block_size")),
            direct_io=_read(device / "loop/dio") == "1",
            read_only=_read(device / "ro") == "1",
        )
    except OSError:
        return None


def attached(prefix: str, sys_block: Path = SYS_BLOCK) -> list[LoopDevice]:
    """Every loop device whose backing file is this path or lies below it, in order of number."""
    path = resolve(prefix)
    return [d for d in _all_attached(sys_block) if lies_under(d.backing_file, path)]


def attached_to(files: Collection[str], sys_block: Path = SYS_BLOCK) -> list[LoopDevice]:
    """Every loop device over one of these files, given by their real paths: none is looked at."""
    return [device for device in _all_attached(sys_block) if device.backing_file in files]


def attach(path: str, logical_block_size: int, read_only: bool = False) -> LoopDevice:
    """Attach a file to a free loop device with direct I/O.

    Units:  logical_block_size in bytes.
    Raises: UsageError where the machine or the user cannot, StackError if it did not take exactly.
    """
    path = os.path.realpath(path)
    _check_root()
    _check_reachable(path)
    make_free_node()
    options = ["--direct-io=on", f"--sector-size={logical_block_size}"]
    options += ["--read-only"] if read_only else []
    try:
        node = run_tool("losetup", "--find", "--show", *options, "--", path).strip()
    except StackError as error:
        if logical_block_size > os.sysconf("SC_PAGE_SIZE"):
            raise StackError(
                f"{path}: loop devices here do not take a logical block size of "
                f"{logical_block_size}: more than a page of {os.sysconf('SC_PAGE_SIZE')}"
            ) from error
        raise
    wanted = LoopDevice(node, path, logical_block_size, direct_io=True, read_only=read_only)
    problem = difference(wanted, loop_device(node))
    if problem:
        run_tool("losetup", "--detach", node)
        raise StackError(problem, errno.EIO)
    _set_readahead(node)
    return wanted


def difference(wanted: LoopDevice, got: LoopDevice | None) -> str | None:
    """The first thing in which an attached device is not what was asked for; None if nothing."""
    if got is None:
        return f"{wanted.node} is not attached, though losetup reported success"
    for name, asked in asdict(wanted).items():
        is_now = getattr(got, name)
        if is_now != asked:
            return f"{wanted.node}: {name} is {is_now}, {asked} was asked for"
    return None


def detach(device: LoopDevice, force: bool = False) -> None:
    """Detach and wait until it is gone; nothing is done if something else is attached by now.

    force leaves a busy device to go with its last user, which is waited for only a moment.
    Raises: StackError(EBUSY) saying who uses it.
    """
    _check_root()
    if not _is_attached(device):
        return
    if not force:
        refuse_busy(device)
    try:
        run_tool("losetup", "--detach", device.node)
    except StackError:
        if _is_attached(device):
            raise
    deadline = time.monotonic() + (GRACE_SECONDS if force else DETACH_SECONDS)
    while _is_attached(device):
        if time.monotonic() >= deadline:
            reason = busy_reason(device) or "is in use"
            raise StackError(f"{device.node} {reason}: it goes when that ends", errno.EBUSY)
        time.sleep(POLL_SECONDS)


def set_capacity(device: LoopDevice) -> int:
    """Have a loop device take the size its file has by now; that size in bytes.

    The file is asked first: the kernel may go by the size it saw last. That needs the daemon, so a
    thread that serves the mount must not call this.
    Raises: StackError if it did not take.
    """
    try:
        size = os.stat(device.backing_file).st_size
        with _opened(device.node) as descriptor:
            if _is_attached(device):
                fcntl.ioctl(descriptor, LOOP_SET_CAPACITY)
    except OSError as error:
        raise StackError(f"{device.node}: set capacity: {error.strerror}", error.errno) from None
    told = _read(SYS_BLOCK / os.path.basename(device.node) / "size")
    # The part of a last sector cannot be had.
    if int(told) != size >> SECTOR_SHIFT or not _is_attached(device):
        text = f"{device.node}: has {told} sectors, {device.backing_file} {size >> SECTOR_SHIFT}"
        raise StackError(text, errno.EIO)
    return size


def busy_reason(device: LoopDevice) -> str | None:
    """What keeps a loop device from being detached, as the end of a sentence; None if nothing.

    Users are found by whatever node they use, one below /dev/mapper too.
    """
    mounts = mounts_of_source(device.node)
    if mounts:
        return f"is mounted at {mounts[0].mount_point}"
    number = device_of_node(device.node) or ""
    swaps = [line.split()[0] for line in _read(Path("/proc/swaps")).splitlines()[1:]]
    if any(node == device.node or device_of_node(node) == number for node in swaps):
        return "is in use as swap"
    holders = holders_of_device(number)
    if holders:
        return f"is held by {describe(holders)}"
    stacked = _entries(SYS_BLOCK / os.path.basename(device.node) / "holders")
    if stacked:
        return f"is used by {', '.join(stacked)}"
    if not _opens_exclusively(device.node):
        return "is in use by the kernel, perhaps mounted in another namespace"
    return None


def refuse_busy(device: LoopDevice) -> None:
    """Return if a loop device can be detached without anybody noticing, else say who uses it.

    Raises: StackError(EBUSY).
    """
    deadline = time.monotonic() + GRACE_SECONDS
    while (reason := busy_reason(device)) is not None:
        if time.monotonic() >= deadline:
            raise StackError(f"{device.node} {reason}", errno.EBUSY)
        time.sleep(POLL_SECONDS)


def release_all(prefix: str, force: bool = False) -> list[str]:
    """Detach every loop device over a path and what is below it; says what was done.

    Nothing is done if one of them is busy, except with force: that unmounts what is mounted on
    them, lazily if need be, and goes on with the others before it reports what would not go.
    Raises: StackError(EBUSY) naming the first that is busy.
    """
    devices = attached(prefix)
    if devices:
        _check_root()
    if not force:
        for device in devices:
            refuse_busy(device)
    done = _unmount_all(devices) if force else []
    failure: FusedmError | None = None
    for device in devices:
        try:
            detach(device, force)
            done.append(f"detached {device.node} from {device.backing_file}")
        except FusedmError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return done


def make_missing_node(node: str, numbers_file: str, kind: int) -> None:
    """Make a device node that /dev lacks, as in a container, from the numbers sysfs shows.

    Raises: UsageError if there is no such device or it may not be made.
    """
    if os.path.exists(node):
        return
    try:
        major, minor = _read(Path(numbers_file)).split(":")
        os.mknod(node, kind | 0o600, os.makedev(int(major), int(minor)))
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise UsageError(
            f"{node} is missing and so is {numbers_file}: try modprobe loop", errno.ENODEV
        ) from None
    except OSError as error:
        raise UsageError(
            f"{node} is missing and cannot be made: {error.strerror}", error.errno
        ) from None


def _all_attached(sys_block: Path) -> list[LoopDevice]:
    nodes = sorted((entry.name for entry in sys_block.glob("loop*")), key=lambda n: (len(n), n))
    return [device for node in nodes if (device := loop_device(node, sys_block))]


def _check_root() -> None:
    if os.geteuid() != 0:
        raise UsageError(
            "loop devices need root: run it with sudo; the stack itself does not", errno.EPERM
        )


def _check_reachable(path: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.EACCES and mount_over(path).fs_type.startswith("fuse"):
            raise UsageError(
                f"{path}: root cannot see into this mount: bring it up with --allow-root or "
                "--allow-other, and user_allow_other in /etc/fuse.conf",
                errno.EACCES,
            ) from None
        raise UsageError(f"{path}: {error.strerror}", error.errno) from None


def make_free_node() -> None:
    """Make the nodes that losetup needs next and /dev lacks.

    Raises: UsageError if there is no free loop device, or they may not be made.
    """
    control = "/dev/loop-control"
    make_missing_node(control, "/sys/class/misc/loop-control/dev", stat.S_IFCHR)
    try:
        with _opened(control) as descriptor:
            number = fcntl.ioctl(descriptor, LOOP_CTL_GET_FREE)
    except OSError as error:
        raise UsageError(f"no free loop device: {control}: {error.strerror}", error.errno) from None
    make_missing_node(f"/dev/loop{number}", f"{SYS_BLOCK}/loop{number}/dev", stat.S_IFBLK)


def _set_readahead(node: str) -> None:
    """Have the kernel read ahead as far as pays off; without it a device is only slower."""
    with suppress(OSError), _opened(node) as descriptor:
        fcntl.ioctl(descriptor, BLKRASET, READAHEAD_BYTES >> SECTOR_SHIFT)


@contextmanager
def _opened(node: str) -> Iterator[int]:
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_attached(device: LoopDevice) -> bool:
    now = loop_device(device.node)
    return now is not None and now.backing_file == device.backing_file


def _opens_exclusively(node: str) -> bool:
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def _unmount_all(devices: list[LoopDevice]) -> list[str]:
    done = []
    mounts = {mount for device in devices for mount in mounts_of_source(device.node)}
    # A later mount may lie upon an earlier one.
    for mount in [mount for mount in reversed(read_mounts()) if mount in mounts]:
        # One that is frozen would let itself be unmounted, and stay with its loop device for ever.
        with suppress(FusedmError):
            run_tool("fsfreeze", "--unfreeze", mount.mount_point, seconds=UNMOUNT_SECONDS)
            done.append(f"thawed {mount.mount_point}")
        try:
            unmount(mount.mount_point)
            done.append(f"unmounted {mount.mount_point}")
        except StackError as error:
            unmount(mount.mount_point, lazy=True)
            done.append(f"unmounted {mount.mount_point} lazily: {error}")
    return done


def _read(file: Path) -> str:
    return os.fsdecode(file.read_bytes()).removesuffix("\n")


def _entries(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
