"""The compiled loop on its own: what it answers, what it hands out, and its helper."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fusedm.fuse.express import NOTHING_CAME, TURN_OVER
from tests.helpers.builders import pattern
from tests.helpers.express_loop import Finder, Loop
from tests.helpers.lane_kernel import done, failed, read_request, request, write_request, written

SIZE = 1 << 20
MAX_PATHS = 64
GETATTR = 3


@pytest.fixture
def finder() -> Finder:
    return Finder()


@pytest.fixture
def fd() -> Iterator[int]:
    """A file in memory with something in it."""
    fd = os.memfd_create("medium")
    os.pwrite(fd, pattern(SIZE), 0)
    yield fd
    os.close(fd)


@pytest.fixture
def loop(finder: Finder) -> Iterator[Loop]:
    """A loop that asks the finder."""
    loop = Loop(finder.find, finder.end_batch)
    yield loop
    loop.close()


@contextmanager
def nothing_left() -> Iterator[None]:
    """A helper that was started is gone afterwards."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


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
        b"short",
    ],
)
def test_everything_else_is_handed_out_as_it_came_and_changes_nothing(
    loop: Loop, finder: Finder, fd: int, message: bytes
) -> None:
    finder.add(1, fd, end=4096)
    assert loop.ask(message) == ([], [message])
    assert os.pread(fd, SIZE, 0) == pattern(SIZE)


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


def test_what_does_not_fit_the_buffers_is_handed_out(finder: Finder, fd: int) -> None:
    loop = Loop(finder.find, finder.end_batch, data_size=4096)
    finder.add(1, fd)
    message = read_request(1, 7, 0, 4608)
    assert loop.ask(message) == ([], [message])
    assert loop.ask(read_request(1, 8, 0, 4096)) == ([done(8, pattern(SIZE)[:4096])], [])
    loop.close()


# What fails.


def test_a_read_past_the_end_of_a_cut_file_is_handed_out(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd)
    os.ftruncate(fd, 1024)
    message = read_request(1, 7, 512, 1024)
    assert loop.ask(message) == ([], [message])
    assert loop.ask(read_request(1, 8, 512, 512)) == ([done(8, pattern(SIZE)[512:1024])], [])


def test_what_fails_on_a_path_is_not_looked_for_again(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    os.ftruncate(fd, 1024)
    messages = read_request(1, 7, 512, 512), read_request(1, 8, 512, 1024)
    replies, handed_out = loop.ask(*messages)
    assert (replies, handed_out) == ([done(7, pattern(SIZE)[512:1024])], [messages[1]])
    assert len(finder.asked) == 1


@pytest.mark.parametrize("make", [read_request, lambda *of: write_request(*of[:3], b"x" * 512)])
def test_what_fails_is_handed_out_and_not_counted(
    loop: Loop, finder: Finder, make: Callable[..., bytes]
) -> None:
    reader, writer = os.pipe()
    finder.add(1, reader)
    message = make(1, 7, 0, 512)
    assert loop.ask(message) == ([], [message])
    assert finder.batches == [[(0, 0, 0, 0, 0, 0)]]
    os.close(reader)
    os.close(writer)


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


def test_the_end_of_the_mount_is_an_error(loop: Loop) -> None:
    loop.socket.close()
    with pytest.raises(OSError, match="No such device") as caught:
        loop.run()
    assert caught.value.errno == errno.ENODEV


def test_an_error_in_taking_requests_is_told(loop: Loop) -> None:
    os.close(loop.device.detach())
    with pytest.raises(OSError, match="Bad file") as caught:
        loop.run()
    assert caught.value.errno == errno.EBADF


# Turns and batches.


def test_where_nothing_comes_it_says_so_and_ends_no_batch(loop: Loop, finder: Finder) -> None:
    assert loop.express.next(0.0, 1.0) == NOTHING_CAME
    assert finder.batches == []


def test_a_turn_that_is_over_leaves_what_has_not_been_taken(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd)
    for unique in range(50):
        loop.socket.send(read_request(1, unique, 0, 512))
    assert loop.express.next(0.0, 0.0) == TURN_OVER
    answered = len(loop.replies())
    assert 0 < answered < 5
    assert loop.run() == []
    assert len(loop.replies()) == 50 - answered


def test_a_path_is_asked_for_once_a_batch(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    for batch in (1, 2):
        loop.ask(*(read_request(1, unique, 512 * unique, 512) for unique in range(4)))
        assert len(finder.asked) == batch


def test_a_request_that_is_no_io_asks_for_no_path(loop: Loop, finder: Finder) -> None:
    loop.ask(request(GETATTR, 7, b"x" * 100))
    assert finder.asked == []


def test_a_batch_is_settled_at_its_end_with_what_each_path_did(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd)
    finder.add(2, fd)
    loop.ask(
        read_request(1, 1, 0, 1024), read_request(1, 2, 0, 512), write_request(2, 3, 0, b"x" * 512)
    )
    ((first, second),) = finder.batches
    assert (first[:2], first[3:]) == ((2, 1536), (0, 0, 0))
    assert (second[:3], second[3:5]) == ((0, 0, 0), (1, 512))
    assert first[2] > 0
    assert second[5] > 0
    loop.ask(read_request(1, 1, 0, 512))
    assert finder.batches[1][0][:2] == (1, 512), "counted from the beginning"


def test_a_request_that_is_handed_out_ends_the_batch(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    for message in (read_request(1, 1, 0, 512), request(GETATTR, 2)):
        loop.socket.send(message)
    assert isinstance(loop.express.next(0.0, 10.0), memoryview)
    assert [done[0][0] for done in finder.batches] == [1]


def test_a_batch_has_so_many_paths_and_the_next_one_is_handed_out(
    loop: Loop, finder: Finder, fd: int
) -> None:
    for handle in range(MAX_PATHS + 1):
        finder.add(handle, fd, shift=512 * handle)
    messages = [read_request(handle, handle, 0, 512) for handle in range(MAX_PATHS + 1)]
    replies, handed_out = loop.ask(*messages)
    assert len(replies) == MAX_PATHS
    assert len(handed_out) == 1
    assert loop.ask(handed_out[0])[1] == [], "there is room for it in the next batch"


# The end.


def test_closing_ends_the_helper_and_may_be_repeated(finder: Finder, fd: int) -> None:
    with nothing_left():
        loop = Loop(finder.find, finder.end_batch)
        finder.add(1, fd)
        loop.ask(*(read_request(1, unique, 0, 512) for unique in range(50)))
        loop.close()
        loop.express.close()


def test_closing_one_that_never_ran_is_fine(finder: Finder) -> None:
    with nothing_left():
        Loop(finder.find, finder.end_batch).close()
