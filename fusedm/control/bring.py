"""Bringing stacks down: what refuses it, and what is undone in which order."""

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress

from fusedm.block.errors import ControlError, FusedmError, StackError
from fusedm.control import run_dir
from fusedm.control.client import Client
from fusedm.control.run_dir import RunningStack
from fusedm.host import loop, loop_finding, mounts, nodes
from fusedm.host.loop import LoopDevice
from fusedm.host.process import send_signal
from fusedm.host.run_folder import run_folders

#: How long a daemon may take to end after it has been asked to and nothing is busy.
END_SECONDS = 60.0
#: How long it may take to hear that a loop device has closed its file.
CLOSE_SECONDS = 5.0
POLL_SECONDS = 0.02

FS_TYPE = "fuse.fusedm"


def bring_down(mount_point: str, force: bool = False) -> list[str]:
    """Detach the loop devices over a stack, unmount it and end its daemon; what was done, in words.

    What is busy refuses, before anything is done, unless forced: then suspended devices are
    resumed, file systems on the loop devices unmounted, and the daemon ended whatever still holds
    a loop device. What a killed daemon has left is cleared as well.
    Raises: StackError(EBUSY) with the holders; ControlError if there is no stack.
    """
    mount_point = mounts.resolve(mount_point)
    stack = run_dir.stack_at(mount_point)
    mounted = mounts.mount_at(mount_point)
    is_ours = mounted is not None and mounted.fs_type == FS_TYPE
    if stack is None and not is_ours:
        raise ControlError(f"{mount_point}: no stack is there", errno.ENOENT)
    if stack is not None and stack.is_alive:
        done = _end(stack, force) + run_dir.clear_stale_nodes()
        run_dir.forget_mount_point(mount_point)
        return done
    with nullcontext() if stack is None else run_dir.claimed(mount_point):
        return _clear(mount_point, force, lazy=True)


def clear_dead(mount_point: str) -> list[str]:
    """Clear what a killed daemon has left of its stack, if one has; what was done, in words.

    That is what the record of a daemon tells of whose lock nobody holds: a mount that does not
    answer, and loop devices over it that nobody uses.
    Raises: StackError(EBUSY) naming who uses it: nothing has been done then. ControlError if
            somebody is starting or clearing it just now.
    """
    mount_point = mounts.resolve(mount_point)
    stack = run_dir.stack_at(mount_point)
    if stack is None or stack.is_alive:
        return []
    with run_dir.claimed(mount_point):
        return _clear(mount_point, force=False, lazy=False)


def _clear(mount_point: str, force: bool, lazy: bool) -> list[str]:
    """Clear what a dead daemon has left.

    Raises: ControlError if the mount there is that of a daemon that lives, StackError(EBUSY).
    """
    mounted = mounts.mount_at(mount_point)
    is_ours = mounted is not None and mounted.fs_type == FS_TYPE
    if is_ours and not mounts.is_stale(mount_point):
        text = f"{mount_point}: its daemon lives, but no lock file of it is to be found here"
        raise ControlError(text, errno.EBUSY)
    maybe = loop_finding.unproved(mount_point) if is_ours else []
    if not force:
        for device in maybe:
            loop.refuse_busy(device)
    done = loop.release_all(mount_point, force)
    for folder in run_folders():
        done += nodes.release_dead(folder, force)
    done += run_dir.clear_stale_nodes()
    if is_ours:
        mounts.unmount(mount_point, lazy)
        done.append(f"cleared the stale mount {mount_point}")
        ours = [device for device in maybe if loop_finding.has_lost_way(device, mount_point)]
        done += loop.release(ours, force)
    run_dir.forget(mount_point)
    run_dir.forget_mount_point(mount_point)
    return done


def bring_down_all(force: bool = False) -> list[str]:
    """Every stack of this user, or none if one of them refuses, which is looked for first.

    Forced, all are tried before the first that would not go is told of.
    Raises: FusedmError.
    """
    done: list[str] = []
    refused: FusedmError | None = None
    stacks = list(run_dir.running_stacks())
    if not force:
        for stack in stacks:
            _refuse_busy(stack)
    for stack in stacks:
        try:
            done += bring_down(stack.mount_point, force)
        except FusedmError as error:
            refused = refused or error
    # Those of stacks that have not left anything else behind.
    done += run_dir.clear_stale_nodes()
    if refused is not None:
        raise refused
    return done


def _refuse_busy(stack: RunningStack) -> None:
    """Refuse if a stack cannot be brought down without anybody noticing.

    Raises: StackError(EBUSY) with the holders; ControlError if its daemon does not answer.
    """
    if stack.is_alive:
        with Client(stack.mount_point) as client:
            _in_a_moment(lambda: _refuse_open_files(client))
            devices = loops_over(client)
    else:
        devices = loop.attached(stack.mount_point)
    for device in devices:
        loop.refuse_busy(device)


def _end(stack: RunningStack, force: bool) -> list[str]:
    """End a living daemon and what lies over its mount."""
    done: list[str] = []
    held: FusedmError | None = None
    try:
        with Client(stack.mount_point) as client:
            if force:
                client.call("dm.resumeall")
            else:
                _in_a_moment(lambda: _refuse_open_files(client))
            devices = loops_over(client)
            try:
                done += loop.release(devices, force)
            except FusedmError as error:
                if not force:
                    raise
                held = error
            try:
                _in_a_moment(lambda: client.call("stop", force=force))
            except FusedmError as error:
                if error.errno == errno.EBUSY:  # A file has been opened since it was looked.
                    _put_back(client, devices)
                raise
    except ControlError as error:
        # It is there, but not to be talked to: not yet, or no more. One that goes away is ending,
        # as it does when the last that had something of a mount out of sight lets go.
        if force:
            send_signal(stack.pid, stack.started, signal.SIGTERM)
        elif error.errno != errno.ECONNRESET:
            raise
    _wait_until_ended(stack.mount_point)
    done.append(f"ended daemon {stack.pid}")
    if held is not None:
        raise held
    return done


def _in_a_moment(step: Callable[[], object]) -> None:
    """Do a step that may be refused for what is open, again for a moment if no process has it open.

    A loop device is gone a little before the daemon hears that it has closed its file.
    Raises: as the step.
    """
    deadline = time.monotonic() + CLOSE_SECONDS
    while True:
        try:
            step()
            return
        except FusedmError as error:
            is_held = error.errno != errno.EBUSY or "(pid " in str(error)
            if is_held or time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


def _put_back(client: Client, devices: list[LoopDevice]) -> None:
    """Attach again what has just been detached."""
    with suppress(FusedmError, OSError):
        root = client.root() + client.mount_point
        for device in devices:
            path = os.path.join(root, *name_in_mount(device.backing_file))
            loop.attach(path, device.logical_block_size, device.read_only)


def _refuse_open_files(client: Client) -> None:
    """Refuse if a file is open other than by a loop device of ours, which can be detached."""
    loops = Counter(name_in_mount(device.backing_file) for device in loops_over(client))
    for file in client.call("ls"):
        if file["open"] > loops[name_in_mount(file["path"])]:
            held = f"{file['path']} is held by"
            holders = mounts.describe(mounts.holders_of(file["path"])) if client.has_mount else ""
            if not holders and _is_out_of_sight(client):
                held = f"{file['path']} is out of sight (umount -l), but held by"
                holders = mounts.describe(_holders_out_of_sight(client, file["path"]))
            if not holders and any(one["connections"] for one in client.call("nbd.list")):
                holders = "an NBD client"
            text = f"{held} {holders or 'somebody'}: end that first, or use --force"
            raise StackError(text, errno.EBUSY)


def _is_out_of_sight(client: Client) -> bool:
    """Whether a stack has been unmounted lazily, and lives on for who has something of it open."""
    if not client.has_mount:
        return False
    mounted = mounts.mount_at(client.mount_point)
    return mounted is None or mounted.device != client.call("status")["device"]


def _holders_out_of_sight(client: Client, path: str) -> list[mounts.Holder]:
    """Who has a file open of a mount that is nowhere any more: its path begins there."""
    folder, name = name_in_mount(path)
    device = _number(client.call("status")["device"])
    return [one for one in mounts.holders_of(f"/{folder}/{name}") if _is_on(one, device)]


def _is_on(holder: mounts.Holder, device: int) -> bool:
    """Whether what a process has open is on a file system, told by its number."""
    with suppress(OSError):
        links = [link.replace(" ", "/") for link in holder.what.split(", ")]
        return any(os.stat(f"/proc/{holder.pid}/{link}").st_dev == device for link in links)
    return False


def _number(device: str) -> int:
    """The number of a device, as stat has it, from its words: "0:52"."""
    major, minor = map(int, device.split(":"))
    return os.makedev(major, minor)


def loops_over(client: Client) -> list[LoopDevice]:
    """The loop devices over the files of a living stack, whoever attached them."""
    if not client.has_mount:
        return []
    if os.geteuid() != 0:
        # Only names are to be had: over a file that nobody has open it is another's of that name.
        is_open = {name_in_mount(file["path"]) for file in client.call("ls") if file["open"]}
        found = loop.attached(client.mount_point)
        return [device for device in found if name_in_mount(device.backing_file) in is_open]
    root = client.root()
    if root:
        return loop.attached_on(os.stat(root + client.mount_point).st_dev)
    if _is_out_of_sight(client):
        return loop.attached_on(_number(client.call("status")["device"]))
    return loop.attached(client.mount_point)


def name_in_mount(path: str) -> tuple[str, ...]:
    """The folder and the name that a path in a mount ends with, whatever leads to the mount."""
    return tuple(path.split("/")[-2:])


def _wait_until_ended(mount_point: str) -> None:
    deadline = time.monotonic() + END_SECONDS
    while (stack := run_dir.stack_at(mount_point)) is not None and stack.is_alive:
        if time.monotonic() > deadline:
            text = f"{mount_point}: the daemon has not ended in {END_SECONDS:g} seconds"
            raise StackError(text, errno.EBUSY)
        time.sleep(POLL_SECONDS)
    if mounts.mount_at(mount_point) is not None and mounts.is_stale(mount_point):
        # It could not, and here it is said why; or this is a copy in another namespace than its.
        mounts.unmount(mount_point, lazy=True)
