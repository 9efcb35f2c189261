"""The compiled loop on its own: what its workers answer, and what they hand out."""

import errno
import os
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest

from fusedm.files.path import Medium
from fusedm.fuse.express import Express
from tests.helpers.builders import pattern
from tests.helpers.express_loop import PATIENCE_SECONDS, Finder, Loop
from tests.helpers.lane_kernel import (
    done,
    failed,
    flush_request,
    read_request,
    request,
    write_request,
    written,
)

SIZE = 1 << 20
GETATTR = 3
NONE_WERE = [(0, 0), (0, 0), (0, 0)]


@pytest.fixture
def fd() -> Iterator[int]:
    """A file in memory with something in it."""
    fd = os.memfd_create("medium")
    os.pwrite(fd, pattern(SIZE), 0)
    yield fd
    os.close(fd)


# One at a time.


def test_a_read_is_answered_from_its_place_on_the_descriptor(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd, begin=4096, end=8192, shift=10000 - 4096)
    replies, handed_out = loop.ask(read_request(1, 7, 4608, 1024))
    assert (replies, handed_out) == ([done(7, pattern(SIZE)[10512:11536])], [])


def test_a_write_is_answered_and_leaves_its_neighbours(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd, shift=512)
    replies, handed_out = loop.ask(write_request(1, 7, 1024, b"x" * 512))
    assert (replies, handed_out) == ([written(7, 512)], [])
    data = pattern(SIZE)
    assert os.pread(fd, SIZE, 0) == data[:1536] + b"x" * 512 + data[2048:]


@pytest.mark.parametrize("size", [512, 65536, 1 << 17, (1 << 17) + 512, 500 * 512])
def test_any_size_is_read_and_written_whole(loop: Loop, finder: Finder, fd: int, size: int) -> None:
    finder.add(1, fd)
    data = bytes(pattern(size, size))
    assert loop.ask(write_request(1, 7, 1536, data)) == ([written(7, size)], [])
    assert loop.ask(read_request(1, 8, 1536, size)) == ([done(8, data)], [])


@pytest.mark.parametrize(
    "message",
    [
        request(GETATTR, 7, b"anything"),
        request(9999, 7),
        read_request(2, 7, 0, 512),
        read_request(1, 7, 8192, 512),
        read_request(1, 7, 4096 - 512, 1024),
        read_request(1, 7, 100, 512),
        read_request(1, 7, 0, 100),
        read_request(1, 7, 0, 0),
        read_request(1, 7, (1 << 62), 512),
        read_request(1, 7, (1 << 64) - 512, 512),
        read_request(1, 7, 0, (1 << 32) - 512),
        read_request(1, 7, 0, 512) + b"more",
        read_request(1, 7, 0, 512)[:-1],
        write_request(1, 7, 0, b"x" * 512, size=1024),
        write_request(1, 7, 0, b"x" * 1024, size=512),
        write_request(1, 7, 0, b"x" * 512, os.O_DSYNC),
        write_request(1, 7, 0, b"x" * 512, os.O_SYNC | os.O_APPEND),
        flush_request(1, 7),
        flush_request(2, 7) + b"more",
        flush_request(2, 7)[:-1],
        b"short",
    ],
)
def test_everything_else_is_handed_out_as_it_came_and_changes_nothing(
    loop: Loop, finder: Finder, fd: int, message: bytes
) -> None:
    finder.add(1, fd, end=4096)
    finder.add_flush(2, fd)
    assert loop.ask(message) == ([], [message])
    assert os.pread(fd, SIZE, 0) == pattern(SIZE)
    assert finder.done(1) == finder.done(2, is_flush=True) == NONE_WERE


def test_a_request_that_is_no_io_asks_for_no_path(loop: Loop, finder: Finder) -> None:
    loop.ask(request(GETATTR, 7, b"x" * 100))
    assert finder.asked == []


def test_what_is_handed_out_lies_there_until_the_next_call(loop: Loop) -> None:
    """And other workers, who have buffers of their own, take what comes meanwhile."""
    first, second = request(GETATTR, 7, b"x" * 100), request(GETATTR, 8, b"y" * 100)
    for message in (first, second):
        loop.socket.send(message)
    came = next_one(loop)
    assert came == first
    sleep(0.001)
    assert came == first
    assert next_one(loop) == second


def next_one(loop: Loop) -> memoryview:
    """The next request that is handed out."""
    give_up = monotonic() + PATIENCE_SECONDS
    while not isinstance(came := loop.express.next(0.001), memoryview):
        assert monotonic() < give_up
    return came


def test_flags_that_ask_for_nothing_more_are_fine(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    message = write_request(1, 7, 0, b"x" * 512, os.O_RDWR | os.O_DIRECT | os.O_NOATIME)
    assert loop.ask(message) == ([written(7, 512)], [])


def test_a_path_that_may_not_be_written_is_read(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    finder.may_write = False
    message = write_request(1, 7, 0, b"x" * 512)
    assert loop.ask(message) == ([], [message])
    assert loop.ask(read_request(1, 8, 0, 512)) == ([done(8, pattern(SIZE)[:512])], [])


def test_a_path_that_may_not_be_read_is_written(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    finder.may_read = False
    message = read_request(1, 7, 0, 512)
    assert loop.ask(message) == ([], [message])
    assert loop.ask(write_request(1, 8, 0, b"x" * 512)) == ([written(8, 512)], [])


def test_a_path_whose_time_is_over_serves_nothing(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    finder.add_flush(1, fd)
    finder.until = 1
    messages = [read_request(1, 7, 0, 512), write_request(1, 8, 0, b"x" * 512), flush_request(1, 9)]
    assert loop.ask(*messages) == ([], messages)
    assert os.pread(fd, SIZE, 0) == pattern(SIZE)
    finder.until = None
    assert len(loop.ask(*messages)[0]) == 3


def test_what_does_not_fit_the_buffers_is_handed_out(finder: Finder, fd: int) -> None:
    loop = Loop(finder, data_size=4096)
    finder.add(1, fd)
    message = read_request(1, 7, 0, 4608)
    assert loop.ask(message) == ([], [message])
    assert loop.ask(read_request(1, 8, 0, 4096)) == ([done(8, pattern(SIZE)[:4096])], [])
    loop.close()


# Flushes.


@pytest.mark.parametrize("blocks", [False, True])
def test_a_flush_is_answered_and_counted(loop: Loop, finder: Finder, fd: int, blocks: bool) -> None:
    finder.add_flush(1, fd, blocks=blocks)
    assert loop.ask(flush_request(1, 7)) == ([done(7)], [])
    assert finder.done(1, is_flush=True) == [(0, 0), (0, 0), (1, 0)]


def test_the_error_of_a_flush_is_its_reply_and_is_told_once(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """What is handed out would be flushed again, with success. A pipe cannot be flushed."""
    reader, writer = os.pipe()
    finder.add_flush(1, fd, writer, reader, fd)
    assert loop.ask(flush_request(1, 7)) == ([failed(7, errno.EINVAL)], [])
    assert loop.replies() == []
    assert finder.done(1, is_flush=True) == [(0, 0), (0, 0), (1, 0)]
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("flags", [os.O_DSYNC, os.O_SYNC])
def test_a_durable_write_is_written_and_flushed(
    loop: Loop, finder: Finder, fd: int, flags: int
) -> None:
    finder.add(1, fd)
    finder.add_flush(1, fd)
    assert loop.ask(write_request(1, 7, 512, b"x" * 512, flags)) == ([written(7, 512)], [])
    assert os.pread(fd, 512, 512) == b"x" * 512
    assert finder.done(1) == [(0, 0), (1, 512), (0, 0)]
    assert finder.done(1, is_flush=True) == [(0, 0), (0, 0), (1, 0)]


def test_a_durable_write_whose_flush_fails_has_failed(loop: Loop, finder: Finder, fd: int) -> None:
    reader, writer = os.pipe()
    finder.add(1, fd)
    finder.add_flush(1, writer)
    message = write_request(1, 7, 512, b"x" * 512, os.O_DSYNC)
    assert loop.ask(message) == ([failed(7, errno.EINVAL)], [])
    os.close(reader)
    os.close(writer)


def test_a_durable_write_that_fails_is_handed_out_and_not_flushed(
    loop: Loop, finder: Finder, fd: int
) -> None:
    reader, writer = os.pipe()
    finder.add(1, writer)
    finder.add_flush(1, fd)
    message = write_request(1, 7, 512, b"x" * 512, os.O_DSYNC)
    assert loop.ask(message) == ([], [message])
    assert finder.done(1, is_flush=True) == NONE_WERE
    os.close(reader)
    os.close(writer)


# Several legs.


def test_what_lies_on_several_legs_is_read_and_written_where_it_lies(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """Chunks of 1024 bytes from 512 on; each leg has every third."""
    files = [os.memfd_create(f"leg-{index}") for index in range(3)]
    shifts = [0, 4096, 512]
    legs = [(Medium(each, False), shift) for each, shift in zip(files, shifts, strict=True)]
    finder.add_legs(1, legs, 512, 512 + 32 * 1024, 512, 512, 1024)
    data = bytes(pattern(7 * 1024, 3))
    assert loop.ask(write_request(1, 7, 1024, data)) == ([written(7, len(data))], [])
    expected = [bytearray(os.fstat(each).st_size) for each in files]
    for at in range(0, len(data), 512):
        chunk, within = divmod(1024 + at - 512, 1024)
        place = shifts[chunk % 3] + chunk // 3 * 1024 + within
        expected[chunk % 3][place : place + 512] = data[at : at + 512]
    assert [os.pread(each, SIZE, 0) for each in files] == expected
    assert loop.ask(read_request(1, 8, 1536, 4096)) == ([done(8, data[512 : 512 + 4096])], [])
    for each in files:
        os.close(each)


def test_each_leg_counts_for_its_pieces_and_the_whole_for_itself(
    loop: Loop, finder: Finder
) -> None:
    files = [os.memfd_create(f"leg-{index}") for index in range(2)]
    for each in files:
        os.ftruncate(each, SIZE)
    finder.add_legs(1, [(Medium(each, False), 0) for each in files], 0, SIZE, 512, 0, 1024)
    loop.ask(read_request(1, 7, 512, 1024 + 1024), write_request(1, 8, 1024, b"x" * 1024))
    tallies, under_way, _ = finder.take_back(1)
    assert [[numbers[:2] for numbers in each] for each in tallies] == [
        [(1, 2048), (1, 1024), (0, 0)],
        [(2, 1024), (0, 0), (0, 0)],
        [(1, 1024), (1, 1024), (0, 0)],
    ]
    assert under_way == (0, 0, 0)
    for each in files:
        os.close(each)


def test_a_flush_reaches_every_leg_and_is_counted_at_each(loop: Loop, finder: Finder) -> None:
    files = [os.memfd_create(f"leg-{index}") for index in range(2)]
    finder.add_flush(1, *files)
    assert loop.ask(flush_request(1, 7)) == ([done(7)], [])
    tallies, _, _ = finder.take_back(1, is_flush=True)
    assert [numbers[2][0] for numbers in tallies] == [1, 1, 1]
    for each in files:
        os.close(each)


# What fails.


def test_a_read_past_the_end_of_a_cut_file_is_handed_out(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd)
    os.ftruncate(fd, 1024)
    message = read_request(1, 7, 512, 1024)
    assert loop.ask(message) == ([], [message])
    assert loop.ask(read_request(1, 8, 512, 512)) == ([done(8, pattern(SIZE)[512:1024])], [])


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("make", [read_request, lambda *of: write_request(*of[:3], b"x" * 512)])
def test_what_fails_is_handed_out_and_not_counted(
    loop: Loop, finder: Finder, make: Callable[..., bytes], blocks: bool
) -> None:
    """A pipe has no offsets."""
    reader, writer = os.pipe()
    finder.add(1, reader, blocks=blocks)
    message = make(1, 7, 0, 512)
    assert loop.ask(message) == ([], [message])
    assert finder.done(1) == NONE_WERE
    os.close(reader)
    os.close(writer)


def test_what_fails_on_a_path_is_not_tried_again(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    os.ftruncate(fd, 1024)
    messages = read_request(1, 7, 512, 512), read_request(1, 8, 512, 1024)
    replies, handed_out = loop.ask(*messages)
    assert (replies, handed_out) == ([done(7, pattern(SIZE)[512:1024])], [messages[1]])
    assert finder.done(1)[0] == (1, 512)


def test_a_reply_that_is_refused_becomes_an_error_and_is_told_and_the_next_one_sent(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """By a socket with room for less than one; the kernel's reasons are others."""
    finder.add(1, fd)
    loop.device.setsockopt(1, 7, 1)  # SO_SNDBUF, as little as it gets.
    assert loop.ask(read_request(1, 7, 0, 1 << 17), read_request(1, 8, 0, 512)) == (
        [failed(7, errno.EIO), done(8, pattern(SIZE)[:512])],
        [],
    )
    assert loop.refused == [(errno.EMSGSIZE, (1 << 17) + 16)]


def test_the_end_of_the_mount_is_an_error_again_and_again(loop: Loop) -> None:
    loop.socket.close()
    for _ in range(3):
        assert taking_fails(loop.express) == errno.ENODEV


def test_an_error_in_taking_requests_is_told(finder: Finder) -> None:
    """A directory is nothing that can be read."""
    directory = os.open("/", os.O_RDONLY)
    express = Express(
        directory, 4096, finder.gate, finder.find, finder.open, finder.close, lambda *why: None
    )
    os.close(directory)
    express.start()
    assert taking_fails(express) == errno.EISDIR
    express.close()


def taking_fails(express: Express) -> int | None:
    """The errno with which requests cannot be taken."""
    give_up = monotonic() + PATIENCE_SECONDS
    while monotonic() < give_up:
        try:
            express.next(0.001)
        except OSError as error:
            return error.errno
    return None
