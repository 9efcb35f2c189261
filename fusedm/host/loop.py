"""Loop devices over our files: attach, detach, and leave none behind (loop_finding: find).

The kernel detaches a busy loop device lazily and reports success (LOOP_CLR_FD), so busy is found
out before, and gone is waited for after.
"""

import errno
import fcntl
import os
import time
from contextlib import nullcontext, suppress
from pathlib import Path

from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.host import loop_control
from fusedm.host.interrupts import held
from fusedm.host.loop_control import SYS_BLOCK, make_missing_node, opened
from fusedm.host.loop_finding import (
    LoopDevice,
    attached,
    attached_on,
    attached_to,
    is_attached,
    loop_device,
)
from fusedm.host.mounts import (
    UNMOUNT_SECONDS,
    describe,
    device_of_node,
    holders_of_device,
    is_remote,
    mount_over,
    mounts_of_source,
    read_mounts,
    resolve,
    run_tool,
    unmount,
)
from fusedm.host.partitions import delete_all, numbers, partitions, show_all

__all__ = [
    "LoopDevice",
    "attach",
    "attached",
    "attached_on",
    "attached_to",
    "busy_reason",
    "detach",
    "is_claimed",
    "loop_device",
    "make_missing_node",
    "refuse_busy",
    "release",
    "release_all",
    "set_capacity",
]

#: A device just closed may be open for a moment more: udev looks at every one that changes.
GRACE_SECONDS = 0.5
POLL_SECONDS = 0.02

#: What the kernel reads ahead on our loop devices: as much as one request through FUSE may carry.
#: Its own 128 KiB makes eight requests of that; readahead of the mount itself has no effect, since
#: its files are opened for direct I/O.
READAHEAD_BYTES = 1 << 20


def attach(
    path: str, logical_block_size: int, read_only: bool = False, partscan: bool = False
) -> LoopDevice:
    """Attach a file to a free loop device with direct I/O; partscan shows its partitions, too.

    Units:  logical_block_size in bytes.
    Raises: UsageError where the machine or the user cannot, StackError if it did not take exactly.
    """
    _check_root()
    file = _open_file(path, read_only)
    flags = loop_control.DIRECT_IO | (loop_control.READ_ONLY if read_only else 0)
    flags |= loop_control.PARTSCAN if partscan else 0
    try:
        with loop_control.configured(path, file, logical_block_size, flags) as (node, descriptor):
            got = loop_device(node)
            wanted = (logical_block_size, True, read_only)
            problem = difference(node, wanted, got)
            if problem or got is None:
                raise StackError(problem or node, errno.EIO)
            # Without it a device is only slower.
            with suppress(OSError):
                ahead = READAHEAD_BYTES >> SECTOR_SHIFT
                fcntl.ioctl(descriptor, loop_control.BLKRASET, ahead)
            if partscan:
                show_all(node, descriptor)
            return got
    except OSError as error:
        raise loop_control.refused(path, logical_block_size, error) from None
    finally:
        os.close(file)


def difference(node: str, wanted: tuple[int, bool, bool], got: LoopDevice | None) -> str | None:
    """The first thing in which an attached device is not what was asked for; None if nothing.

    wanted are its logical block size, whether direct I/O, and whether read-only.
    """
    if got is None:
        return f"{node} is not attached, though the kernel reported success"
    names = ("logical_block_size", "direct_io", "read_only")
    for name, asked in zip(names, wanted, strict=True):
        is_now = getattr(got, name)
        if is_now != asked:
            return f"{node}: {name} is {is_now}, {asked} was asked for"
    return None


def detach(device: LoopDevice, force: bool = False, is_patient: bool = True) -> None:
    """Detach and wait until it is gone; nothing is done if something else is attached by now.

    force leaves a busy device to go with its last user. Either is waited for a moment, if patient.
    Raises: StackError(EBUSY) saying who uses it.
    """
    _check_root()
    deadline = time.monotonic() + (GRACE_SECONDS if is_patient else 0)
    while is_attached(device):
        if _let_go(device, force):
            return
        if time.monotonic() >= deadline:
            more = ": it goes when that ends" if force else ""
            raise _busy(device, f"{busy_reason(device) or 'is in use'}{more}")
        time.sleep(POLL_SECONDS)


def _let_go(device: LoopDevice, force: bool) -> bool:
    """Have a device let go of its file; False if it has users, which only the kernel knows all.

    Without force it stays attached then, whatever they do.
    """
    try:
        # Nothing is to come between letting go and taking that back.
        with held():
            return _clear(device, force)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return True
        if error.errno == errno.EBUSY:
            return False
        raise _busy(device, f"cannot be detached: {error.strerror}", error.errno) from None


def _clear(device: LoopDevice, force: bool) -> bool:
    # Whoever has it open exclusively, as a mount has, keeps us out: nobody comes in between.
    with opened(device.node, os.O_RDONLY | (0 if force else os.O_EXCL)) as descriptor:
        # From here on it cannot be attached to anything else.
        if not is_attached(device):
            return True
        # Taking it back would wait for what is under way, and that may be for ever.
        if not force and _is_at_work(device) and busy_reason(device) is not None:
            return False
        had_partitions = bool(partitions(device.node))
        with suppress(OSError) if force else nullcontext():
            delete_all(device.node, descriptor)
        loop_control.clear(descriptor)
    if not force and is_attached(device):
        with opened(device.node) as descriptor:
            loop_control.keep(descriptor)
            if had_partitions:
                show_all(device.node, descriptor)
    return not is_attached(device)


def _busy(device: LoopDevice, why: str, number: int | None = errno.EBUSY) -> StackError:
    return StackError(f"{device.node} {why}", number)


def _is_at_work(device: LoopDevice) -> bool:
    return _read(SYS_BLOCK / os.path.basename(device.node) / "inflight").split() != ["0", "0"]


def set_capacity(device: LoopDevice, path: str) -> int:
    """Have a loop device take the size that its file, at a path, has by now; that size in bytes.

    The file is asked first: the kernel may go by the size it saw last. That needs the daemon, so a
    thread that serves the mount must not call this.
    Raises: StackError if it did not take.
    """
    try:
        size = os.stat(path).st_size
        with opened(device.node) as descriptor:
            if is_attached(device):
                fcntl.ioctl(descriptor, loop_control.LOOP_SET_CAPACITY)
    except OSError as error:
        raise StackError(f"{device.node}: set capacity: {error.strerror}", error.errno) from None
    told = _read(SYS_BLOCK / os.path.basename(device.node) / "size")
    # The part of a last sector cannot be had.
    if int(told) != size >> SECTOR_SHIFT or not is_attached(device):
        text = f"{device.node}: has {told} sectors, {path} {size >> SECTOR_SHIFT}"
        raise StackError(text, errno.EIO)
    return size


def busy_reason(device: LoopDevice) -> str | None:
    """What keeps a loop device from being detached, as the end of a sentence; None if nothing.

    Users are found by whatever node they use, one below /dev/mapper too.
    """
    name = os.path.basename(device.node)
    reason = _reason(device.node, device_of_node(device.node) or "", SYS_BLOCK / name)
    if reason is not None:
        return reason
    for part in partitions(device.node):
        folder = SYS_BLOCK / name / os.path.basename(part.node)
        reason = _reason(part.node, part.number, folder)
        if reason is not None:
            return f"partition {part.index} {reason}"
    if is_claimed(device.node):
        return "is in use by the kernel, perhaps mounted in another namespace"
    return None


def _reason(node: str, number: str, folder: Path) -> str | None:
    """What keeps one block device busy; folder is its own in sysfs."""
    mounts = [mount for mount in read_mounts() if mount.is_of(node, number)]
    if mounts:
        return f"is mounted at {mounts[0].mount_point}"
    swaps = [line.split()[0] for line in _read(Path("/proc/swaps")).splitlines()[1:]]
    if any(swap == node or device_of_node(swap) == number for swap in swaps):
        return "is in use as swap"
    holders = holders_of_device(number)
    if holders:
        return f"is held by {describe(holders)}"
    stacked = _entries(folder / "holders")
    if stacked:
        return f"is used by {', '.join(stacked)}"
    return None


def is_claimed(node: str) -> bool:
    """Whether a file system, swap or another block device has it, as seen in every namespace."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def refuse_busy(device: LoopDevice, is_patient: bool = True) -> None:
    """Return if a loop device can be detached without anybody noticing, else say who uses it.

    Raises: StackError(EBUSY).
    """
    deadline = time.monotonic() + (GRACE_SECONDS if is_patient else 0)
    while (reason := busy_reason(device)) is not None:
        if time.monotonic() >= deadline:
            raise StackError(f"{device.node} {reason}", errno.EBUSY)
        time.sleep(POLL_SECONDS)


def release_all(prefix: str, force: bool = False) -> list[str]:
    """Release every loop device over a path and what is below it. Raises: as release."""
    return release(attached(prefix), force)


def release(devices: list[LoopDevice], force: bool = False) -> list[str]:
    """Detach loop devices; says what was done.

    Nothing is done if one of them is busy, except with force: that unmounts what is mounted on
    them, lazily if need be, and goes on with the others before it reports what would not go.
    Raises: StackError(EBUSY) naming the first that is busy.
    """
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


def _check_root() -> None:
    if os.geteuid() != 0:
        raise UsageError(
            "loop devices need root: run it with sudo; the stack itself does not", errno.EPERM
        )


def _open_file(path: str, read_only: bool) -> int:
    try:
        return os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EACCES and is_remote(mount_over(resolve(path))):
            raise UsageError(
                f"{path}: root cannot see into this mount: bring it up with --allow-root or "
                "--allow-other, and user_allow_other in /etc/fuse.conf",
                errno.EACCES,
            ) from None
        if error.errno == errno.EROFS:
            text = f"{path}: read_only is True, False was asked for"
            raise StackError(text, error.errno) from None
        raise UsageError(f"{path}: {error.strerror}", error.errno) from None


def _unmount_all(devices: list[LoopDevice]) -> list[str]:
    done = []
    every = [number for device in devices for number in numbers(device.node)]
    mounts = {mount for number in every for mount in mounts_of_source(number)}
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
