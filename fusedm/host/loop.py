"""Loop devices over our files: attach, detach, and leave none behind.

loop_finding tells which are ours, loop_users who uses one; what is asked of them is here too.

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
from fusedm.host.loop_users import (
    GRACE_SECONDS,
    POLL_SECONDS,
    Patience,
    Use,
    busy_reason,
    is_claimed,
    refuse_busy,
    use_of,
)
from fusedm.host.mounts import (
    UNMOUNT_SECONDS,
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
    "GRACE_SECONDS",
    "LoopDevice",
    "Patience",
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

#: How long it may take until a device is free of which somebody else was the last to let go.
CLEAR_SECONDS = 10.0

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


def detach(device: LoopDevice, force: bool = False, patience: Patience | None = None) -> None:
    """Detach and wait until it is gone; nothing is done if something else is attached by now.

    force leaves a busy device to go with its last user. Either is waited for a moment.
    Raises: StackError(EBUSY) saying who uses it.
    """
    _check_root()
    patience = patience or Patience()
    while is_attached(device) and not _let_go(device, force):
        use = use_of(device) or Use("is in use", ())
        if patience.is_over(use.users):
            reason = use.reason
            raise _busy(device, f"{reason}: it goes when that ends" if force else reason)
        time.sleep(POLL_SECONDS)
    _wait_until_free(device)


def _wait_until_free(device: LoopDevice) -> None:
    """Wait for who was the last to let go of a device, and so is who clears it."""
    deadline = time.monotonic() + CLEAR_SECONDS
    while is_attached(device) or loop_control.is_being_cleared(device.node):
        if time.monotonic() >= deadline:
            raise _busy(device, f"has not let go of its file in {CLEAR_SECONDS:g} s")
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
            # Now it can go no more.
            if not is_attached(device):
                return True
            loop_control.keep(device.node, descriptor)
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
    patience = Patience()
    if not force:
        for device in devices:
            refuse_busy(device, patience)
    done = _unmount_all(devices) if force else []
    failure: FusedmError | None = None
    for device in devices:
        try:
            detach(device, force, patience)
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
