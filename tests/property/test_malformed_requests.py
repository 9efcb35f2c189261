"""Whatever comes instead of a request: the lane lives, answers once, and writes nothing by mistake.

No kernel sends such things. But a lane that ended or wrote for one would do so for a bug as well.
"""

import errno
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from fusedm.block.errors import FusedmError
from fusedm.files import device_file
from fusedm.fuse.wire import Opcode
from fusedm.stores import MemoryStore
from fusedm.system import System
from tests.helpers.builders import contents, make_disk, make_key, pattern
from tests.helpers.lane_kernel import (
    MAX_REPLY_SIZE,
    TEXT,
    Ends,
    done,
    failed,
    read_request,
    running,
)

SIZE = 1 << 16
NAMES = {1: "d0", 2: "dm0", 3: "home", 4: "wide"}
#: A disk that nothing can write, to see that the lane lives.
ALIVE = 77
ALIVE_UNIQUE = 0xA11CE

IN_HEADER = struct.Struct("=IIQQIIII")
IO = struct.Struct("=QQIIQII")
FALLOCATE = struct.Struct("=QQQII")

FALLOC_KEEP_SIZE, FALLOC_PUNCH, FALLOC_ZERO = 1, 2, 16
ZEROING = {FALLOC_KEEP_SIZE | FALLOC_PUNCH, FALLOC_ZERO, FALLOC_ZERO | FALLOC_KEEP_SIZE}

NO_REPLY = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT}

opcodes = st.sampled_from(list(Opcode)) | st.integers(0, 60) | st.integers(0, (1 << 32) - 1)
handles = st.sampled_from([*NAMES] * 3 + [TEXT, ALIVE, 0, 5000, (1 << 64) - 1])
offsets = (
    st.integers(0, SIZE // 512).map(lambda sector: sector * 512)
    | st.integers(0, SIZE + 5000)
    | st.builds(
        lambda near, by: (near + by) % (1 << 64),
        st.sampled_from([1 << 31, 1 << 32, 1 << 62, 1 << 63, 0]),
        st.integers(-1025, 1025) | st.sampled_from([-4096, 4096]),
    )
)
sizes = st.sampled_from([0, 1, 512, 4096, 8192, 1 << 31, (1 << 32) - 1]) | st.integers(0, 9000)
uniques = st.integers(1, 1 << 20)


def message_of(opcode: int, unique: int, body: bytes, lie: int = 0) -> bytes:
    """A request; a lie is how much longer it says it is."""
    length = (40 + len(body) + lie) % (1 << 32)
    return IN_HEADER.pack(length, opcode, unique, 1, 0, 0, 0, 0) + body


payloads = st.sampled_from([0, 1, 511, 512, 513, 4096, 8192]).map(lambda n: bytes(pattern(n, n)))
flags = st.sampled_from([0, 0, os.O_DSYNC, os.O_SYNC]) | st.integers(0, (1 << 32) - 1)
lies = st.sampled_from([0] * 15 + [-1, 1, 512, -40, 1 << 31])


@st.composite
def ios(draw: st.DrawFn) -> bytes:
    """READs and WRITEs of any handle, offset and size, and a size that may be a lie."""
    opcode = draw(st.sampled_from([Opcode.READ, Opcode.WRITE, Opcode.WRITE]))
    data = draw(payloads) if opcode is Opcode.WRITE else b""
    size = draw(st.just(len(data)) | sizes) if opcode is Opcode.WRITE else draw(sizes)
    body = IO.pack(draw(handles), draw(offsets), size, draw(flags), 0, draw(flags), 0)
    return message_of(opcode, draw(uniques), body + data, draw(lies))


@st.composite
def others(draw: st.DrawFn) -> bytes:
    """FALLOCATEs, LSEEKs and FSYNCs."""
    opcode = draw(st.sampled_from([Opcode.FALLOCATE, Opcode.LSEEK, Opcode.FSYNC]))
    modes = st.sampled_from([*ZEROING, *range(20), (1 << 32) - 1])
    body = FALLOCATE.pack(draw(handles), draw(offsets), draw(offsets), draw(modes), 0)
    if opcode is not Opcode.FALLOCATE:
        body = body[:16] + struct.pack("=II", draw(st.integers(0, 9)), 0)
    return message_of(opcode, draw(uniques), body, draw(lies))


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """Requests cut short, lengthened, or with other bytes somewhere."""
    message = bytearray(draw(ios() | others()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(message), 100) - 1))
        match draw(st.sampled_from(["byte", "cut", "more", "cut and say so"])):
            case "byte":
                message[at] = draw(st.integers(0, 255))
            case "more":
                message += draw(st.binary(max_size=40))
            case "cut":
                del message[max(at, 1) :]
            case "cut and say so":
                del message[max(at, 40) :]
                if len(message) >= 40:
                    struct.pack_into("=I", message, 0, len(message))
    return bytes(message)


bodies = st.binary(max_size=120)
anything = st.binary(min_size=1, max_size=200) | st.builds(
    message_of, opcodes, uniques, bodies, lies
)
messages = st.lists(ios() | others() | changed() | anything, min_size=1, max_size=20)


def make_system() -> System:
    """A disk with an engine, a device over it, and two views: in units of 4096 and of 65536."""
    system = System()
    system.add_disk(make_disk("d0", SIZE // 512, slots=1, units=(512, 4096, 65536)))
    system.add_disk(make_disk("alive", store=MemoryStore(SIZE, read_only=True)))
    system.disks["d0"].store.pwrite(0, memoryview(pattern(SIZE)))
    system.add_mapped("dm0")
    system.load("dm0", "0 40 linear d0 0\n40 24 striped 1 8 d0 40\n64 64 linear d0 64")
    for name, unit in (("home", 4096), ("wide", 65536)):
        system.add_key(make_key(name, unit))
    return system


async def open_views(system: System) -> None:
    await system.resume("dm0")
    system.add_view("home", "dm0", "home")
    system.add_view("wide", "d0", "wide")


async def do_if_well_formed(system: System, message: bytes) -> None:
    """What a message asks to be written, if it is a request by the letter of the protocol."""
    if len(message) < 40 or struct.unpack_from("=I", message)[0] != len(message):
        return
    opcode = struct.unpack_from("=I", message, 4)[0]
    with suppress(struct.error, FusedmError):
        if opcode == Opcode.WRITE:
            handle, offset, size, *_ = IO.unpack_from(message, 40)
            if handle in NAMES and len(message) == 80 + size:
                view = system.view(NAMES[handle])
                await device_file.write(view, offset, memoryview(message)[80:])
        elif opcode == Opcode.FALLOCATE:
            handle, offset, length, mode, _ = FALLOCATE.unpack_from(message, 40)
            if handle in NAMES and mode in ZEROING:
                view = system.view(NAMES[handle])
                if mode & FALLOC_KEEP_SIZE or offset + length <= view.size:
                    await device_file.zero(view, offset, length, bool(mode & FALLOC_PUNCH))


def reply_count(message: bytes) -> int:
    """How many replies a message must get, from the lane or from libfuse."""
    if len(message) < 40:
        return 0
    length, opcode = struct.unpack_from("=II", message)
    return int(length != len(message) or opcode not in NO_REPLY)


async def be_libfuse(ends: Ends) -> None:
    """Refuse whatever is passed on."""
    while True:
        await trio.lowlevel.wait_readable(ends.libfuse)
        message = ends.libfuse.recv(MAX_REPLY_SIZE)
        opcode, unique = struct.unpack_from("=IQ", message, 4)
        if opcode not in NO_REPLY:
            ends.libfuse.send(failed(unique, errno.ENOSYS))


@contextmanager
def no_traceback() -> Iterator[None]:
    """Nothing is logged as a bug."""
    bugs: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                bugs.append(record)

    logger, keeper = logging.getLogger("fusedm.fuse"), Keeper()
    logger.addHandler(keeper)
    try:
        yield
    finally:
        logger.removeHandler(keeper)
    assert bugs == []


async def send_all(sent: list[bytes]) -> None:
    model, system = make_system(), make_system()
    for one in (model, system):
        await open_views(one)
    ends = Ends(system, {**NAMES, ALIVE: "alive"})
    alive = read_request(ALIVE, ALIVE_UNIQUE, 4096, 512)
    with closing(ends):
        async with running(ends), trio.open_nursery() as nursery:
            nursery.start_soon(be_libfuse, ends)
            for message in sent:
                await do_if_well_formed(model, message)
                ends.socket.send(message)
                ends.socket.send(alive)
                wanted = 1 + reply_count(message)
                replies = [await ends.reply() for _ in range(wanted)]
                await wait_all_tasks_blocked()
                replies += take_replies(ends)
                assert replies.count(done(ALIVE_UNIQUE, bytes(512))) == 1
                assert len(replies) == wanted, replies
                for name, disk in system.disks.items():
                    assert contents(disk.store) == contents(model.disks[name].store)
            nursery.cancel_scope.cancel()


def take_replies(ends: Ends) -> list[bytes]:
    """The replies that have come."""
    replies = []
    with suppress(BlockingIOError):
        while True:
            replies.append(ends.socket.recv(MAX_REPLY_SIZE))
    return replies


@settings(max_examples=80)
@given(sent=messages)
def test_the_lane_answers_once_and_lives_and_writes_what_it_is_asked_for_only(
    sent: list[bytes],
) -> None:
    with no_traceback():
        trio.run(send_all, sent)
