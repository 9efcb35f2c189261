"""The client's end of the control socket: blocking, for the command line and for tests."""

import errno
import os
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from fusedm.block.errors import ControlError, UsageError
from fusedm.control.protocol import LineReader, Request, decode_reply, encode_request
from fusedm.control.run_dir import DMSETUP, find_socket, running_stacks


class Client:
    """A connection to the daemon of the stack at a mount point.

    Raises: ControlError if there is no daemon to reach.
    """

    def __init__(self, mount_point: str) -> None:
        self._mount_point = mount_point
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._reader = LineReader(limit=None)
        try:
            self._socket.connect(os.fspath(find_socket(mount_point)))
        except OSError as error:
            self._socket.close()
            text = f"{mount_point}: no fusedm daemon can be reached there: {error.strerror}"
            raise ControlError(text, error.errno) from None

    def call(self, verb: str, **args: object) -> Any:
        """Have a verb carried out.

        Raises: FusedmError as the daemon refuses it; ControlError if it goes away.
        """
        self.send(verb, **args)
        with suppress(ConnectionResetError):
            while data := self._socket.recv(1 << 16):
                for line in self._reader.feed(data):
                    return decode_reply(line)
        raise ControlError(f"{self._mount_point}: the daemon went away", errno.ECONNRESET)

    def send(self, verb: str, **args: object) -> None:
        """Ask for a verb without waiting for it; hanging up then takes it back."""
        # A request that is too long is answered before it is read to its end.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(encode_request(Request(verb, args)))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def which_stack(asked_for: str | None) -> str:
    """The mount point a verb means: the one asked for, FUSEDM_STACK, or the only one running.

    Raises: UsageError that lists them if that is not clear.
    """
    named = asked_for or os.environ.get("FUSEDM_STACK")
    if named:
        return os.path.realpath(named)
    alive = [stack for stack in running_stacks() if stack.is_alive]
    # The stack behind dmsetup is meant only where there is no other.
    own = [stack for stack in alive if not stack.stack_file.startswith(DMSETUP)]
    running = [stack.mount_point for stack in own or alive]
    if len(running) == 1:
        return running[0]
    if not running:
        raise UsageError("no stack is running: start one with `fusedm up STACK.toml MOUNTPOINT`")
    raise UsageError(f"several stacks are running, choose with --stack: {', '.join(running)}")
