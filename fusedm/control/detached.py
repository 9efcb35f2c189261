"""A daemon in a process of its own: how it is started, and how its start is undone."""

import errno
import logging
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import trio

from fusedm.block.errors import FusedmError, StackError
from fusedm.control.bring import clear_dead
from fusedm.control.daemon import DaemonConfig, run_daemon
from fusedm.control.protocol import decode_reply, encode_error, encode_result
from fusedm.control.run_dir import log_path
from fusedm.host.interrupts import hold, interruptible, restore_defaults
from fusedm.host.process import end_with

log = logging.getLogger(__name__)

#: What a detached daemon is answered that has told that it is ready, if somebody still waits.
WAITED_FOR = b"go on"
#: The most that it may tell: the text of an error.
MAX_TOLD_BYTES = 1 << 17


def start_detached(config: DaemonConfig, with_parent: bool = False) -> int:
    """Run the daemon in a process of its own; returns its pid when the mount answers.

    with_parent has it end when the calling process dies. A signal raises KeyboardInterrupt until
    then. It returns with signals held: the caller lets them in once it is ready to undo this, and
    never if it has nothing more to do.
    Raises: FusedmError with what the daemon could not do; nothing of it is left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    hold()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_daemon(config, theirs, parent if with_parent else None)
    theirs.close()
    try:
        with interruptible():
            told = ours.recv(MAX_TOLD_BYTES)
        if not told:
            died = f"the daemon died; see {log_path(str(config.mount_point))}"
            raise FusedmError(died, errno.EIO)
        decode_reply(told)
        ours.send(WAITED_FOR)
    except BaseException:
        # That nobody waits for it any more has the daemon give up, wherever it is.
        ours.close()
        os.kill(pid, signal.SIGTERM)
        _clear_after(pid, config)
        raise
    ours.close()
    return pid


def _clear_after(pid: int, config: DaemonConfig) -> None:
    """Wait until a daemon that does not come up has ended, and clear what it had no time to."""
    reap(pid)
    with suppress(FusedmError):
        clear_dead(str(config.mount_point))


def reap(pid: int) -> None:
    """Wait for the process of a daemon that has ended, if it is a child of this one."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _be_daemon(config: DaemonConfig, told: socket.socket, parent: int | None) -> NoReturn:
    """What the process made for the daemon does, and nothing of its parent's afterwards."""
    code = 1
    try:
        # The parent's handlers are not for us. Signals stay held until they are listened to.
        restore_defaults()
        os.setsid()
        os.chdir("/")
        if parent is not None:
            end_with(parent)
        sources = set(map(int, config.spec.sources("fd")))
        _redirect(log_path(str(config.mount_point)), keep={told.fileno(), *sources})
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


def _run_and_tell(config: DaemonConfig, told: socket.socket, sources: set[int]) -> int:
    """Run the daemon and tell the waiting process how its start went.

    The descriptors keys were read from are let go of as soon as they have been.
    """

    def tell(message: bytes) -> None:
        with suppress(OSError):
            told.send(message)

    async def on_ready() -> None:
        tell(encode_result(0, "ready"))
        _point_at_nothing(sources)
        # The mount answers meanwhile; it is not up before the other has seen this.
        await trio.lowlevel.wait_readable(told)
        if told.recv(len(WAITED_FOR)) != WAITED_FOR:
            raise StackError(f"{config.mount_point}: nobody waits for it any more", errno.EINTR)
        told.close()

    try:
        run_daemon(config, on_ready)
    except FusedmError as error:
        tell(encode_error(0, error))
        return 1
    except OSError as error:
        text = f"{config.mount_point}: {error.strerror or error}"
        tell(encode_error(0, StackError(text, error.errno or errno.EIO)))
        return 1
    return 0


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
