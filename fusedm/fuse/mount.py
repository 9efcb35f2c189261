"""Serving a system at a mount point, and always unmounting it."""

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import trio

from fusedm.block.errors import StackError
from fusedm.fuse.lane import MAX_BACKGROUND, Lane
from fusedm.fuse.libfuse import pyfuse3
from fusedm.fuse.operations import Operations
from fusedm.host import mounts
from fusedm.host.kernel_mount import MountOptions, mount, unmount
from fusedm.system import System

#: Requests handled at once. Held requests (a suspended device, a hung store) each keep one, so this
#: is far above what the kernel lets wait on all files together (MAX_BACKGROUND).
MAX_REQUESTS = 4096

#: How long requests in hand may take once stopping is set: those that a suspended device holds
#: would never end by themselves. They fail when it is unmounted.
GRACE_SECONDS = 1.0

#: System call numbers of the mount API, the same on every architecture; no C library has them all.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6
_CONNECTIONS = Path("/sys/fs/fuse/connections")


async def serve(
    system: System,
    mount_point: Path,
    options: MountOptions,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount a system and serve it until stopping is set, or until somebody unmounts it.

    Ready (as a trio task) when the mount answers. It is unmounted in every case, after the requests
    in hand are answered or have been waited for.
    Raises: UsageError or StackError if it cannot be mounted, or unmounted.
    """
    operations = Operations(system)
    device = mount(mount_point, options)
    mounted = mounts.mount_at(str(mount_point))
    lane = None
    if options.lane:
        lane = Lane(
            device,
            operations.handles,
            system,
            operations.empty,
            operations.takes_discards,
        )
    with ExitStack() as undo:
        # What who answers cannot undo can be undone when nobody answers, or it is told why not.
        undo.callback(_if_still, mounted, partial(mounts.unmount, str(mount_point), lazy=True))
        if lane is not None:
            undo.callback(lane.close)
        undo.callback(_if_still, mounted, partial(unmount, mount_point))
        _start_libfuse(operations, device if lane is None else lane.libfuse_end(), options)
        undo.callback(pyfuse3.close, unmount=False)
        undo.callback(_if_still, mounted, partial(unmount, mount_point))
        await _serve_until(stopping, lane, mount_point, task_status)


def _if_still(mounted: mounts.Mount | None, unmounting: Callable[[], None]) -> None:
    """Unmount what was mounted; somebody may have, and even mounted something else there."""
    if mounted is not None and mounts.mount_at(mounted.mount_point) == mounted:
        unmounting()


def _start_libfuse(operations: Operations, descriptor: int, options: MountOptions) -> None:
    """Have libfuse take an open descriptor for the mounted device; it closes it in the end.

    Raises: StackError.
    """
    try:
        pyfuse3.init(operations, f"/dev/fd/{descriptor}", options.libfuse_options())
    except RuntimeError as error:
        os.close(descriptor)
        raise StackError(f"libfuse cannot be started: {error}", errno.EIO) from error


async def _serve_until(
    stopping: trio.Event,
    lane: Lane | None,
    mount_point: Path,
    task_status: trio.TaskStatus[None],
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_answer, nursery.cancel_scope)
        if lane is not None:
            nursery.start_soon(_drive, lane, nursery.cancel_scope)
        # Answered only after INIT, from when on the kernel takes a limit of ours.
        info = await trio.to_thread.run_sync(os.stat, mount_point, abandon_on_cancel=True)
        if lane is None:
            raise_background_limit(info.st_dev)
        task_status.started()
        await stopping.wait()
        # Whichever answers the devices' requests ends when those in hand are answered.
        if lane is None:
            pyfuse3.terminate()
        else:
            lane.stop()
        nursery.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS


async def _answer(serving: trio.CancelScope) -> None:
    """Have pyfuse3 answer requests until there will be no more."""
    await pyfuse3.main(1, MAX_REQUESTS)
    serving.cancel()


async def _drive(lane: Lane, serving: trio.CancelScope) -> None:
    """Answer requests in the lane until there will be no more."""
    await lane.run()
    serving.cancel()


def raise_background_limit(device: int) -> bool:
    """Let more asynchronous requests wait on a mount; whether the kernel took it.

    Without privileges it caps the limit at max_user_bgreq, or fusectl may not be there at all: then
    the limit stays, and `doctor` says so.
    """
    try:
        with _connections() as folder:
            for name, value in (
                ("max_background", MAX_BACKGROUND),
                ("congestion_threshold", MAX_BACKGROUND * 3 // 4),
            ):
                (folder / str(os.minor(device)) / name).write_text(str(value))
    except OSError:
        return False
    return True


@contextmanager
def _connections() -> Iterator[Path]:
    """The control folder of FUSE, mounted nowhere and gone afterwards if the machine lacks it."""
    if any(_CONNECTIONS.iterdir()):
        yield _CONNECTIONS
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        result: int = libc.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    context = call(_FSOPEN, b"fusectl", 0)
    try:
        call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        control = call(_FSMOUNT, context, 0, 0)
    finally:
        os.close(context)
    try:
        yield Path(f"/proc/self/fd/{control}")
    finally:
        os.close(control)
