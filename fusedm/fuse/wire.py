"""The part of the FUSE protocol that the lane speaks itself: layouts of messages. Pure.

Source: include/uapi/linux/fuse.h. All numbers are in the machine's byte order.
"""

import struct
from enum import IntEnum

#: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding.
IN_HEADER = struct.Struct("=IIQQIIIHH")
#: len, error (negative errno), unique.
OUT_HEADER = struct.Struct("=IiQ")
#: flags, open flags.
OPEN_IN = struct.Struct("=II")
#: fh, offset, size, flags, lock_owner, open flags; READ, WRITE and READDIR are alike.
IO_IN = struct.Struct("=QQIIQII")
#: size, padding.
WRITE_OUT = struct.Struct("=II")
#: fh, fsync flags, padding.
FSYNC_IN = struct.Struct("=QII")
#: fh, offset, length, mode, padding.
FALLOCATE_IN = struct.Struct("=QQQII")
#: fh, offset, whence, padding.
LSEEK_IN = struct.Struct("=QQII")
LSEEK_OUT = struct.Struct("=Q")
#: count, padding; then count times an inode and how often it was looked up.
BATCH_FORGET_IN = struct.Struct("=II")
FORGET_ONE_SIZE = 16
#: major, minor, then what nobody looks at here.
INIT_IN = struct.Struct("=II")
#: major, minor, max_readahead, flags.
INIT_OUT_FRONT = struct.Struct("=IIII")
#: ..., max_background, congestion_threshold, max_write, time_gran, max_pages, map_alignment,
#: flags2, unused.
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")

DATA_OFFSET = IN_HEADER.size + IO_IN.size

# linux/falloc.h
FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10
#: Modes of FALLOCATE that make zeros.
ZEROING = {
    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_ZERO_RANGE,
    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
}


class Opcode(IntEnum):
    """The requests the lane knows by name."""

    FORGET = 2
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    FSYNC = 20
    INIT = 26
    READDIR = 28
    INTERRUPT = 36
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    LSEEK = 46


FUSE_ASYNC_READ = 1 << 0
FUSE_ASYNC_DIO = 1 << 15
FUSE_MAX_PAGES = 1 << 22

#: What libfuse is shown as the kernel's version: below 14 it does not try to splice, which a socket
#: refuses.
SHOWN_MINOR = 13
#: What the kernel is told is spoken: 23 is the first whose INIT reply has all the fields below.
SPOKEN_MINOR = 31
PAGE_SIZE = 4096


def show_old_minor(request: bytearray) -> int:
    """Make libfuse see an older kernel in an INIT request; returns the minor the kernel sent."""
    major, minor = INIT_IN.unpack_from(request, IN_HEADER.size)
    INIT_IN.pack_into(request, IN_HEADER.size, major, min(minor, SHOWN_MINOR))
    return int(minor)


def widen_init_reply(reply: bytes, kernel_minor: int, pages: int, background: int) -> bytes:
    """libfuse's INIT reply with the sizes we want, as a kernel of that minor takes it.

    Units: pages of 4096 bytes a request.
    """
    length, error, unique = OUT_HEADER.unpack_from(reply)
    if error:
        return reply
    major, _, readahead, flags = INIT_OUT_FRONT.unpack_from(reply, OUT_HEADER.size)
    body = INIT_OUT.pack(
        major,
        min(kernel_minor, SPOKEN_MINOR),
        readahead,
        flags | FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_MAX_PAGES,
        background,
        background * 3 // 4,
        pages * PAGE_SIZE,
        1,
        pages,
        0,
        0,
    )
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique) + body


def limit_reply(request: bytearray, size: int) -> None:
    """Have no more than size bytes asked for in a READDIR; the kernel asks again for the rest."""
    words = list(IO_IN.unpack_from(request, IN_HEADER.size))
    words[2] = min(words[2], size)
    IO_IN.pack_into(request, IN_HEADER.size, *words)


def split_forgets(request: bytearray, most: int) -> list[bytearray]:
    """A BATCH_FORGET as several, of at most so many inodes each."""
    _, opcode, *rest = IN_HEADER.unpack_from(request)
    begin = IN_HEADER.size + BATCH_FORGET_IN.size
    parts = []
    for at in range(begin, len(request), most * FORGET_ONE_SIZE):
        inodes = request[at : at + most * FORGET_ONE_SIZE]
        part = bytearray(IN_HEADER.pack(begin + len(inodes), opcode, *rest))
        part += BATCH_FORGET_IN.pack(len(inodes) // FORGET_ONE_SIZE, 0) + inodes
        parts.append(part)
    return parts
