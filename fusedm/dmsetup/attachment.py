"""Loop devices and nodes of mapped devices: made when a table becomes live, undone at removal.

Without root, or where there are no loop devices, a device is a file in the mount and nothing more.
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.device_mapper import DeviceInfo
from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.dmsetup.device import number_of
from fusedm.dmsetup.session import Session
from fusedm.host import loop, loop_control, mounts, nodes
from fusedm.host.loop import LoopDevice

#: Source: include/uapi/linux/fs.h. The argument of the first is an int, of the second in sectors.
BLKROSET = 0x125D
BLKRASET = 0x1262

#: How long the daemon may take to hear that the loop device has closed its file.
CLOSE_SECONDS = 2.0
POLL_SECONDS = 0.02

#: What the kernel reads ahead unless it is told otherwise, in sectors.
USUAL_READ_AHEAD = 256


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What is asked of a new node; None leaves it as it is. read_ahead is in sectors."""

    user: int | None = None
    group: int | None = None
    mode: int | None = None
    read_ahead: int | None = None


def attach(session: Session, told: DeviceInfo, options: NodeOptions) -> str | None:
    """Have a loop device and a node for a device with a live table, as the table is now.

    Returns why there are none, if the machine is the reason and not the user.
    Raises: FusedmError; UsageError for a node that is in the way.
    """
    if os.geteuid() != 0 or not told.is_live:
        return None
    try:
        device = _attach_loop(session, told)
    except UsageError as error:
        return str(error)
    node = nodes.make(told.name, device, session.records, session.dev_dir)
    session.mapper.set_number(told.name, number_of(node.device))
    if options.user is not None or options.group is not None:
        user = -1 if options.user is None else options.user
        os.chown(node.path, user, -1 if options.group is None else options.group)
    if options.mode is not None:
        os.chmod(node.path, options.mode)
    if options.read_ahead is not None:
        _set(device.node, lambda fd: fcntl.ioctl(fd, BLKRASET, options.read_ahead or 0))
    return None


def _attach_loop(session: Session, told: DeviceInfo) -> LoopDevice:
    found, path = _loops(session, told), session.path(told)
    if not found:
        return loop.attach(path, told.block_size, told.is_read_only)
    device = found[0]
    is_outdated = _takes_discards(device) != told.takes_discards or (
        not told.is_read_only and _is_open_read_only(device)
    )
    if is_outdated and loop.busy_reason(device) is None:
        # How it has its file open, and what it asked of it, is settled while it is attached.
        loop.detach(device)
        return loop.attach(path, told.block_size, told.is_read_only)
    size = Path(f"/sys/block/{os.path.basename(device.node)}/size").read_text()
    if int(size) != told.sector_count:
        loop.set_capacity(device, path)
    if device.read_only != told.is_read_only:
        _set(device.node, lambda fd: fcntl.ioctl(fd, BLKROSET, struct.pack("i", told.is_read_only)))
    return device


def _takes_discards(device: LoopDevice) -> bool:
    name = os.path.basename(device.node)
    return Path(f"/sys/block/{name}/queue/discard_max_hw_bytes").read_text() != "0\n"


def _is_open_read_only(device: LoopDevice) -> bool:
    with loop_control.opened(device.node) as descriptor:
        return bool(loop_control.status(descriptor).flags & loop_control.READ_ONLY)


def _set(node: str, change: Callable[[int], object]) -> None:
    fd = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        change(fd)
    finally:
        os.close(fd)


def open_count(session: Session, told: DeviceInfo) -> int:
    """How often a device is in use: by mapped devices, mounts and open files, ours aside."""
    devices = _loops(session, told)
    count = len(told.holders) + max(0, told.open_count - len(devices))
    return count + sum(_users(session, device) for device in devices)


def _loops(session: Session, told: DeviceInfo) -> list[LoopDevice]:
    """The loop devices over a device: over its file in the mount, whatever that is called."""
    return loop.attached_to([session.path(told)])


def _users(session: Session, device: LoopDevice) -> int:
    number = mounts.device_of_node(device.node) or ""
    count = int(bool(mounts.mounts_of_source(device.node)))
    for holder in mounts.holders_of_device(number):
        count += holder.what.count(",") + 1
    names = [device.node, *(n.path for n in nodes.ours(session.records) if n.device == number)]
    count += sum(len(loop.attached(name)) for name in names)
    return count or int(loop.busy_reason(device) is not None)


def read_ahead(session: Session, told: DeviceInfo) -> int | None:
    """How much is read ahead, in sectors; None for a device that had no table yet."""
    if not told.is_live and not told.is_inactive:
        return None
    for device in _loops(session, told):
        with suppress(OSError, ValueError):
            name = os.path.basename(device.node)
            kilobytes = int(Path(f"/sys/block/{name}/queue/read_ahead_kb").read_text())
            return kilobytes << 10 >> SECTOR_SHIFT
    return USUAL_READ_AHEAD


def remove(session: Session, told: DeviceInfo, is_patient: bool = True) -> None:
    """Remove a device with its loop device and node.

    Who has just closed the loop device may be done with it in a moment: that is waited for, unless
    one is not patient.
    Raises: StackError(EBUSY) while it is in use, as it was before then; FusedmError.
    """
    devices = _loops(session, told)
    if told.holders or told.open_count > len(devices):
        raise StackError(f"{told.name}: in use", errno.EBUSY)
    for device in devices:
        if not is_patient and loop.busy_reason(device) is not None:
            raise StackError(f"{device.node}: in use", errno.EBUSY)
        loop.refuse_busy(device)
    if devices and told.is_suspended:
        # Who closes the loop device would wait for ever if anything were still to be written.
        session.mapper.clear(told.name)
        session.mapper.resume(told.name)
    for device in devices:
        loop.detach(device)
    _call_remove(session, told.name, time.monotonic() + (CLOSE_SECONDS if devices else 0))
    forget_node(session, told.name)


def _call_remove(session: Session, name: str, deadline: float) -> None:
    while True:
        try:
            session.mapper.remove(name)
            return
        except FusedmError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def forget_node(session: Session, name: str) -> None:
    """Remove the node of a device, if it is ours."""
    node = nodes.find(nodes.node_path(name, session.dev_dir), session.records)
    if node is not None:
        nodes.remove(node, session.records)


def rename_node(session: Session, told: DeviceInfo, new: DeviceInfo) -> None:
    """Have the node of a device follow it to its new name, and to the new path of its file."""
    node = nodes.find(nodes.node_path(told.name, session.dev_dir), session.records)
    if node is None:
        return
    forget_node(session, told.name)
    attach(session, new, NodeOptions())
