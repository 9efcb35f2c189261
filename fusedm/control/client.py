"""The client's end of the control socket: blocking, for the command line and for tests."""

import errno
import os
import socket
import stat
import struct
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from fusedm.block.errors import ControlError, StackError, UsageError
from fusedm.control.protocol import LineReader, Request, decode_reply, encode_request
from fusedm.control.run_dir import DMSETUP, find_socket, running_stacks, stack_at
from fusedm.host import mounts


class Client:
    """A connection to the daemon of the stack at a mount point.

    Raises: ControlError if there is no daemon to reach.
    """

    def __init__(self, mount_point: str) -> None:
        self.mount_point = mount_point
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
        if args.get("table"):
            self._check_paths(str(args["table"]))
        self.send(verb, **args)
        with suppress(ConnectionResetError):
            while data := self._socket.recv(1 << 16):
                for line in self._reader.feed(data):
                    return decode_reply(line)
        raise ControlError(f"{self.mount_point}: the daemon went away", errno.ECONNRESET)

    def send(self, verb: str, **args: object) -> None:
        """Ask for a verb without waiting for it; hanging up then takes it back."""
        # A request that is too long is answered before it is read to its end.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(encode_request(Request(verb, args)))

    @property
    def has_mount(self) -> bool:
        """Whether the stack has a mount; if not, its mount_point is the path of an NBD socket."""
        stack = stack_at(self.mount_point)
        return stack is None or stack.has_mount

    def root(self) -> str:
        """What leads to the daemon's files here when put before their paths there.

        It is nothing, unless the daemon is in another mount namespace than we are.
        Raises: StackError if its mount cannot be seen from here at all, or there is none.
        """
        if not self.has_mount:
            text = f"{self.mount_point}: the stack has no mount, only NBD exports"
            raise StackError(text, errno.ENXIO)
        root = f"{self._process()}/root"
        try:
            theirs = os.stat(root + self.mount_point)
        except OSError:  # Its process is out of sight, or not for us to look into.
            own = mounts.mount_at(self.mount_point)
            if own is not None and own.fs_type == "fuse.fusedm":
                return ""
            text = f"{self.mount_point} is mounted in another namespace, not to be seen from here"
            raise StackError(text, errno.ENXIO) from None
        with suppress(OSError):
            if os.path.samestat(theirs, os.stat(self.mount_point)):
                return ""
        return root

    def _check_paths(self, table: str) -> None:
        """Refuse a table with a path that leads to another file where the daemon is.

        Raises: StackError for the first of them; where that cannot be looked into, never.
        """
        process = self._process()
        try:
            seen = [(f"{process}/{link}", f"/proc/self/{link}") for link in ("ns/mnt", "root")]
            if all(os.path.samestat(os.stat(theirs), os.stat(own)) for theirs, own in seen):
                return
        except OSError:
            return
        from fusedm.tables import devices_named  # It takes longer to load than most commands.

        for path in (os.path.abspath(word) for word in devices_named(table) if "/" in word):
            with suppress(OSError):
                here, there = os.stat(path), os.stat(f"{process}/root{path}")
                is_same_device = stat.S_ISBLK(here.st_mode) and here.st_rdev == there.st_rdev
                if not (is_same_device or os.path.samestat(here, there)):
                    text = f"{path}: is another file in the mount namespace of the daemon"
                    raise StackError(text, errno.ENXIO)

    def _process(self) -> str:
        """The folder of the daemon's process, which is there where we may see it."""
        told = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return f"/proc/{struct.unpack('3i', told)[0]}"

    @property
    def is_open(self) -> bool:
        """Whether the daemon has not hung up; nothing may be asked or waited for just now."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

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

    Raises: StackError if there is none; UsageError that lists them if it is not clear.
    """
    named = asked_for or os.environ.get("FUSEDM_STACK")
    if named:
        return os.path.realpath(named)
    stacks = list(running_stacks())
    alive = [stack for stack in stacks if stack.is_alive]
    # The stack behind dmsetup is meant only where there is no other.
    own = [stack for stack in alive if not stack.stack_file.startswith(DMSETUP)]
    running = [stack.mount_point for stack in own or alive]
    if len(running) == 1:
        return running[0]
    if not running:
        dead = f" (that of {stacks[0].mount_point} was killed)" if stacks else ""
        text = f"no stack is running{dead}: start one with `fusedm up STACK.toml MOUNTPOINT`"
        raise StackError(text, errno.ENOENT)
    raise UsageError(f"several stacks are running, choose with --stack: {', '.join(running)}")
