"""What a client asks for in the transmission phase, and what of it is refused at once. Pure."""

import errno
from dataclasses import dataclass

from fusedm.nbd import words
from fusedm.nbd.handshake import broken
from fusedm.nbd.words import Command, CommandFlag, ExportFlag

#: Bytes of data in one request or reply: what the protocol says where nothing else is agreed.
MAX_DATA_BYTES = words.DEFAULT_MAX_REQUEST_BYTES

_WRITES = {Command.WRITE, Command.TRIM, Command.WRITE_ZEROES}
_HAVE_DATA = {Command.READ, Command.WRITE}

#: The flags that a command may have besides FUA, which every one may.
_FLAGS = {
    Command.READ: CommandFlag.DF,
    Command.WRITE_ZEROES: CommandFlag.NO_HOLE,
    Command.BLOCK_STATUS: CommandFlag.REQ_ONE,
}
#: The flag without which an export does not take a command.
_NEEDS = {
    Command.FLUSH: ExportFlag.SEND_FLUSH,
    Command.TRIM: ExportFlag.SEND_TRIM,
    Command.WRITE_ZEROES: ExportFlag.SEND_WRITE_ZEROES,
    Command.CACHE: ExportFlag.SEND_CACHE,
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What is told of an export. Units: bytes."""

    size: int
    flags: ExportFlag
    block_size: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a client and a server have agreed on for a connection."""

    export: Exported
    structured: bool = False
    #: Whether base:allocation may be asked for.
    tells_holes: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, without the data of a write. Units: bytes."""

    command: int
    flags: int
    cookie: int
    offset: int
    length: int

    @property
    def payload_bytes(self) -> int:
        """Bytes of data that follow it."""
        return self.length if self.command == Command.WRITE else 0

    @property
    def buffer_bytes(self) -> int:
        """Bytes that are kept while it is under way, at most."""
        return min(self.length, MAX_DATA_BYTES) if self.command in _HAVE_DATA else 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not carried out."""

    errno: int
    text: str


def parse_request(header: bytes | bytearray | memoryview) -> Asked:
    """The request of a header.

    Raises: OSError(EPROTO) if it is none, or more data follow than may.
    """
    magic, flags, command, cookie, offset, length = words.REQUEST.unpack(header)
    if magic != words.REQUEST_MAGIC:
        raise broken(f"a request begins with {magic:#x}")
    asked = Asked(command, flags, cookie, offset, length)
    if asked.payload_bytes > MAX_DATA_BYTES:
        raise broken(f"a write of {length} bytes, more than {MAX_DATA_BYTES}")
    return asked


def check_request(asked: Asked, agreed: Agreed) -> Refusal | None:
    """Why a request is refused, whatever the device would say; None if it is to be carried out."""
    export, command = agreed.export, asked.command
    if command not in Command.__members__.values() or command == Command.RESIZE:
        return Refusal(errno.EINVAL, f"command {command} is unknown")
    if command in _WRITES and export.flags & ExportFlag.READ_ONLY:
        return Refusal(errno.EPERM, "the export is read-only")
    needed = _NEEDS.get(Command(command))
    if needed is not None and not export.flags & needed:
        return Refusal(errno.EINVAL, f"the export does not take {Command(command).name}")
    # Of an int: the complement of flags has none but those that are known.
    if asked.flags & ~int(_FLAGS.get(Command(command), 0) | CommandFlag.FUA):
        return Refusal(errno.EINVAL, f"flags {asked.flags:#x} of {Command(command).name}")
    if command == Command.BLOCK_STATUS and not agreed.tells_holes:
        return Refusal(errno.EINVAL, f"{words.BASE_ALLOCATION} has not been agreed on")
    if command == Command.FLUSH:
        return None
    return _check_range(asked, export)


def _check_range(asked: Asked, export: Exported) -> Refusal | None:
    """Refuse a range that is none, or lies beyond the end."""
    if not asked.length:
        return Refusal(errno.EINVAL, f"no bytes at {asked.offset}")
    if asked.offset + asked.length > export.size:
        number = errno.ENOSPC if asked.command in _WRITES else errno.EINVAL
        text = f"{asked.length} bytes at {asked.offset} end past the end at {export.size}"
        return Refusal(number, text)
    if asked.command == Command.READ and asked.length > MAX_DATA_BYTES:
        return Refusal(errno.EINVAL, f"a read of {asked.length} bytes, more than {MAX_DATA_BYTES}")
    return None
