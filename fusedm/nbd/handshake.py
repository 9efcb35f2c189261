"""A client's side of the handshake: a script of what is sent and received, without a connection.

Options come in the order that is safe: TLS before anything is told or asked, and never given up for
a server that does not offer it. What else a server does not know is done without.
"""

import errno
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeAlias

from fusedm.nbd.words import (
    BASE_ALLOCATION,
    CLIENT_FLAGS,
    COUNT,
    DEFAULT_MAX_REQUEST_BYTES,
    EXPORT,
    EXPORT_PADDING_BYTES,
    GREETING,
    GREETING_MAGIC,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    INFO_TYPE,
    OPTION,
    OPTION_ERROR,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    ExportFlag,
    HandshakeFlag,
    Info,
    Option,
    OptionReply,
)

#: Bytes of one reply to an option: an export's name or an error's text, and what stands before it.
_MAX_REPLY_BYTES = 8192

#: Replies to one option; servers send a handful.
_MAX_REPLIES = 64

#: Letters of a server's own text that are shown.
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Send:
    """Send all of data."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Receive:
    """Receive exactly so many bytes, and send them into the script."""

    count: int


@dataclass(frozen=True, slots=True)
class StartTls:
    """Go on over TLS."""


Step: TypeAlias = Send | Receive | StartTls
Script: TypeAlias = Generator[Step, bytes, "Export"]


@dataclass(frozen=True, slots=True)
class Export:
    """What an export is, as its server says.

    Units: bytes. minimum is what offsets and lengths must be multiples of; maximum is for the data
    of one request. allocation: the id of base:allocation; None if extents cannot be asked for.
    """

    size: int
    flags: ExportFlag
    is_structured: bool = False
    minimum: int = 1
    maximum: int = DEFAULT_MAX_REQUEST_BYTES
    allocation: int | None = None

    def is_like(self, other: "Export") -> bool:
        """Whether requests made for the one may be sent to the other."""
        return replace(self, allocation=None) == replace(other, allocation=None) and (
            (self.allocation is None) == (other.allocation is None)
        )

    def is_also(self, other: "Export") -> bool:
        """Whether it is the same medium, however replies come."""
        without = ~ExportFlag.SEND_DF
        return (self.size, self.flags & without) == (other.size, other.flags & without)

    def can(self, flag: ExportFlag) -> bool:
        """Whether the server has said so."""
        return bool(self.flags & flag)


def negotiate(name: str, with_tls: bool, with_structure: bool = True) -> Script:
    """Have the export of that name opened; the transmission begins after it.

    Without structure replies are simple, and extents cannot be asked for.

    Raises: OSError whose text says why not: EPROTO where the server breaks the protocol, else what
            it said.
    """
    magic, kind, flags = GREETING.unpack((yield Receive(GREETING.size)))
    if magic != GREETING_MAGIC:
        raise broken(f"this is no NBD server: it begins with {magic:#x}")
    if kind != OPTION_MAGIC:
        raise broken("the server speaks the oldstyle protocol, which is not spoken here")
    flags &= HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
    yield Send(CLIENT_FLAGS.pack(flags))
    if not flags & HandshakeFlag.FIXED_NEWSTYLE:
        if with_tls:
            raise OSError(errno.EOPNOTSUPP, "the server does not know TLS")
        return (yield from _export_name(name, flags, False, None))
    if with_tls:
        yield from _start_tls()
    is_structured = with_structure and (yield from _has_structured_replies())
    allocation = (yield from _allocation(name)) if is_structured else None
    export = yield from _go(name, is_structured, allocation)
    return export or (yield from _export_name(name, flags, is_structured, allocation))


def broken(text: str) -> OSError:
    """The error of one who breaks the protocol."""
    return OSError(errno.EPROTO, text)


def shown(text: bytes) -> str:
    """What a server says, as a part of one line."""
    letters = text[:_MAX_SHOWN].decode(errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in letters)


Replies: TypeAlias = Generator[Step, bytes, tuple[int, bytes]]


def _reply(option: Option) -> Replies:
    magic, echoed, kind, length = OPTION_REPLY.unpack((yield Receive(OPTION_REPLY.size)))
    if magic != OPTION_REPLY_MAGIC:
        raise broken(f"the reply to {option.name} begins with {magic:#x}")
    if echoed != option:
        raise broken(f"the reply to {option.name} is for option {echoed}")
    if length > _MAX_REPLY_BYTES:
        raise broken(f"the reply to {option.name} has {length} bytes, over {_MAX_REPLY_BYTES}")
    return kind, (yield Receive(length)) if length else b""


def _option(option: Option, data: bytes = b"") -> Send:
    return Send(OPTION.pack(OPTION_MAGIC, option, len(data)) + data)


def _string(text: str) -> bytes:
    data = text.encode()
    return COUNT.pack(len(data)) + data


def _start_tls() -> Generator[Step, bytes, None]:
    yield _option(Option.STARTTLS)
    kind, text = yield from _reply(Option.STARTTLS)
    if kind != OptionReply.ACK:
        raise _refused(Option.STARTTLS, kind, text)
    yield StartTls()


def _has_structured_replies() -> Generator[Step, bytes, bool]:
    yield _option(Option.STRUCTURED_REPLY)
    kind, _ = yield from _reply(Option.STRUCTURED_REPLY)
    return kind == OptionReply.ACK


def _allocation(name: str) -> Generator[Step, bytes, int | None]:
    yield _option(Option.SET_META_CONTEXT, _string(name) + COUNT.pack(1) + _string(BASE_ALLOCATION))
    found: int | None = None
    for _ in range(_MAX_REPLIES):
        kind, data = yield from _reply(Option.SET_META_CONTEXT)
        if kind == OptionReply.META_CONTEXT:
            if data[COUNT.size :] != BASE_ALLOCATION.encode():
                raise broken(f"the server offers context {shown(data[COUNT.size :])!r}, unasked")
            (found,) = COUNT.unpack_from(data)
        elif kind == OptionReply.ACK:
            return found
        elif kind & OPTION_ERROR:
            return None
        else:
            raise broken(f"the reply to SET_META_CONTEXT is of kind {kind}")
    raise broken(f"over {_MAX_REPLIES} replies to SET_META_CONTEXT")


def _go(
    name: str, is_structured: bool, allocation: int | None
) -> Generator[Step, bytes, Export | None]:
    """None if the server does not know the option."""
    count_and_info = INFO_TYPE.pack(1) + INFO_TYPE.pack(Info.BLOCK_SIZE)
    yield _option(Option.GO, _string(name) + count_and_info)
    size_and_flags: tuple[int, int] | None = None
    minimum, maximum = 1, DEFAULT_MAX_REQUEST_BYTES
    for _ in range(_MAX_REPLIES):
        kind, data = yield from _reply(Option.GO)
        if kind == OptionReply.INFO:
            info = int.from_bytes(data[: INFO_TYPE.size], "big")
            if info == Info.EXPORT and len(data) == INFO_EXPORT.size:
                size_and_flags = INFO_EXPORT.unpack(data)[1:]
            elif info == Info.BLOCK_SIZE and len(data) == INFO_BLOCK_SIZE.size:
                minimum, maximum = _block_sizes(*INFO_BLOCK_SIZE.unpack(data)[1:])
            elif info in (Info.EXPORT, Info.BLOCK_SIZE) or len(data) < INFO_TYPE.size:
                raise broken(f"an INFO reply of type {info} has {len(data)} bytes")
        elif kind == OptionReply.ACK:
            if size_and_flags is None:
                raise broken("the server opens the export without a word on its size")
            size, flags = size_and_flags
            return Export(size, ExportFlag(flags), is_structured, minimum, maximum, allocation)
        elif kind == OptionReply.ERR_UNSUP:
            return None
        else:
            raise _refused(Option.GO, kind, data)
    raise broken(f"over {_MAX_REPLIES} replies to GO")


def _block_sizes(minimum: int, preferred: int, maximum: int) -> tuple[int, int]:
    """The minimum, and the maximum of data in one request, which is a whole number of minima."""
    if not (0 < minimum <= 1 << 16 and minimum & (minimum - 1) == 0):
        raise broken(f"a minimum block size of {minimum} is no power of two up to 65536")
    if maximum < max(minimum, preferred):
        raise broken(f"a maximum block size of {maximum} is below {max(minimum, preferred)}")
    maximum = min(maximum, DEFAULT_MAX_REQUEST_BYTES)
    return minimum, maximum - maximum % minimum


def _export_name(
    name: str, flags: int, is_structured: bool, allocation: int | None
) -> Generator[Step, bytes, Export]:
    """The old way: a server that does not know the name can only hang up."""
    yield _option(Option.EXPORT_NAME, name.encode())
    size, export_flags = EXPORT.unpack((yield Receive(EXPORT.size)))
    if not flags & HandshakeFlag.NO_ZEROES:
        yield Receive(EXPORT_PADDING_BYTES)
    return Export(size, ExportFlag(export_flags), is_structured, allocation=allocation)


_REFUSALS: dict[int, tuple[int, str]] = {
    OptionReply.ERR_UNSUP: (errno.EOPNOTSUPP, "the server does not know it"),
    OptionReply.ERR_POLICY: (errno.EACCES, "the server's policy forbids it"),
    OptionReply.ERR_TLS_REQD: (errno.EACCES, "the server demands TLS (nbds)"),
    OptionReply.ERR_UNKNOWN: (errno.ENOENT, "the server has no such export"),
    OptionReply.ERR_SHUTDOWN: (errno.ESHUTDOWN, "the server is about to end"),
}


def _refused(option: Option, kind: int, text: bytes) -> OSError:
    if not kind & OPTION_ERROR:
        return broken(f"the reply to {option.name} is of kind {kind}")
    unnamed = (errno.EINVAL, f"the server refuses it with error {kind - OPTION_ERROR}")
    number, why = _REFUSALS.get(kind, unnamed)
    said = f": {shown(text)}" if text else ""
    return OSError(number, f"{option.name}: {why}{said}")
