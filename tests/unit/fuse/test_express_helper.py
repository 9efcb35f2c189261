"""The helper of the compiled loop: what two take and answer, each by itself, is done once.

Under a key there is enough to do for each request that the helper comes in time.
"""

import os
from collections.abc import Iterable, Iterator

import pytest

from fusedm.crypto import EvpCipher
from tests.helpers import reference_xts
from tests.helpers.builders import pattern
from tests.helpers.express_loop import Finder, Loop
from tests.helpers.lane_kernel import done, read_request, request, write_request, written

#: Of a write: large enough to have the helper woken at once.
PIECE = 1 << 17
COUNT = 200
UNIT = 4096
KEY = bytes(pattern(64))
MAX_PATHS = 64
GETATTR = 3


@pytest.fixture
def fd() -> Iterator[int]:
    """An empty file in memory."""
    fd = os.memfd_create("medium")
    os.ftruncate(fd, COUNT * PIECE)
    yield fd
    os.close(fd)


@pytest.fixture
def finder() -> Finder:
    finder = Finder()
    finder.cipher = EvpCipher("AES-256-XTS", KEY, UNIT)
    return finder


@pytest.fixture
def loop(finder: Finder) -> Iterator[Loop]:
    """A loop that asks the finder."""
    loop = Loop(finder.find, finder.end_batch)
    yield loop
    loop.close()


def add(finder: Finder, handle: int, fd: int) -> None:
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
    done_on_paths = [path for batch in finder.batches for path in batch]
    reads, read_bytes, _, writes, write_bytes, _ = (
        sum(counts) for counts in zip(*done_on_paths, strict=True)
    )
    assert (reads, read_bytes) == (COUNT // 2, COUNT // 2 * 8192)
    assert (writes, write_bytes) == (COUNT // 2, COUNT // 2 * PIECE)


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


def test_what_is_not_for_the_loop_is_handed_out_between_the_answers(
    loop: Loop, finder: Finder, fd: int
) -> None:
    add(finder, 1, fd)
    messages = [write_of(index) for index in range(COUNT)]
    messages[::5] = [request(GETATTR, index, b"x" * index) for index in range(0, COUNT, 5)]
    mine = [index for index in range(COUNT) if index % 5]
    assert_each_once(loop, messages, answers(mine), messages[::5])
    assert_written(fd, mine)


def test_paths_that_the_helper_comes_upon_first_are_found_for_it(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """Every other write is the first of another file."""
    for handle in range(1, MAX_PATHS):
        add(finder, handle, fd)
    handles = [1 if index % 2 else 1 + index // 2 % (MAX_PATHS - 1) for index in range(COUNT)]
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
    finder.cipher = None
    finder.add(1, fd)
    for _ in range(20):
        messages = [read_request(1, unique, 512 * unique, 512) for unique in range(100)]
        replies, handed_out = loop.ask(*messages)
        wanted = [done(unique, data[512 * unique :][:512]) for unique in range(100)]
        assert (sorted(replies), handed_out) == (sorted(wanted), [])
