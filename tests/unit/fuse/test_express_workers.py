"""Workers of the compiled loop: many requests, and each is done once."""

import os
from collections.abc import Iterable, Iterator

import pytest

from fusedm.crypto import EvpCipher
from tests.helpers import reference_xts
from tests.helpers.builders import pattern
from tests.helpers.express_loop import Finder, Loop
from tests.helpers.lane_kernel import (
    done,
    flush_request,
    read_request,
    request,
    write_request,
    written,
)

#: Of a write: large enough to have a second one take requests at once.
PIECE = 1 << 17
COUNT = 200
UNIT = 4096
KEY = bytes(pattern(64))
GETATTR = 3


@pytest.fixture
def fd() -> Iterator[int]:
    """An empty file in memory."""
    fd = os.memfd_create("medium")
    os.ftruncate(fd, COUNT * PIECE)
    yield fd
    os.close(fd)


def add(finder: Finder, handle: int, fd: int) -> None:
    """A path to whole units of a file, under a key."""
    finder.cipher = EvpCipher("AES-256-XTS", KEY, UNIT)
    finder.add(handle, fd, end=COUNT * PIECE, unit=UNIT)


def piece(index: int) -> bytes:
    """The data of a write, which no other one has."""
    return index.to_bytes(8, "little") * (PIECE // 8)


def write_of(index: int, handle: int = 1) -> bytes:
    return write_request(handle, index, PIECE * index, piece(index))


def answers(indexes: Iterable[int]) -> list[bytes]:
    return [written(index, PIECE) for index in indexes]


def assert_each_once(
    loop: Loop, messages: list[bytes], wanted: list[bytes], out: list[bytes]
) -> None:
    """Each message is answered, or handed out, exactly once."""
    replies, handed_out = loop.ask_at_full_speed(messages)
    assert sorted(replies) == sorted(wanted)
    assert sorted(handed_out) == sorted(out)


def assert_written(fd: int, indexes: Iterable[int]) -> None:
    """Each write is where it belongs, and is encrypted with its own numbers."""
    cipher = EvpCipher("AES-256-XTS", KEY, UNIT)
    for index in indexes:
        plain = memoryview(bytearray(os.pread(fd, PIECE, index * PIECE)))
        cipher.decrypt(index * PIECE // UNIT, plain, plain)
        assert plain == piece(index), f"write {index}"


# Two take requests: under a key there is enough to do for each that the second one comes in time.


def test_writes_without_a_pause_arrive_and_are_answered_once(
    loop: Loop, finder: Finder, fd: int
) -> None:
    add(finder, 1, fd)
    assert_each_once(loop, [write_of(i) for i in range(COUNT)], answers(range(COUNT)), [])
    assert_written(fd, range(COUNT))
    secret = os.pread(fd, UNIT, 77 * PIECE)
    assert secret == reference_xts.encrypt(KEY, UNIT, 77 * PIECE // UNIT, piece(77)[:UNIT])


def test_what_both_have_done_is_counted(loop: Loop, finder: Finder, fd: int) -> None:
    add(finder, 1, fd)
    messages = [write_of(index) for index in range(COUNT)]
    messages[1::2] = [read_request(1, index, 0, 512 * 16) for index in range(1, COUNT, 2)]
    replies, _ = loop.ask_at_full_speed(messages)
    assert len(replies) == COUNT
    half = COUNT // 2
    assert finder.done(1) == [(half, half * 8192), (half, half * PIECE), (0, 0)]


def test_each_of_the_two_decrypts_with_contexts_of_its_own(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """Only a few large reads at once, since their replies need room."""
    size = 32768
    data = pattern(8 * size)
    secret = memoryview(bytearray(8 * size))
    EvpCipher("AES-256-XTS", KEY, UNIT).encrypt(0, memoryview(data), secret)
    os.pwrite(fd, secret, 0)
    add(finder, 1, fd)
    wanted = [done(unique, data[unique * size :][:size]) for unique in range(8)]
    for _ in range(60):
        replies, handed_out = loop.ask(*(read_request(1, at, at * size, size) for at in range(8)))
        assert (sorted(replies), handed_out) == (sorted(wanted), [])


def test_what_is_not_for_workers_is_handed_out_between_the_answers(
    loop: Loop, finder: Finder, fd: int
) -> None:
    add(finder, 1, fd)
    messages = [write_of(index) for index in range(COUNT)]
    messages[::5] = [request(GETATTR, index, b"x" * index) for index in range(0, COUNT, 5)]
    mine = [index for index in range(COUNT) if index % 5]
    assert_each_once(loop, messages, answers(mine), messages[::5])
    assert_written(fd, mine)


def test_each_comes_upon_paths_that_the_other_has_not_used(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """Every other write is the first of another file."""
    files = 63
    for handle in range(1, 1 + files):
        add(finder, handle, fd)
    handles = [1 if index % 2 else 1 + index // 2 % files for index in range(COUNT)]
    messages = [write_of(index, handle) for index, handle in enumerate(handles)]
    assert_each_once(loop, messages, answers(range(COUNT)), [])
    assert_written(fd, range(COUNT))


def test_what_fails_in_either_is_handed_out(loop: Loop, finder: Finder, fd: int) -> None:
    """The file of the second handle can only be read."""
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    add(finder, 1, fd)
    add(finder, 2, reading)
    messages = [write_of(index, 2 if index % 3 == 1 else 1) for index in range(COUNT)]
    mine = [index for index in range(COUNT) if index % 3 != 1]
    assert_each_once(loop, messages, answers(mine), messages[1::3])
    assert_written(fd, mine)
    os.close(reading)


def test_small_requests_that_were_all_there_before_are_answered_once(
    loop: Loop, finder: Finder, fd: int
) -> None:
    data = pattern(100 * 512)
    os.pwrite(fd, data, 0)
    finder.add(1, fd)
    for _ in range(20):
        messages = [read_request(1, unique, 512 * unique, 512) for unique in range(100)]
        replies, handed_out = loop.ask(*messages)
        wanted = [done(unique, data[512 * unique :][:512]) for unique in range(100)]
        assert (sorted(replies), handed_out) == (sorted(wanted), [])


@pytest.mark.parametrize("blocks", [False, True])
def test_requests_of_every_kind_at_full_speed_are_each_answered_once(
    loop: Loop, finder: Finder, fd: int, blocks: bool
) -> None:
    """Where calls may wait, workers go away and come back between them."""
    os.pwrite(fd, b"r" * 512 * 8, 0)
    finder.add(1, fd, end=COUNT * PIECE, blocks=blocks)
    finder.add_flush(1, fd, blocks=blocks)
    messages, wanted, out = [], [], []
    for unique in range(0, 10 * COUNT, 5):
        data, place = unique.to_bytes(8, "little") * 64, 8192 + 512 * unique
        messages += [
            write_request(1, unique, place, data),
            write_request(1, unique + 1, place + 512, data, os.O_DSYNC),
            flush_request(1, unique + 2),
            read_request(1, unique + 3, 512, 1024),
            request(GETATTR, unique + 4, b"x" * 100),
        ]
        wanted += [written(unique, 512), written(unique + 1, 512), done(unique + 2)]
        wanted.append(done(unique + 3, b"r" * 1024))
        out.append(messages[-1])
    assert_each_once(loop, messages, wanted, out)
    for unique in range(0, 10 * COUNT, 5):
        assert os.pread(fd, 1024, 8192 + 512 * unique) == unique.to_bytes(8, "little") * 128
