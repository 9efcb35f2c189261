"""The daemon's end of the control socket: lines in, verbs carried out, lines back."""

import errno
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import trio

from fusedm.block.errors import ControlError, FusedmError
from fusedm.control.protocol import (
    LineReader,
    Request,
    decode_request,
    encode_error,
    encode_result,
)

log = logging.getLogger(__name__)

#: Carries out a request and gives its result.
Dispatch = Callable[[Request], Awaitable[object]]

#: Connections that may wait to be accepted; one more fails, unless its client blocks.
BACKLOG = 128


def listen(path: Path) -> trio.SocketListener:
    """A listening socket of mode 0600; one that a killed daemon left is replaced.

    The caller holds the lock on the stack, so nobody can be listening there.
    """
    path.unlink(missing_ok=True)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        plain.bind(os.fspath(path))
    finally:
        os.umask(before)
    plain.listen(BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


async def serve_control(listener: trio.SocketListener, dispatch: Dispatch) -> None:
    """Serve connections until cancelled."""

    async def converse(stream: trio.SocketStream) -> None:
        try:
            _check_peer(stream)
            await _converse(stream, dispatch)
        except ControlError as error:
            await _send(stream, encode_error(0, error))
        except trio.BrokenResourceError:
            pass  # The client has gone; what it asked for has been done or refused.

    await trio.serve_listeners(converse, [listener])


async def _converse(stream: trio.SocketStream, dispatch: Dispatch) -> None:
    reader = LineReader()
    async for data in stream:
        for line in reader.feed(bytes(data)):
            request = decode_request(line)
            try:
                reply = encode_result(request.id, await dispatch(request))
            except FusedmError as error:
                reply = encode_error(request.id, error)
            except Exception:
                # A bug in a verb ends neither the daemon nor the mounts that people work on.
                log.exception("bug in verb %s", request.verb)
                bug = ControlError(f"{request.verb}: a bug, see the daemon's log", errno.EIO)
                reply = encode_error(request.id, bug)
            await stream.send_all(reply)


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)


def _check_peer(stream: trio.SocketStream) -> None:
    """Only the daemon's own user and root may ask for anything.

    Raises: ControlError(EACCES).
    """
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, user, _ = struct.unpack("3i", credentials)
    if user not in (0, os.geteuid()):
        text = f"user {user} may not control a stack of user {os.geteuid()}"
        raise ControlError(text, errno.EACCES)
