"""The lane, driven by a test in place of the kernel."""

import errno
import os
import struct
from dataclasses import replace

import pytest

from fusedm.files.handles import OpenDevice
from fusedm.fuse import lane as lane_module
from fusedm.fuse import wire
from fusedm.fuse.lane import MAX_BACKGROUND, MAX_FORWARDED
from fusedm.fuse.wire import Opcode
from fusedm.stores import FaultyStore, MemoryStore
from fusedm.stores.faulty import FailOp
from tests.helpers.builders import contents, make_disk, pattern
from tests.helpers.lane_kernel import (
    CACHED,
    D0,
    HOME,
    NONE,
    SIZE,
    SLOW,
    TEXT,
    BuggyStore,
    Kernel,
    done,
    failed,
    request,
    running,
    written,
)

GETATTR = 3


# On the spot.


async def test_a_read_is_answered_with_its_bytes(kernel: Kernel) -> None:
    kernel.write(D0, 1, 1000, bytes(pattern(5000)))
    assert await kernel.reply() == written(1, 5000)
    kernel.read(D0, 2, 998, 5000)
    assert await kernel.reply() == done(2, b"\0\0" + pattern(5000)[:4998])


async def test_a_read_past_the_end_is_an_empty_reply(kernel: Kernel) -> None:
    kernel.read(D0, 1, SIZE, 4096)
    assert await kernel.reply() == done(1)


async def test_a_write_through_a_view_is_encrypted_and_reads_back(kernel: Kernel) -> None:
    kernel.write(HOME, 1, 4096, b"x" * 4096)
    assert await kernel.reply() == written(1, 4096)
    kernel.read(HOME, 2, 4096, 4096)
    assert await kernel.reply() == done(2, b"x" * 4096)
    assert contents(kernel.system.disks["d0"].store, 8, 4096) != b"x" * 4096


async def test_a_write_moves_the_time_of_the_last_write(kernel: Kernel) -> None:
    kernel.system.names.written["d0"] = 0.0
    kernel.write(D0, 1, 0, b"x")
    await kernel.reply()
    assert kernel.system.names.written["d0"] > 0


async def test_an_error_is_a_negative_errno_and_no_write_time(kernel: Kernel) -> None:
    kernel.system.names.written["d0"] = 0.0
    kernel.write(D0, 1, SIZE - 1, b"xy")
    assert await kernel.reply() == failed(1, errno.ENOSPC)
    assert kernel.system.names.written["d0"] == 0.0


async def test_a_shorter_request_never_sees_bytes_of_the_one_before(kernel: Kernel) -> None:
    kernel.write(D0, 1, 0, b"s" * 8192)
    await kernel.reply()
    kernel.write(D0, 2, 0, b"n" * 512)
    await kernel.reply()
    assert contents(kernel.system.disks["d0"].store, 0, 8192) == b"n" * 512 + b"s" * 7680


# What waits.


async def test_what_waits_is_answered_later_and_others_before(kernel: Kernel) -> None:
    kernel.slow.hold()
    kernel.write(SLOW, 1, 0, b"w" * 512)
    kernel.read(SLOW, 2, 4096, 512)
    kernel.write(D0, 3, 0, b"o" * 512)
    assert await kernel.reply() == written(3, 512)
    await kernel.says_nothing()
    kernel.slow.release()
    assert {await kernel.reply(), await kernel.reply()} == {written(1, 512), done(2, bytes(512))}


async def test_a_write_that_waits_keeps_its_own_bytes(kernel: Kernel) -> None:
    kernel.slow.hold()
    kernel.write(SLOW, 1, 0, b"w" * 4096)
    kernel.write(D0, 2, 0, b"o" * 4096)
    await kernel.reply()
    kernel.slow.release()
    await kernel.reply()
    assert contents(kernel.slow.inner, 0, 4096) == b"w" * 4096


async def test_an_error_of_what_waited_is_a_negative_errno(idle: Kernel) -> None:
    inner = FaultyStore(MemoryStore(SIZE), 0, [FailOp(errno=errno.ENODATA)])
    store = FaultyStore(inner, 0)
    idle.system.add_disk(make_disk("failing", store=store))
    idle.handles[D0] = OpenDevice(idle.system.view("failing"), False)
    async with running(idle):
        store.hold()
        idle.read(D0, 1, 0, 512)
        await idle.says_nothing()
        store.release()
        assert await idle.reply() == failed(1, errno.ENODATA)


@pytest.mark.parametrize("waits", [False, True], ids=["on the spot", "later"])
async def test_a_bug_is_eio_and_the_lane_lives(
    idle: Kernel, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    store = FaultyStore(BuggyStore(SIZE), 0)
    idle.system.add_disk(make_disk("buggy", store=store))
    idle.handles[SLOW] = OpenDevice(idle.system.view("buggy"), False)
    async with running(idle):
        if waits:
            store.hold()
        idle.read(SLOW, 1, 0, 512)
        if waits:
            await idle.says_nothing()
            store.release()
        assert await idle.reply() == failed(1, errno.EIO)
        idle.read(D0, 2, 0, 512)
        assert await idle.reply() == done(2, bytes(512))
    assert "bug in a request" in caplog.text


# Durability and zeroing.


async def test_fsync_reaches_the_medium(kernel: Kernel) -> None:
    kernel.write(CACHED, 1, 0, b"d" * 512)
    await kernel.reply()
    assert contents(kernel.medium, 0, 512) == bytes(512)
    kernel.send(Opcode.FSYNC, 2, wire.FSYNC_IN.pack(CACHED, 0, 0))
    assert await kernel.reply() == done(2)
    assert contents(kernel.medium, 0, 512) == b"d" * 512


@pytest.mark.parametrize("flag", [os.O_DSYNC, os.O_SYNC])
async def test_a_write_that_says_so_is_durable_when_it_is_answered(
    kernel: Kernel, flag: int
) -> None:
    kernel.write(CACHED, 1, 0, b"d" * 512, flag)
    assert await kernel.reply() == written(1, 512)
    assert contents(kernel.medium, 0, 512) == b"d" * 512


@pytest.mark.parametrize(
    ("handle", "mode"), [(D0, 0x03), (D0, 0x10), (D0, 0x11), (HOME, 0x10), (HOME, 0x11)]
)
async def test_zeroing_zeroes_its_bytes_only(kernel: Kernel, handle: int, mode: int) -> None:
    kernel.write(handle, 1, 0, b"x" * 16384)
    await kernel.reply()
    kernel.allocate(handle, 2, mode, 1000, 9000)
    assert await kernel.reply() == done(2)
    kernel.read(handle, 3, 0, 16384)
    assert await kernel.reply() == done(3, b"x" * 1000 + bytes(9000) + b"x" * 6384)


async def test_a_hole_under_a_key_reads_as_zeros_and_so_do_the_ends_of_units_it_cuts(
    kernel: Kernel,
) -> None:
    kernel.write(HOME, 1, 0, b"x" * 16384)
    await kernel.reply()
    kernel.allocate(HOME, 2, 0x03, 4000, 8200)
    assert await kernel.reply() == done(2)
    kernel.read(HOME, 3, 0, 16384)
    assert await kernel.reply() == done(3, b"x" * 4000 + bytes(8200) + b"x" * 4184)
    kernel.read(D0, 4, 4096, 4096)
    assert await kernel.reply() == done(4, bytes(4096)), "a whole unit is given up on the medium"


@pytest.mark.parametrize("mode", [0x00, 0x01, 0x02, 0x08, 0x20, 0x40])
async def test_other_modes_of_fallocate_are_eopnotsupp(kernel: Kernel, mode: int) -> None:
    kernel.allocate(D0, 1, mode, 0, 4096)
    assert await kernel.reply() == failed(1, errno.EOPNOTSUPP)


@pytest.mark.parametrize(
    ("mode", "offset", "length", "expected"),
    [
        (0x10, SIZE - 512, 1024, failed(1, errno.EINVAL)),
        (0x11, SIZE - 512, 1024, done(1)),
        (0x03, SIZE - 512, 1024, done(1)),
        (0x03, SIZE, 512, failed(1, errno.EINVAL)),
    ],
    ids=["zero", "zero keep size", "punch", "punch beyond"],
)
async def test_zeroing_across_the_end_is_as_on_a_block_device(
    kernel: Kernel, mode: int, offset: int, length: int, expected: bytes
) -> None:
    kernel.allocate(D0, 1, mode, offset, length)
    assert await kernel.reply() == expected


# Data and holes.


@pytest.mark.parametrize(
    ("whence", "offset", "expected"),
    [
        (os.SEEK_DATA, 0, 8192),
        (os.SEEK_DATA, 10000, 10000),
        (os.SEEK_HOLE, 8192, 16384),
        (os.SEEK_HOLE, 100, 100),
    ],
)
@pytest.mark.parametrize("handle", [D0, HOME])
async def test_data_and_holes_are_found(
    kernel: Kernel, handle: int, whence: int, offset: int, expected: int
) -> None:
    kernel.write(handle, 1, 8192, b"x" * 8192)
    await kernel.reply()
    kernel.send(Opcode.LSEEK, 2, wire.LSEEK_IN.pack(handle, offset, whence, 0))
    assert await kernel.reply() == done(2, struct.pack("=Q", expected))


@pytest.mark.parametrize(
    ("handle", "whence", "offset", "number"),
    [
        (D0, os.SEEK_DATA, 0, errno.ENXIO),
        (D0, os.SEEK_HOLE, SIZE, errno.ENXIO),
        (D0, os.SEEK_DATA, (1 << 64) - 1, errno.ENXIO),
        (D0, os.SEEK_END, 0, errno.EINVAL),
        (D0, 99, 0, errno.EINVAL),
        (TEXT, os.SEEK_DATA, 0, errno.EOPNOTSUPP),
        (NONE, os.SEEK_DATA, 0, errno.EBADF),
    ],
)
async def test_seeking_where_nothing_is_found_is_an_error(
    kernel: Kernel, handle: int, whence: int, offset: int, number: int
) -> None:
    kernel.send(Opcode.LSEEK, 2, wire.LSEEK_IN.pack(handle, offset, whence, 0))
    assert await kernel.reply() == failed(2, number)
    assert await kernel.all_passed_on() == []


# libfuse's part.


@pytest.mark.parametrize("opcode", [GETATTR, 9999])
async def test_what_is_not_ours_is_passed_on_as_it_came_and_its_reply_brought_back(
    kernel: Kernel, opcode: int
) -> None:
    sent = kernel.send(opcode, 7, b"anything")
    assert await kernel.passed_on() == sent
    kernel.libfuse.send(done(7, b"attributes"))
    assert await kernel.reply() == done(7, b"attributes")


async def test_statfs_fails_for_a_file_that_takes_no_discards_only(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inode in (1, D0, TEXT):
        sent = request(Opcode.STATFS, 7, inode=inode)
        kernel.socket.send(sent)
        assert await kernel.passed_on() == sent
    disk = kernel.system.disks["d0"]
    monkeypatch.setattr(disk, "limits", replace(disk.limits, discard=False))
    kernel.socket.send(request(Opcode.STATFS, 8, inode=D0))
    assert await kernel.reply() == failed(8, errno.EOPNOTSUPP)


async def test_fsync_of_a_text_file_is_passed_on(kernel: Kernel) -> None:
    sent = kernel.send(Opcode.FSYNC, 1, wire.FSYNC_IN.pack(TEXT, 0, 0))
    assert await kernel.passed_on() == sent


@pytest.mark.parametrize(
    ("offset", "expected"), [(0, b"01234567"), (4, b"456789\n"), (11, b""), (1 << 40, b"")]
)
async def test_a_text_file_is_read_here(kernel: Kernel, offset: int, expected: bytes) -> None:
    kernel.read(TEXT, 1, offset, 8)
    assert await kernel.reply() == done(1, expected)
    assert await kernel.all_passed_on() == []


async def test_an_interrupt_gets_no_answer_and_stops_nothing(kernel: Kernel) -> None:
    kernel.slow.hold()
    kernel.read(SLOW, 2, 0, 512)
    kernel.send(Opcode.INTERRUPT, 3, struct.pack("=Q", 2))
    await kernel.says_nothing()
    assert await kernel.all_passed_on() == []
    kernel.slow.release()
    assert await kernel.reply() == done(2, bytes(512))


async def test_no_more_than_so_many_requests_are_at_libfuse_at_once(kernel: Kernel) -> None:
    for unique in range(MAX_FORWARDED + 1):
        kernel.send(GETATTR, unique)
    assert len(await kernel.all_passed_on()) == MAX_FORWARDED
    kernel.libfuse.send(done(0))
    assert await kernel.all_passed_on() == [request(GETATTR, MAX_FORWARDED)]


async def test_forgets_are_not_counted_since_nothing_answers_them(kernel: Kernel) -> None:
    for unique in range(MAX_FORWARDED + 1):
        kernel.send(Opcode.FORGET, unique, struct.pack("=Q", 1))
    kernel.send(GETATTR, 1000)
    assert len(await kernel.all_passed_on()) == MAX_FORWARDED + 2


async def test_more_forgets_than_a_message_to_libfuse_holds_are_split(kernel: Kernel) -> None:
    count = 2 * lane_module.MAX_FORGETS + 1
    ones = b"".join(struct.pack("=QQ", inode, 1) for inode in range(count))
    kernel.send(Opcode.BATCH_FORGET, 1, struct.pack("=II", count, 0) + ones)
    parts = await kernel.all_passed_on()
    assert [struct.unpack_from("=I", part, 40)[0] for part in parts] == [4096, 4096, 1]
    assert b"".join(part[48:] for part in parts) == ones


async def test_libfuse_is_asked_for_a_page_of_a_directory_at_most(kernel: Kernel) -> None:
    for opcode in (Opcode.READDIR, Opcode.READDIRPLUS):
        kernel.send(opcode, 1, wire.IO_IN.pack(1, 0, 1 << 20, 0, 0, 0, 0))
        expected = request(opcode, 1, wire.IO_IN.pack(1, 0, 4096, 0, 0, 0, 0))
        assert await kernel.passed_on() == expected


async def test_init_is_rewritten_both_ways_and_only_once(kernel: Kernel) -> None:
    kernel.send(Opcode.INIT, 2, struct.pack("=IIII", 7, 45, 131072, 0))
    expected = request(Opcode.INIT, 2, struct.pack("=IIII", 7, 13, 131072, 0))
    assert await kernel.passed_on() == expected
    libfuses = done(2, struct.pack("=IIIIHHI", 7, 13, 131072, 0, 12, 9, 131072))
    kernel.libfuse.send(libfuses)
    widened = wire.widen_init_reply(libfuses, 45, 256, MAX_BACKGROUND)
    assert await kernel.reply() == widened
    kernel.send(GETATTR, 2)
    await kernel.passed_on()
    kernel.libfuse.send(libfuses)
    assert await kernel.reply() == libfuses
