"""The daemon: builds a stack, serves its mount and its control socket, and ends in order.

In order means: loop devices over the mount first (with what is mounted on them), while the mount
still answers; then the mount; then stores and keys; the lock file last.
"""

import errno
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import trio

from fusedm.block.errors import FusedmError
from fusedm.control import run_dir
from fusedm.control.commands import Commands
from fusedm.control.run_dir import RunFile, log_path, socket_path
from fusedm.control.server import listen, serve_control
from fusedm.fuse import MountOptions, serve
from fusedm.host import loop, mounts
from fusedm.host.interrupts import (
    ENDING_SIGNALS,
    hold,
    interruptible,
    let_in,
    restore_defaults,
)
from fusedm.host.process import allow_many_files, end_with, mark_io_flusher
from fusedm.stack import Stack, StackSpec

log = logging.getLogger(__name__)

#: How long each step of the end may take before the daemon ends without it: a store that hangs
#: holds up any of them. Releasing loop devices and closing stores write back what is dirty.
RELEASE_SECONDS = 45.0
UNMOUNT_SECONDS = 5.0
CLOSE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What to serve, where, and to whom."""

    spec: StackSpec
    stack_file: str
    mount_point: Path
    options: MountOptions
    base_dir: Path


def run_daemon(config: DaemonConfig, on_ready: Callable[[], None]) -> None:
    """Serve until told to stop, unmounted from outside, or signalled; everything is undone then.

    Raises: FusedmError, OSError if it cannot start; then nothing is left.
    """
    mark_io_flusher()
    allow_many_files()
    run_file = RunFile(str(config.mount_point), config.stack_file)
    deadline = Deadline(config.mount_point)
    try:
        trio.run(_main, config, on_ready, deadline)
    except BaseExceptionGroup as group:
        raise _only_error(group) from None
    finally:
        deadline.cancel()
        run_file.release()


def start_detached(config: DaemonConfig, with_parent: bool = False) -> int:
    """Run the daemon in a process of its own; returns its pid when the mount answers.

    with_parent has it end when the calling process dies.
    Raises: FusedmError with what the daemon could not do.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    with interruptible():
        hold()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _be_daemon(config, writer, parent if with_parent else None)
        os.close(writer)
        try:
            let_in()
            with open(reader, "rb") as pipe:
                told = json.loads(pipe.read() or b"null")
        except BaseException:  # Interrupted: what nobody waits for must not come up.
            os.kill(pid, signal.SIGTERM)
            reap(pid)
            run_dir.forget(str(config.mount_point))
            raise
    if told != "ready":
        reap(pid)
        text, number = told or (f"the daemon died; see {log_path(str(config.mount_point))}", 5)
        raise FusedmError(text, number)
    return pid


def reap(pid: int) -> None:
    """Wait for the process of a daemon that has ended, if it is a child of this one."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


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


async def _main(config: DaemonConfig, on_ready: Callable[[], None], deadline: Deadline) -> None:
    mount_point = config.mount_point
    asked, unmounting, unmounted = trio.Event(), trio.Event(), trio.Event()
    async with Stack(config.spec, config.base_dir, mount_point) as stack:
        commands = Commands(stack, mount_point, asked.set, config.options.lane)
        async with trio.open_nursery() as nursery:
            # Before there is a mount: a signal must never leave one without its daemon.
            await nursery.start(_listen_to_signals, asked)
            await nursery.start(_serve_mount, stack, config, asked, unmounting, unmounted)
            listener = listen(socket_path(str(mount_point)))
            nursery.start_soon(serve_control, listener, commands.dispatch)
            on_ready()
            notify_service_manager("READY=1")
            await asked.wait()
            notify_service_manager("STOPPING=1")
            deadline.set(RELEASE_SECONDS, "releasing loop devices")
            await stack.dm.resumeall()
            await trio.to_thread.run_sync(_release_loops, mount_point)
            deadline.set(UNMOUNT_SECONDS, "answering what is in hand")
            unmounting.set()
            await unmounted.wait()
            deadline.set(CLOSE_SECONDS, "closing stores")
            nursery.cancel_scope.cancel()


async def _serve_mount(
    stack: Stack,
    config: DaemonConfig,
    asked: trio.Event,
    unmounting: trio.Event,
    unmounted: trio.Event,
    task_status: trio.TaskStatus[None],
) -> None:
    """Serve the mount; if it is unmounted from outside, that is asking to end as well."""
    await serve(stack.system, config.mount_point, config.options, unmounting, task_status)
    unmounted.set()
    asked.set()


async def _listen_to_signals(
    asked: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*ENDING_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            asked.set()


def _release_loops(mount_point: Path) -> None:
    """Unmount and detach what lies over the mount, while the mount still answers."""
    try:
        loop.release_all(str(mount_point), force=True)
    except FusedmError as error:
        log.warning("%s", error)


def _be_daemon(config: DaemonConfig, told: int, parent: int | None) -> NoReturn:
    """What the process made for the daemon does, and nothing of its parent's afterwards."""
    code = 1
    try:
        # The parent's handlers are not for us; until there is a mount, a signal just ends us.
        restore_defaults()
        os.setsid()
        os.chdir("/")
        if parent is not None:
            end_with(parent)
        sources = _key_descriptors(config.spec)
        _redirect(log_path(str(config.mount_point)), keep={told, *sources})
        code = _run_and_tell(config, told, sources)
    except BaseException:
        log.exception("the daemon died")
    finally:
        logging.shutdown()
        if parent is not None and os.getppid() != parent:
            # Who made the mount point for us was killed; it stays if anything is in it.
            with suppress(OSError):
                config.mount_point.rmdir()
        os._exit(code)


def _run_and_tell(config: DaemonConfig, told: int, sources: set[int]) -> int:
    """Run the daemon and tell the waiting process how its start went.

    The descriptors keys were read from are let go of as soon as they have been.
    """

    def tell(message: object) -> None:
        with suppress(OSError):
            os.write(told, json.dumps(message).encode())
            os.close(told)

    def on_ready() -> None:
        tell("ready")
        _point_at_nothing(sources)

    try:
        run_daemon(config, on_ready)
    except FusedmError as error:
        tell([str(error), error.errno])
        return 1
    except OSError as error:
        tell([f"{config.mount_point}: {error.strerror or error}", error.errno or errno.EIO])
        return 1
    return 0


def _key_descriptors(spec: StackSpec) -> set[int]:
    """The descriptors that sources of keys and of engines' secrets name."""
    sources = [key.source for key in spec.keys.values()]
    sources += [disk.engine.secret or "" for disk in spec.disks.values() if disk.engine]
    return {int(source.removeprefix("fd:")) for source in sources if source.startswith("fd:")}


def _redirect(log_file: Path, keep: set[int]) -> None:
    """Nothing to read, nowhere to print; what is logged goes to a file only the user can read.

    Of the descriptors that came from the caller only those to keep stay open.
    """
    errors = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(errors, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):  # The descriptor of the listing itself.
                os.close(int(name))
    _point_at_nothing({0, 1} - keep)
    logging.basicConfig(
        level=logging.WARNING, stream=os.fdopen(2, "w", buffering=1, closefd=False), force=True
    )


def _point_at_nothing(descriptors: set[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    os.close(nothing)
