"""The words of the NBD protocol: numbers, flags, the shapes of messages, and errors.

All numbers on the wire are big-endian. Only newstyle negotiation is spoken.

Source: doc/proto.md of the project that keeps the protocol (NetworkBlockDevice/nbd).
"""

import errno
from enum import IntEnum, IntFlag
from struct import Struct

#: What a server says first, then what says that it negotiates by options.
GREETING_MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

#: The port of a server that names none.
DEFAULT_PORT = 10809

#: Bytes of a string (an export's name, an error's text): the protocol allows no more.
MAX_STRING_BYTES = 4096

#: Bytes of data in one request where the server has named no limit of its own.
DEFAULT_MAX_REQUEST_BYTES = 32 << 20

#: The meta context that says what is a hole and what reads as zeros.
BASE_ALLOCATION = "base:allocation"

#: magic, option magic, HandshakeFlag
GREETING = Struct(">QQH")
#: HandshakeFlag of the client
CLIENT_FLAGS = Struct(">I")
#: option magic, Option, bytes of data that follow
OPTION = Struct(">QII")
#: magic, Option, OptionReply, bytes of data that follow
OPTION_REPLY = Struct(">QIII")
#: size in bytes, ExportFlag: the answer to Option.EXPORT_NAME, without the padding
EXPORT = Struct(">QH")
#: What follows EXPORT unless both sides said NO_ZEROES.
EXPORT_PADDING_BYTES = 124
#: Info
INFO_TYPE = Struct(">H")
#: Info.EXPORT, size in bytes, ExportFlag
INFO_EXPORT = Struct(">HQH")
#: Info.BLOCK_SIZE, minimum, preferred, maximum in bytes
INFO_BLOCK_SIZE = Struct(">HIII")
#: a length or a count, as before strings and in lists
COUNT = Struct(">I")
#: magic, CommandFlag, Command, cookie, offset, length in bytes
REQUEST = Struct(">IHHQQI")
#: magic, error, cookie
SIMPLE_REPLY = Struct(">IIQ")
#: magic, ChunkFlag, Chunk, cookie, bytes of payload that follow
STRUCTURED_REPLY = Struct(">IHHQI")
#: offset: before the data of Chunk.OFFSET_DATA, and in Chunk.ERROR_OFFSET after the text
CHUNK_OFFSET = Struct(">Q")
#: offset, length in bytes of Chunk.OFFSET_HOLE
CHUNK_HOLE = Struct(">QI")
#: error, bytes of text that follow, of Chunk.ERROR and ERROR_OFFSET
CHUNK_ERROR = Struct(">IH")
#: length in bytes, ExtentFlag: after the context's id in Chunk.BLOCK_STATUS
EXTENT = Struct(">II")


class HandshakeFlag(IntFlag):
    """What both sides say of themselves first."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    """What a client asks for before it has an export."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


#: Set in an OptionReply that is an error.
OPTION_ERROR = 1 << 31


class OptionReply(IntEnum):
    """What a server answers to an option; the errors have OPTION_ERROR set."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = OPTION_ERROR + 1
    ERR_POLICY = OPTION_ERROR + 2
    ERR_INVALID = OPTION_ERROR + 3
    ERR_PLATFORM = OPTION_ERROR + 4
    ERR_TLS_REQD = OPTION_ERROR + 5
    ERR_UNKNOWN = OPTION_ERROR + 6
    ERR_SHUTDOWN = OPTION_ERROR + 7
    ERR_BLOCK_SIZE_REQD = OPTION_ERROR + 8
    ERR_TOO_BIG = OPTION_ERROR + 9
    ERR_EXT_HEADER_REQD = OPTION_ERROR + 10


class Info(IntEnum):
    """What Option.INFO and GO may ask for, and their INFO replies say."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    """What an export can do ("transmission flags")."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11


class Command(IntEnum):
    """What a client asks of an export."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7
    RESIZE = 8


class CommandFlag(IntFlag):
    """How a command is meant."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4


class ChunkFlag(IntFlag):
    """Of a chunk of a structured reply."""

    DONE = 1


#: Set in a Chunk that is an error.
CHUNK_IS_ERROR = 1 << 15


class Chunk(IntEnum):
    """What a chunk of a structured reply carries; the errors have CHUNK_IS_ERROR set."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = CHUNK_IS_ERROR + 1
    ERROR_OFFSET = CHUNK_IS_ERROR + 2


class ExtentFlag(IntFlag):
    """What base:allocation says of an extent; data have neither."""

    HOLE = 1
    ZERO = 2


#: Errors as they go over the wire, and here. The numbers are Linux's, but fixed by the protocol.
_ERRNO = {
    1: errno.EPERM,
    5: errno.EIO,
    12: errno.ENOMEM,
    22: errno.EINVAL,
    28: errno.ENOSPC,
    75: errno.EOVERFLOW,
    95: errno.EOPNOTSUPP,
    108: errno.ESHUTDOWN,
}
_WIRE = {number: wire for wire, number in _ERRNO.items()} | {
    errno.EROFS: 1,
    errno.EACCES: 1,
    errno.EDQUOT: 28,
    errno.EFBIG: 28,
}


def errno_of_wire(error: int) -> int:
    """The errno of an error that a server sent; what the protocol does not know is EINVAL."""
    return _ERRNO.get(error, errno.EINVAL)


def wire_of_errno(number: int) -> int:
    """The protocol's error for an errno; what it has no word for is EIO."""
    return _WIRE.get(number, 5)
