"""The compiled loop on its own: its gate, its bell, and how it ends."""

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

import pytest

from fusedm.fuse.express import AT_REST, NOTHING_CAME
from tests.helpers.builders import pattern
from tests.helpers.express_loop import PATIENCE_SECONDS, Finder, Loop, wait_until
from tests.helpers.lane_kernel import (
    done,
    read_request,
    request,
    write_request,
    written,
)

SIZE = 1 << 20
MAX_PATHS = 64
GETATTR = 3


@pytest.fixture
def fd() -> Iterator[int]:
    """A file in memory with something in it."""
    fd = os.memfd_create("medium")
    os.pwrite(fd, pattern(SIZE), 0)
    yield fd
    os.close(fd)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Threads that were started are gone afterwards."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def next_one(loop: Loop) -> memoryview:
    """The next request that is handed out."""
    give_up = monotonic() + PATIENCE_SECONDS
    while not isinstance(came := loop.express.next(0.001), memoryview):
        assert monotonic() < give_up
    return came


# The gate, and the bell.


def test_where_nothing_comes_it_says_so_and_the_bell_rings_for_the_next_one(
    loop: Loop, finder: Finder
) -> None:
    assert loop.express.next(0.0) == NOTHING_CAME
    assert not rings(finder)
    message = request(GETATTR, 7, b"x" * 100)
    loop.socket.send(message)
    wait_until(lambda: rings(finder))
    finder.gate.hush()
    assert next_one(loop) == message
    assert not rings(finder)


def rings(finder: Finder) -> bool:
    return bool(select.select([finder.gate.bell], [], [], 0)[0])


def test_while_the_gate_is_closed_requests_wait_and_are_done_when_it_opens(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd)
    finder.find(1, 1, 0, 512)
    loop.socket.send(write_request(1, 7, 0, b"x" * 512))
    wait_until(lambda: finder.gate.is_waited_at)
    assert (loop.replies(), os.pread(fd, 512, 0)) == ([], pattern(SIZE)[:512])
    finder.open()
    replies: list[bytes] = []
    wait_until(lambda: bool(replies.extend(loop.replies()) or replies))
    finder.close()
    assert replies == [written(7, 512)]
    assert os.pread(fd, 512, 0) == b"x" * 512


def test_a_gate_that_closes_has_nothing_left_open(loop: Loop, finder: Finder, fd: int) -> None:
    finder.add(1, fd)
    finder.find(1, 0, 0, 512)
    assert finder.gate.serves(1, 0, 0, 512)
    finder.open()
    finder.close()
    assert finder.gate.serves(1, 0, 0, 512) is None
    message = read_request(1, 7, 0, 512)
    del finder.paths[1, False]
    assert loop.ask(message) == ([], [message])


def test_what_is_at_the_gate_and_what_it_serves_now_are_told_apart(finder: Finder, fd: int) -> None:
    finder.add(1, fd, end=4096)
    finder.may_write = False
    assert finder.find(1, 0, 0, 512)
    told = [
        finder.gate.serves(1, kind, offset, 512) for kind, offset in ((0, 0), (1, 0), (0, 4096))
    ]
    assert told == [True, False, None]
    assert finder.gate.serves(2, 0, 0, 512) is None


def test_closing_says_whether_it_was_open(finder: Finder) -> None:
    assert not finder.gate.close()
    finder.open()
    assert finder.gate.close()
    assert not finder.gate.close()


def test_so_many_paths_are_open_at_a_time_and_then_there_is_room_again(
    finder: Finder, fd: int
) -> None:
    for handle in range(MAX_PATHS + 1):
        finder.add(handle, fd)
        assert finder.find(handle, 0, 0, 512) == (handle < MAX_PATHS)
    finder.open()
    finder.close()
    assert finder.find(MAX_PATHS, 0, 0, 512)


def test_of_more_paths_than_there_is_room_for_each_request_is_seen_to_once(
    loop: Loop, finder: Finder, fd: int
) -> None:
    handles = range(2 * MAX_PATHS)
    for handle in handles:
        finder.add(handle, fd, shift=512 * handle)
    messages = [read_request(handle, handle, 0, 512) for handle in handles]
    wanted = [done(handle, pattern(SIZE)[512 * handle :][:512]) for handle in handles]
    replies, handed_out = loop.ask_at_full_speed(messages)
    assert len(replies) >= MAX_PATHS
    others = {messages[handle] for handle in handles if wanted[handle] not in replies}
    assert len(set(replies)) == len(replies)
    assert set(replies) <= set(wanted)
    assert sorted(handed_out) == sorted(others)


def test_each_path_counts_what_was_done_on_it_from_the_last_time_on(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd)
    finder.add(2, fd)
    loop.ask(
        read_request(1, 1, 0, 1024), read_request(1, 2, 0, 512), write_request(2, 3, 0, b"x" * 512)
    )
    ((read, none, _),), _, _ = finder.take_back(1)
    ((_, write, _),), _, _ = finder.take_back(2)
    assert (read[:2], none, write[:2]) == ((2, 1536), (0, 0, 0), (1, 512))
    assert read[2] > 0
    assert write[2] > 0
    loop.ask(read_request(1, 1, 0, 512))
    assert finder.done(1) == [(1, 512), (0, 0), (0, 0)], "counted from the beginning"


# The end.


def test_after_stop_what_is_in_hand_is_answered_and_then_all_is_at_rest(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd)
    finder.find(1, 0, 0, 512)
    loop.socket.send(read_request(1, 7, 0, 512))
    wait_until(lambda: finder.gate.is_waited_at)
    loop.express.stop()
    assert loop.express.next(0.0) == NOTHING_CAME, "one waits at the gate"
    finder.find(1, 0, 0, 512)
    finder.open()
    replies: list[bytes] = []
    wait_until(lambda: bool(replies.extend(loop.replies()) or replies))
    finder.close()
    wait_until(lambda: loop.express.next(0.0) == AT_REST)
    assert replies == [done(7, pattern(SIZE)[:512])]


def test_after_stop_nothing_more_is_taken(loop: Loop) -> None:
    loop.express.stop()
    wait_until(lambda: loop.express.next(0.0) == AT_REST)
    message = request(GETATTR, 7, b"x" * 100)
    loop.socket.send(message)
    sleep(0.001)
    assert loop.express.next(0.001) == AT_REST
    assert loop.device.recv(1000) == message


def test_the_bell_rings_when_all_have_come_to_rest(loop: Loop, finder: Finder) -> None:
    """So whoever sleeps until it rings comes to know."""
    assert loop.express.next(0.0) == NOTHING_CAME
    loop.express.stop()
    while (came := loop.express.next(0.0)) == NOTHING_CAME:
        assert select.select([finder.gate.bell], [], [], PATIENCE_SECONDS)[0]
        finder.gate.hush()
    assert came == AT_REST


def test_closing_ends_all_threads_and_may_be_repeated(finder: Finder, fd: int) -> None:
    with nothing_left():
        loop = Loop(finder)
        finder.add(1, fd)
        loop.ask(*(read_request(1, unique, 0, 512) for unique in range(50)))
        loop.close()
        loop.express.close()


def test_closing_one_that_never_ran_is_fine(finder: Finder) -> None:
    with nothing_left():
        Loop(finder).close()


def test_closing_ends_one_that_waits_for_an_answer(finder: Finder) -> None:
    with nothing_left():
        loop = Loop(finder)
        assert loop.express.next(0.0) == NOTHING_CAME
        loop.socket.send(request(GETATTR, 7, b"x" * 100))
        wait_until(lambda: rings(finder))
        loop.close()


def test_closing_ends_one_that_waits_at_the_gate(finder: Finder, fd: int) -> None:
    with nothing_left():
        loop = Loop(finder)
        finder.add(1, fd)
        finder.find(1, 1, 0, 512)
        loop.socket.send(write_request(1, 7, 0, b"x" * 512))
        wait_until(lambda: finder.gate.is_waited_at)
        loop.close()
    assert os.pread(fd, SIZE, 0) == pattern(SIZE)


def test_closing_ends_one_whose_request_is_being_answered(finder: Finder) -> None:
    with nothing_left():
        loop = Loop(finder)
        loop.socket.send(request(GETATTR, 7, b"x" * 100))
        next_one(loop)
        loop.close()
