"""Workers of the compiled loop whose calls hang, and those who take over."""

import errno
import os
import select
import threading
from collections.abc import Iterator

import pytest

from fusedm.files.path import Medium
from tests.helpers.express_loop import Finder, HeldLoop
from tests.helpers.held_calls import Call, HeldCalls
from tests.helpers.lane_kernel import (
    done,
    failed,
    flush_request,
    read_request,
    request,
    write_request,
    written,
)

#: Of a write: large enough to have a second one take requests at once.
PIECE = 1 << 17
COUNT = 200
GETATTR = 3
MAX_CALLS = 16
MAX_WORKERS = 40
#: Handles of the paths to the descriptor whose calls are held, and to one in memory.
HELD, FREE = 1, 2


@pytest.fixture
def fd() -> Iterator[int]:
    """An empty file in memory."""
    fd = os.memfd_create("medium")
    os.ftruncate(fd, COUNT * PIECE)
    yield fd
    os.close(fd)


@pytest.fixture
def slow(fd: int) -> Iterator[int]:
    """A descriptor of the same file whose calls are held."""
    slow = os.dup(fd)
    yield slow
    os.close(slow)


@pytest.fixture
def calls() -> tuple[Call, ...]:
    """What is held."""
    return ("read", "write", "flush")


@pytest.fixture
def held(slow: int, calls: tuple[Call, ...]) -> Iterator[HeldCalls]:
    """What is held on it."""
    held = HeldCalls(slow, *calls)
    yield held
    held.close()


@pytest.fixture
def hanging(finder: Finder, held: HeldCalls, slow: int, fd: int) -> Iterator[HeldLoop]:
    """A loop with a path to the slow descriptor, which blocks, and one to the file as such."""
    finder.add(HELD, slow, blocks=True)
    finder.add_flush(HELD, slow)
    finder.add(FREE, fd)
    loop = HeldLoop(finder, held)
    yield loop
    loop.close()


#: With the watch asleep, nobody takes over but whom a worker has called itself.
no_watch = pytest.mark.parametrize("calls", [("read", "write", "flush", "watch")])


# Calls that hang.


@pytest.mark.parametrize(
    ("message", "call", "reply"),
    [
        (read_request(HELD, 7, 0, 512), "read", done(7, bytes(512))),
        (write_request(HELD, 7, 0, b"x" * 512), "write", written(7, 512)),
        (flush_request(HELD, 7), "flush", done(7)),
    ],
    ids=["read", "write", "flush"],
)
def test_while_a_call_hangs_others_take_requests(
    hanging: HeldLoop, held: HeldCalls, message: bytes, call: Call, reply: bytes
) -> None:
    hanging.send(message)
    hanging.until_held(call)
    other = request(GETATTR, 9, b"x" * 100)
    for _ in range(20):
        hanging.send(write_request(FREE, 8, 4096, b"y" * 512), other)
        hanging.until_got([written(8, 512)], [other])
    held.let_go()
    hanging.until_got([reply], [])
    hanging.send(write_request(FREE, 8, 4096, b"y" * 512))
    hanging.until_got([written(8, 512)], [])


@pytest.mark.parametrize(
    ("message", "calls_made"),
    [
        (read_request(HELD, 7, 0, 512), ["read"]),
        (write_request(HELD, 7, 0, b"x" * 512), ["write"]),
        (write_request(HELD, 7, 0, b"x" * 512, os.O_DSYNC), ["write"]),
    ],
    ids=["read", "write", "durable"],
)
def test_what_fails_after_having_hung_is_handed_out_and_not_counted(
    hanging: HeldLoop, held: HeldCalls, finder: Finder, message: bytes, calls_made: list[Call]
) -> None:
    hanging.send(message)
    hanging.until_held(*calls_made)
    held.let_go(errno.EIO)
    hanging.until_got([], [message])
    assert finder.done(HELD) == finder.done(HELD, is_flush=True) == [(0, 0)] * 3


def test_a_flush_that_fails_after_having_hung_fails_once(
    hanging: HeldLoop, held: HeldCalls
) -> None:
    hanging.send(flush_request(HELD, 7))
    hanging.until_held("flush")
    held.let_go(errno.ENOSPC)
    hanging.until_got([failed(7, errno.ENOSPC)], [])
    hanging.send(flush_request(HELD, 8))
    hanging.until_held("flush")
    held.let_go()
    hanging.until_got([done(8)], [])


def test_a_durable_write_is_flushed_after_it_has_been_written(
    hanging: HeldLoop, held: HeldCalls, fd: int
) -> None:
    hanging.send(write_request(HELD, 7, 0, b"x" * 512, os.O_DSYNC))
    hanging.until_held("write")
    assert os.pread(fd, 512, 0) == bytes(512)
    held.let_go()
    hanging.until_held("flush")
    assert os.pread(fd, 512, 0) == b"x" * 512
    assert hanging.got == ([], [])
    held.let_go()
    hanging.until_got([written(7, 512)], [])


def test_an_error_of_one_leg_does_not_keep_others_from_being_flushed(
    hanging: HeldLoop, held: HeldCalls, finder: Finder, slow: int
) -> None:
    finder.add_flush(3, slow, slow, slow)
    hanging.send(flush_request(3, 7))
    for error in (0, errno.EIO, errno.ENOSPC):
        hanging.until_held("flush")
        held.let_go(error)
    hanging.until_got([failed(7, errno.EIO)], [])


def test_many_calls_hang_at_once_and_for_each_there_is_a_worker(
    hanging: HeldLoop, held: HeldCalls, finder: Finder, slow: int
) -> None:
    """More than there are at first."""
    for index in range(12):
        hanging.send(write_request(HELD, index, 512 * index, b"x" * 512))
        hanging.until_held(*["write"] * (index + 1))
    hanging.send(write_request(FREE, 99, 0, b"y" * 512))
    hanging.until_got([written(99, 512)], [])
    held.let_go()
    hanging.until_got([written(index, 512) for index in range(12)], [])
    assert finder.done(HELD) == [(0, 0), (12, 12 * 512), (0, 0)]


def test_on_one_medium_so_many_calls_hang_and_the_next_request_is_handed_out(
    hanging: HeldLoop, held: HeldCalls
) -> None:
    for index in range(MAX_CALLS):
        hanging.send(write_request(HELD, index, 512 * index, b"x" * 512))
        hanging.until_held(*["write"] * (index + 1))
    message = read_request(HELD, 99, 0, 512)
    hanging.send(message)
    hanging.until_got([], [message])
    held.let_go()
    hanging.until_got([written(index, 512) for index in range(MAX_CALLS)], [])
    hanging.send(message)
    hanging.until_held("read")


def test_with_no_worker_left_to_take_requests_what_may_hang_is_handed_out(
    hanging: HeldLoop, held: HeldCalls, finder: Finder, slow: int
) -> None:
    """Each path leads to a medium of its own, so it is not that one that has too many calls."""
    messages = []
    for index in range(MAX_WORKERS + 5):
        finder.add(10 + index, slow, blocks=True)
        messages.append(write_request(10 + index, index, 512 * index, b"x" * 512))
        hanging.send(messages[-1])
        hanging.until(lambda: len(held.waiting()) + len(hanging.got[1]) == len(messages))
    hung = len(held.waiting())
    assert MAX_WORKERS - 5 < hung < MAX_WORKERS
    hanging.until_got([], messages[hung:])
    for _ in range(10):
        hanging.send(write_request(FREE, 99, 0, b"y" * 512), messages[-1])
        hanging.until_got([written(99, 512)], [messages[-1]])
    held.let_go()
    hanging.until_got([written(index, 512) for index in range(hung)], [])
    hanging.send(messages[-1])
    hanging.until_held("write")


def test_where_the_system_gives_no_more_threads_what_may_hang_is_handed_out(
    hanging: HeldLoop, held: HeldCalls, finder: Finder, slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("fusedm.fuse.express.Thread", NoThread)
    messages = [write_request(HELD, index, 512 * index, b"x" * 512) for index in range(6)]
    for sent, message in enumerate(messages, 1):
        hanging.send(message)
        hanging.until(lambda: len(held.waiting()) + len(hanging.got[1]) == sent)  # noqa: B023 - it is called at once
    hung = len(held.waiting())
    assert 0 < hung < len(messages)
    hanging.until_got([], messages[hung:])
    hanging.send(write_request(FREE, 99, 0, b"y" * 512))
    hanging.until_got([written(99, 512)], [])
    held.let_go()
    hanging.until_got([written(index, 512) for index in range(hung)], [])


@no_watch
def test_a_flush_is_expected_to_take_long(hanging: HeldLoop, held: HeldCalls) -> None:
    hanging.send(flush_request(HELD, 7))
    hanging.until_held("flush")
    hanging.send(write_request(FREE, 8, 0, b"y" * 512))
    hanging.until_got([written(8, 512)], [])
    assert held.waiting() == ["flush"]


@no_watch
def test_a_durable_write_is_expected_to_take_long(hanging: HeldLoop, held: HeldCalls) -> None:
    hanging.send(write_request(HELD, 7, 0, b"x" * 512, os.O_DSYNC))
    hanging.until_held("write")
    hanging.send(write_request(FREE, 8, 0, b"y" * 512))
    hanging.until_got([written(8, 512)], [])
    assert held.waiting() == ["write"]


@no_watch
def test_after_a_call_that_took_long_the_next_ones_are_expected_to(
    hanging: HeldLoop, held: HeldCalls
) -> None:
    """A held one takes long, since we look at it for a while."""
    hanging.send(write_request(HELD, 6, 0, b"x" * 512))
    hanging.until_held("write")
    threading.Event().wait(0.001)
    held.let_go(watch=False)
    hanging.until_got([written(6, 512)], [])
    hanging.send(write_request(HELD, 7, 0, b"x" * 512))
    hanging.until_held("write")
    hanging.send(write_request(FREE, 8, 0, b"y" * 512))
    hanging.until_got([written(8, 512)], [])
    assert held.waiting() == ["write"]


# What is under way when the gate closes.


def test_what_is_under_way_is_told_with_the_ranges_of_the_writes(
    hanging: HeldLoop, held: HeldCalls, finder: Finder
) -> None:
    hanging.send(write_request(HELD, 7, 4096, b"x" * 512))
    hanging.until_held("write")
    hanging.send(write_request(HELD, 8, 1024, b"x" * 1024), read_request(HELD, 9, 0, 512))
    hanging.until(lambda: sorted(held.waiting()) == ["read", "write", "write"])
    tallies, under_way, writes = finder.take_back(HELD)
    assert tallies == [((0, 0, 0), (0, 0, 0), (0, 0, 0))]
    assert (under_way, sorted(writes)) == ((1, 2, 0), [(1024, 2048), (4096, 4608)])
    held.let_go()
    hanging.until(lambda: len(hanging.got[0]) == 3)
    (counts,), under_way, _ = finder.take_back(HELD)
    assert [numbers[:2] for numbers in counts] == [(1, 512), (2, 1536), (0, 0)]
    assert under_way == (0, 0, 0)


def test_when_nothing_is_under_way_any_more_the_bell_rings(
    hanging: HeldLoop, held: HeldCalls, finder: Finder
) -> None:
    hanging.send(flush_request(HELD, 7))
    hanging.until_held("flush")
    finder.gate.hush()
    assert finder.take_back(HELD, is_flush=True)[1] == (0, 0, 1)
    assert select.select([finder.gate.bell], [], [], 0)[0] == []
    held.let_go()
    assert select.select([finder.gate.bell], [], [], 10)[0] == [finder.gate.bell]
    assert finder.take_back(HELD, is_flush=True)[1] == (0, 0, 0)


def test_on_several_legs_each_is_under_way(
    hanging: HeldLoop, held: HeldCalls, finder: Finder, slow: int, fd: int
) -> None:
    """A write that fails on its second leg has changed the first, and is handed out as a whole."""
    finder.add_legs(3, [(Medium(fd, False), 0), (Medium(slow, True), 0)], 0, 8192, 512, 0, 1024)
    message = write_request(3, 7, 0, b"x" * 2048)
    hanging.send(message)
    hanging.until_held("write")
    assert finder.take_back(3)[1] == (0, 1, 0)
    assert os.pread(fd, 1024, 0) == b"x" * 1024
    held.let_go(errno.EIO)
    hanging.until_got([], [message])
    assert finder.done(3) == [(0, 0)] * 3


# The end.


@pytest.mark.parametrize("call", ["read", "write", "flush"])
def test_closing_leaves_behind_who_hangs(
    finder: Finder, held: HeldCalls, slow: int, fd: int, call: Call
) -> None:
    """And what it uses is there for it until it comes back, if it ever does."""
    before = set(threading.enumerate())
    finder.add(HELD, slow, blocks=True)
    finder.add_flush(HELD, slow)
    loop = HeldLoop(finder, held)
    messages = {
        "read": read_request(HELD, 7, 0, 512),
        "write": write_request(HELD, 7, 0, b"x" * 512),
        "flush": flush_request(HELD, 7),
    }
    loop.send(messages[call])
    loop.until_held(call)
    loop.express.close()
    (left,) = set(threading.enumerate()) - before - held.threads
    held.let_go()
    left.join(10)
    assert not left.is_alive()
    loop.close()
    assert os.pread(fd, 512, 0) == (b"x" * 512 if call == "write" else bytes(512))


def test_who_was_left_behind_writes_nothing_into_another_file(
    finder: Finder, held: HeldCalls, slow: int
) -> None:
    """The number of the device may be another one's by then."""
    before = set(threading.enumerate())
    finder.add(HELD, slow, blocks=True)
    loop = HeldLoop(finder, held)
    loop.send(write_request(HELD, 7, 0, b"x" * 512))
    loop.until_held("write")
    loop.express.close()
    other = os.memfd_create("other")
    os.dup2(other, loop.device.fileno())
    (left,) = set(threading.enumerate()) - before - held.threads
    held.let_go()
    left.join(10)
    assert not left.is_alive()
    assert os.fstat(other).st_size == 0
    loop.close()
    os.close(other)
