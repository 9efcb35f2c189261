"""A process that has everything loaded, and forks for each call of dmsetup that a shim hands over.

Starting Python and loading this package costs more than most verbs. So who starts the daemon leaves
such a process beside it, which ends with it; and shims are run by a small program (client.c) that
hands its call over. The fork takes on what the caller is (caller.py) and does what the script would
have done. It leaves the call to the script if the caller is not of its kind, or if the code on disk
is no more the code that was loaded. Words are read in the fork: no key of a table is ever in the
memory of the process that stays, nor on its command line.
"""

import gc
import io
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusedm.control import stack_at
from fusedm.dmsetup.caller import Caller, Kind
from fusedm.dmsetup.command import Streams
from fusedm.dmsetup.run import main_dmsetup, run
from fusedm.dmsetup.server_socket import is_server_missing, server_socket
from fusedm.dmsetup.session import place_of
from fusedm.host.interrupts import let_in

#: What a fork answers: that it carries the call out, and then how that ended.
GO = b"G"
DONE = b"D"

#: Connections that may wait to be accepted.
BACKLOG = 128


@contextmanager
def server_beside(dev_dir: str) -> Iterator[None]:
    """Leave a server behind if what is done meanwhile (starting the daemon) goes well."""
    if not is_server_missing():
        yield
        return
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        with suppress(BaseException):
            _be_server(dev_dir, reader)
        os._exit(0)
    os.close(reader)
    try:
        yield
        os.write(writer, GO)
    finally:
        os.close(writer)


def _be_server(dev_dir: str, started: int) -> None:
    """Serve until the daemon ends."""
    path = server_socket()
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    own, code = Kind.of("/proc/self"), _code()
    if path is None or os.read(started, 1) != GO:
        return
    os.close(started)
    daemon = stack_at(place_of(dev_dir))
    if daemon is None or not daemon.is_alive:
        return
    _serve(path, os.pidfd_open(daemon.pid), own, code)


def _serve(path: Path, daemon: int, own: Kind, code: dict[str, int]) -> None:
    """Have one process at a time wait for the next call, until the daemon ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = _listen(path)
    info = path.stat()
    alive, our_end = os.pipe()
    gc.disable()
    gc.freeze()
    while True:
        taken, told = os.pipe()
        if os.fork() == 0:
            os.close(our_end)
            os.close(taken)
            with suppress(BaseException):
                _wait_for_call(listener, alive, told, own, code)
            os._exit(0)
        os.close(told)
        poll = select.poll()
        poll.register(taken)
        poll.register(daemon, select.POLLIN)
        if daemon in dict(poll.poll()):
            break
        os.close(taken)
    with suppress(FileNotFoundError):
        if os.path.samestat(info, path.stat()):
            path.unlink()


def _listen(path: Path) -> socket.socket:
    """A socket in its place, for this user only; one that is there already is replaced."""
    new = path.with_suffix(f".{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    listener.bind(os.fspath(new))
    os.umask(before)
    listener.listen(BACKLOG)
    new.rename(path)
    return listener


def _wait_for_call(
    listener: socket.socket, alive: int, told: int, own: Kind, code: dict[str, int]
) -> None:
    """Carry out the next call, unless the server ends before: nobody writes to alive."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _warm_up()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(alive)
    if alive in dict(poll.poll()):
        return
    connection, _ = listener.accept()
    # Another one may be made: this one has a call.
    os.close(told)
    if is_outdated(code):
        # The next create starts a server with the new code.
        os.kill(os.getppid(), signal.SIGTERM)
        return
    caller = Caller(connection, own)
    caller.connection.send(GO)
    caller.connection.send(DONE + bytes([_carry_out(caller)]))


def _warm_up() -> None:
    """Have what a command needs in memory of this process's own, before anybody waits for it."""
    run(["version"], Streams(io.StringIO(), io.StringIO(), io.StringIO()))


def _code() -> dict[str, int]:
    """When each file of this package that is loaded was written."""
    files = [
        module.__file__ for module in list(sys.modules.values()) if hasattr(module, "__file__")
    ]
    ours = os.path.dirname(os.path.dirname(__file__)) + os.sep
    return {file: os.stat(file).st_mtime_ns for file in files if file and file.startswith(ours)}


def is_outdated(code: dict[str, int]) -> bool:
    """Whether a file has been written or removed since."""
    try:
        return any(os.stat(file).st_mtime_ns != time for file, time in code.items())
    except FileNotFoundError:
        return True


def _carry_out(caller: Caller) -> int:
    try:
        # As in a process that a terminal interrupts: what holds SIGINT elsewhere holds it here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        let_in()
        caller.listen()
        return main_dmsetup(caller.words, caller.environ)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
