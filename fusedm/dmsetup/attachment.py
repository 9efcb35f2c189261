"""Loop devices and nodes of mapped devices: made when a table becomes live, undone at removal.

Without root, or where there are no loop devices, a device is a file in the mount and nothing more.
"""

import errno
import fcntl
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.device_mapper import DeviceInfo
from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.dmsetup.device import number_of
from fusedm.dmsetup.session import Session, block_name
from fusedm.host import loop, loop_control, mounts, nodes
from fusedm.host.loop import GRACE_SECONDS, LoopDevice, Patience
from fusedm.host.loop_finding import file_ids
from fusedm.system import MAPPED_MAJOR

#: Source: include/uapi/linux/fs.h. The argument of the first is an int, of the second in sectors.
BLKROSET = 0x125D
BLKRASET = 0x1262

#: How long the daemon may take to hear that the loop device has closed its file.
CLOSE_SECONDS = 5.0
POLL_SECONDS = 0.001

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
    if is_outdated and _becomes_free(device):
        # How it has its file open, and what it asked of it, is settled while it is attached.
        loop.detach(device)
        return loop.attach(path, told.block_size, told.is_read_only)
    size = Path(f"/sys/block/{os.path.basename(device.node)}/size").read_text()
    if int(size) != told.sector_count:
        loop.set_capacity(device, path)
    if device.read_only != told.is_read_only:
        _set(device.node, lambda fd: fcntl.ioctl(fd, BLKROSET, struct.pack("i", told.is_read_only)))
    return device


def _becomes_free(device: LoopDevice) -> bool:
    """Whether nobody uses a loop device; one that is not mounted is waited for a moment."""
    if mounts.mounts_of_source(device.node):
        return False
    with suppress(StackError):
        loop.refuse_busy(device, Patience(GRACE_SECONDS))
        return True
    return False


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


@dataclass(frozen=True, slots=True)
class Use:
    """How a device is used: how often by others, and how far ahead it is read, in sectors.

    read_ahead is None for a device that had no table yet.
    """

    open_count: int = 0
    read_ahead: int | None = None


def uses(
    session: Session, told: Sequence[DeviceInfo], counts: bool = True, ahead: bool = True
) -> list[Use]:
    """Those of devices, in one pass over all that others have open; only what is asked for."""
    if not counts and not ahead:
        return [Use()] * len(told)
    loops = _loops_of(session, told)
    found = [loops[one.name] for one in told]
    opened = _open_counts(session, told, found) if counts else [0] * len(told)
    ahead_of = [
        _read_ahead(one, its) if ahead else None for one, its in zip(told, found, strict=True)
    ]
    return list(map(Use, opened, ahead_of))


def _open_counts(
    session: Session, told: Sequence[DeviceInfo], loops: Sequence[Sequence[LoopDevice]]
) -> list[int]:
    """How often devices are in use: by mapped devices, mounts and open files, ours aside."""
    each = list(zip(told, loops, strict=True))
    users = _users(
        {
            device.node: {device.node, nodes.node_path(one.name, session.dev_dir)}
            for one, its in each
            for device in its
        }
    )
    return [
        len(one.holders)
        + max(0, one.open_count - len(its))
        + sum(users[device.node] for device in its)
        for one, its in each
    ]


def _users(nodes_of: Mapping[str, Collection[str]]) -> dict[str, int]:
    """How often loop devices are in use, by any of the nodes that each has; one pass for all."""
    numbers = {node: mounts.device_of_node(node) or "" for node in nodes_of}
    mounted = mounts.mounted_devices()
    held = mounts.holders_of_devices(set(numbers.values()))
    files = [path for paths in nodes_of.values() for path in paths]
    stacked = Counter(device.file for device in loop.attached_to(files))
    counts = {}
    for node, number in numbers.items():
        count = int(number in mounted)
        count += sum(holder.what.count(",") + 1 for holder in held[number])
        for file in {found for _, found in file_ids(nodes_of[node])}:
            count += stacked[file]
        counts[node] = count or int(loop.is_claimed(node))
    return counts


def _loops(session: Session, told: DeviceInfo) -> list[LoopDevice]:
    """The loop devices over a device: over its file in the mount, whatever that is called."""
    return _loops_of(session, [told])[told.name]


def _loops_of(session: Session, told: Sequence[DeviceInfo]) -> dict[str, list[LoopDevice]]:
    """The same for many, by name.

    All loop devices of the machine are asked only for a device that somebody else has open.
    """
    found = {one.name: _known_loops(session, one) for one in told}
    unclear = {session.path(one): one.name for one in told if len(found[one.name]) < one.open_count}
    if unclear:
        names = {found_id: unclear[path] for path, found_id in file_ids(unclear)}
        found |= {name: [] for name in unclear.values()}
        for device in loop.attached_to(unclear):
            name = names[device.file] if device.file is not None else unclear[device.backing_file]
            found[name].append(device)
    return found


def _known_loops(session: Session, told: DeviceInfo) -> list[LoopDevice]:
    """The loop device that a device is known by the number of, if it is over it."""
    name = block_name(told.number) if told.open_count and told.number[0] != MAPPED_MAJOR else None
    device = loop.loop_device(name) if name is not None else None
    if device is None or device.file is None:
        return []
    is_over = [found for _, found in file_ids([session.path(told)])] == [device.file]
    return [device] if is_over else []


def _read_ahead(told: DeviceInfo, loops: Sequence[LoopDevice]) -> int | None:
    if not told.is_live and not told.is_inactive:
        return None
    for device in loops:
        with suppress(OSError, ValueError):
            name = os.path.basename(device.node)
            kilobytes = int(Path(f"/sys/block/{name}/queue/read_ahead_kb").read_text())
            return kilobytes << 10 >> SECTOR_SHIFT
    return USUAL_READ_AHEAD


def remove(session: Session, told: DeviceInfo, patience: Patience | None = None) -> None:
    """Remove a device with its loop device and node.

    Who has just closed the loop device may be done with it in a moment: that is waited for.
    Raises: StackError(EBUSY) while it is in use, as it was before then; FusedmError.
    """
    patience = patience or Patience()
    devices = _loops(session, told)
    if told.holders or told.open_count > len(devices):
        raise StackError(f"{told.name}: in use", errno.EBUSY)
    if len(devices) > 1 or told.is_suspended:
        # Of several none goes if one stays; and no more I/O may come when it is let in.
        for device in devices:
            loop.refuse_busy(device, patience)
    if devices and told.is_suspended:
        # Who closes the loop device would wait for ever if anything were still to be written.
        session.mapper.clear(told.name)
        session.mapper.resume(told.name)
    for device in devices:
        loop.detach(device, patience=patience)
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
