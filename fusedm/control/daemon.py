"""The daemon: builds a stack, serves its mount and its control socket, and ends in order.

In order means: loop devices over the mount first (with what is mounted on them), while the mount
still answers; then the mount; then stores and keys; the lock file last.
"""

import errno
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import trio

from fusedm.block.errors import FusedmError, StackError
from fusedm.control import run_dir
from fusedm.control.commands import Commands
from fusedm.control.forgetting import Forgetting
from fusedm.control.run_dir import RunFile, socket_path
from fusedm.control.server import listen, serve_control
from fusedm.export import Address, Servers, ServerSpec
from fusedm.host import loop, mounts
from fusedm.host.interrupts import ENDING_SIGNALS, hold, let_in
from fusedm.host.kernel_mount import MountOptions
from fusedm.host.process import allow_many_files, mark_io_flusher
from fusedm.host.secrecy import forget_variables, keep_secrets
from fusedm.stack import Stack, StackSpec

log = logging.getLogger(__name__)

#: How long each step of the end may take before the daemon ends without it: a store that hangs
#: holds up any of them. Releasing loop devices and closing stores write back what is dirty.
RELEASE_SECONDS = 45.0
UNMOUNT_SECONDS = 5.0
CLOSE_SECONDS = 60.0

#: Called when the mount answers; what it raises ends the daemon, as one that has not come up.
OnReady = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What to serve, where, and to whom.

    Without a mount, mount_point is nbd_socket: a stack is found by it.
    """

    spec: StackSpec
    stack_file: str
    mount_point: Path
    options: MountOptions
    base_dir: Path
    nbd_socket: str = ""
    has_mount: bool = True


def run_daemon(config: DaemonConfig, on_ready: OnReady) -> None:
    """Serve until told to stop, unmounted from outside, or signalled; everything is undone then.

    Signals are held until they are listened to, and again at the end.
    Raises: FusedmError, OSError if it cannot start; then nothing is left.
    """
    hold()
    keep_secrets()
    # What there is now is the program: it is not looked through each time (forgetting.py).
    gc.freeze()
    mark_io_flusher()
    allow_many_files()
    run_file = RunFile(str(config.mount_point), config.stack_file, config.has_mount)
    deadline = Deadline(config.mount_point)
    try:
        trio.run(_main, config, on_ready, deadline)
    except BaseExceptionGroup as group:
        raise _only_error(group) from None
    finally:
        deadline.cancel()
        run_file.release()


def notify_service_manager(state: str) -> None:
    """Tell systemd, if it asked to be told (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.sendall(state.encode())
    except OSError as error:  # That it cannot be told is no reason to end.
        log.warning("NOTIFY_SOCKET=%s: %s", address, error)


def _only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a nursery has wrapped, if it is one error; two are a bug and stay together."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class Deadline:
    """Ends the process if a step of its end takes too long: a thread may hang where none can help.

    The mount is undone lazily then; what hangs is the kernel's to clear away.
    """

    def __init__(self, mount_point: Path) -> None:
        self._mount_point = str(mount_point)
        self._timer: threading.Timer | None = None

    def set(self, seconds: float, step: str) -> None:
        """From now on, give a step so long; the one before has been done."""
        self.cancel()
        self._timer = threading.Timer(seconds, self._end, (seconds, step))
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """All steps have been done."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, seconds: float, step: str) -> None:
        log.error("%s has not been done in %g seconds: ending without", step, seconds)
        with suppress(FusedmError):
            mounts.unmount(self._mount_point, lazy=True)
        run_dir.forget(self._mount_point)
        os._exit(1)


async def _main(config: DaemonConfig, on_ready: OnReady, deadline: Deadline) -> None:
    asked = trio.Event()
    async with trio.open_nursery() as nursery:
        # Before there is anything: whatever a signal ends has to be undone.
        await nursery.start(_listen_to_signals, asked)
        async with _built(config, deadline, asked) as stack:
            await _serve_stack(stack, config, on_ready, deadline, asked)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _built(
    config: DaemonConfig, deadline: Deadline, asked: trio.Event
) -> AsyncIterator[Stack]:
    """The stack, if it is there before the daemon is asked to end."""
    stack: Stack | None = None
    async with AsyncExitStack() as exits:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_give_up, asked, deadline, nursery.cancel_scope)
            mount_point = config.mount_point if config.has_mount else None
            built = Stack(config.spec, config.base_dir, mount_point)
            stack = await exits.enter_async_context(built)
            nursery.cancel_scope.cancel()
        if stack is None:
            raise _told_to_end(config)
        yield stack


async def _give_up(asked: trio.Event, deadline: Deadline, building: trio.CancelScope) -> None:
    await asked.wait()
    deadline.set(CLOSE_SECONDS, "giving up the start")
    building.cancel()


def _told_to_end(config: DaemonConfig) -> StackError:
    return StackError(f"{config.mount_point}: was told to end before it was up", errno.EINTR)


async def _serve_stack(
    stack: Stack,
    config: DaemonConfig,
    on_ready: OnReady,
    deadline: Deadline,
    asked: trio.Event,
) -> None:
    config.spec.forget()
    forget_variables(config.spec.sources("env"))
    mount_point, forgetting = config.mount_point, Forgetting()
    unmounting, unmounted, is_up = trio.Event(), trio.Event(), trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            if config.has_mount:
                await nursery.start(_serve_mount, stack, config, asked, unmounting, unmounted)
            else:
                unmounted.set()
            servers = Servers(stack.system)
            await nursery.start(servers.run)
            if config.nbd_socket:
                await servers.start(ServerSpec(Address(path=config.nbd_socket)))
            commands = Commands(
                stack, mount_point, asked.set, config.options.lane, servers, config.has_mount
            )
            listener = listen(socket_path(str(mount_point)))
            dispatch = forgetting.after(commands.dispatch)
            nursery.start_soon(serve_control, listener, dispatch)
            nursery.start_soon(forgetting.run)
            if asked.is_set():
                raise _told_to_end(config)
            await on_ready()
            is_up.set()
            notify_service_manager("READY=1")
            await asked.wait()
            notify_service_manager("STOPPING=1")
            deadline.set(RELEASE_SECONDS, "releasing loop devices")
            await stack.dm.resumeall()
            await trio.to_thread.run_sync(_release_loops, mount_point)
            deadline.set(UNMOUNT_SECONDS, "answering what is in hand")
            await servers.close()
            unmounting.set()
            await unmounted.wait()
            deadline.set(CLOSE_SECONDS, "closing stores")
            nursery.cancel_scope.cancel()
    except BaseException:
        if not is_up.is_set():
            stack.remove_created()
        raise


async def _serve_mount(
    stack: Stack,
    config: DaemonConfig,
    asked: trio.Event,
    unmounting: trio.Event,
    unmounted: trio.Event,
    task_status: trio.TaskStatus[None],
) -> None:
    """Serve the mount; if it is unmounted from outside, that is asking to end as well."""
    # A stack without a mount comes up where pyfuse3 cannot be loaded.
    from fusedm.fuse import serve

    await serve(stack.system, config.mount_point, config.options, unmounting, task_status)
    unmounted.set()
    asked.set()


async def _listen_to_signals(
    asked: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    # In the background of a shell SIGINT is ignored, and yet how one is told to end; under nohup
    # SIGHUP is meant to be.
    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard = [n for n in ENDING_SIGNALS if n != signal.SIGHUP or not is_nohup]
    for number in heard:  # What comes when nobody listens any more: it is ending then.
        signal.signal(number, _do_nothing)
    with trio.open_signal_receiver(*heard) as signals:
        let_in()
        task_status.started()
        async for _ in signals:
            asked.set()


def _do_nothing(_: int, __: FrameType | None) -> None:
    """A handler that threads of libraries may run as well, who know nothing of what is held."""


def _release_loops(mount_point: Path) -> None:
    """Unmount and detach what lies over the mount, if any, while the mount still answers."""
    try:
        loop.release_all(str(mount_point), force=True)
    except FusedmError as error:
        log.warning("%s", error)
