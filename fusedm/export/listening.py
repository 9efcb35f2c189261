"""Where a server listens: a Unix socket for its user only, or TCP; with TLS or without."""

import errno
import fcntl
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import trio

from fusedm.block.errors import StackError, UsageError
from fusedm.nbd import words

#: Connections that may wait to be accepted.
BACKLOG = 64
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: the path of a Unix socket, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        """As it is told and asked for."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of PEM: a server's certificate and key; who has to vouch for clients, if anybody."""

    certificate: str
    key: str
    authority: str = ""


def parse_address(text: str) -> Address:
    """HOST:PORT, :PORT or HOST; loopback and the protocol's port where nothing else is said.

    Raises: UsageError.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(words.DEFAULT_PORT)
    if not port.isdecimal() or int(port) > 0xFFFF:
        raise UsageError(f"--tcp {text}: {port!r} is not a port")
    return Address(host=host.strip("[]") or LOOPBACK, port=int(port))


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """What TLS is spoken by; with an authority, only with clients that it vouches for.

    Raises: StackError naming the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _said_of(f"{files.certificate}, {files.key}"):
        # A key under a password is refused: nobody is there to be asked for it.
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    if files.authority:
        with _said_of(files.authority):
            context.load_verify_locations(files.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        text = f"{what}: not a certificate and its key: {error.reason or 'no PEM'}"
        raise StackError(text, errno.EINVAL) from None
    except OSError as error:
        raise StackError(f"{what}: {error.strerror}", error.errno) from None


class Listening:
    """The sockets of a server. Owns: them, and the file of a Unix socket, until close."""

    def __init__(self, listeners: list[trio.SocketListener], address: Address) -> None:
        self.listeners = listeners
        self.address = address
        self._inode = _inode(address.path) if address.path else None

    @property
    def is_on_loopback(self) -> bool:
        """Whether nobody on another machine can reach it."""
        hosts = [one.socket.getsockname()[0] for one in self.listeners if not self.address.path]
        return all(host.startswith("127.") or host == "::1" for host in hosts)

    def close(self) -> None:
        """Listen no more, and remove the file, unless it is somebody else's by now."""
        for listener in self.listeners:
            listener.socket.close()
        if self._inode is not None and _inode(self.address.path) == self._inode:
            with suppress(OSError):
                os.unlink(self.address.path)


async def listen(address: Address) -> Listening:
    """Listen at an address; a socket that a dead daemon has left is replaced.

    Raises: StackError if that cannot be, EADDRINUSE if somebody listens there.
    """
    try:
        if address.path:
            return Listening([_listen_at(address.path)], address)
        listeners = await trio.open_tcp_listeners(address.port, host=address.host, backlog=BACKLOG)
    except OSError as error:
        text = f"{address}: {error.strerror or error}"
        raise StackError(text, error.errno or errno.EINVAL) from None
    port = listeners[0].socket.getsockname()[1]
    return Listening(listeners, Address(host=address.host, port=port))


def _listen_at(path: str) -> trio.SocketListener:
    """A listening socket of mode 0600.

    Raises: StackError, OSError.
    """
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_in(os.path.dirname(path) or "."):
            _clear_dead(path)
            before = os.umask(0o177)
            try:
                plain.bind(path)
            finally:
                os.umask(before)
        plain.listen(BACKLOG)
    except BaseException:
        plain.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keep other daemons from clearing a socket there that has just been made.

    Raises: OSError, EAGAIN if another one is doing so.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def _clear_dead(path: str) -> None:
    """Remove a socket that nobody listens at.

    Raises: StackError(EADDRINUSE) if somebody does; EEXIST if it is another file.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StackError(f"{path}: is there already, and no socket", errno.EEXIST)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # So many want to connect that one more would have to wait.
    raise StackError(f"{path}: somebody listens there", errno.EADDRINUSE)


def _inode(path: str) -> tuple[int, int] | None:
    with suppress(OSError):
        told = os.lstat(path)
        return told.st_dev, told.st_ino
    return None
