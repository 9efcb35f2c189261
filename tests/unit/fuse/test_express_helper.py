"""The helper of the compiled loop: what two take and answer, each by itself, is done once."""

import os
from collections.abc import Iterator

import pytest

from fusedm.crypto import EvpCipher
from tests.helpers import reference_xts
from tests.helpers.builders import pattern
from tests.helpers.express_loop import Finder, Loop
from tests.helpers.lane_kernel import done, read_request, request, write_request, written

#: Of a write: large enough to have the helper woken at once.
PIECE = 1 << 17
COUNT = 160
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
    return Finder()


@pytest.fixture
def loop(finder: Finder) -> Iterator[Loop]:
    """A loop that asks the finder."""
    loop = Loop(finder.find, finder.end_batch)
    yield loop
    loop.close()


def piece(index: int) -> bytes:
    """The data of a write, which no other one has."""
    return index.to_bytes(8, "little") * (PIECE // 8)


def write_of(index: int, handle: int = 1, at: int | None = None) -> bytes:
    return write_request(handle, index, PIECE * (index if at is None else at), piece(index))


def assert_each_once(
    loop: Loop, messages: list[bytes], wanted: list[bytes], out: list[bytes]
) -> None:
    """Each message is answered, or handed out, exactly once."""
    replies, handed_out = loop.ask_at_full_speed(messages)
    assert sorted(replies) == sorted(wanted)
    assert sorted(handed_out) == sorted(out)


def answers(indexes: range | list[int]) -> list[bytes]:
    return [written(index, PIECE) for index in indexes]


def test_writes_without_a_pause_arrive_and_are_answered_once(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd, end=COUNT * PIECE)
    assert_each_once(loop, [write_of(i) for i in range(COUNT)], answers(range(COUNT)), [])
    for index in range(COUNT):
        assert os.pread(fd, PIECE, index * PIECE) == piece(index), f"write {index}"
    done_on_paths = [path for batch in finder.batches for path in batch]
    assert sum(path[3] for path in done_on_paths) == COUNT
    assert sum(path[4] for path in done_on_paths) == COUNT * PIECE


def test_each_of_the_two_encrypts_with_contexts_of_its_own(
    loop: Loop, finder: Finder, fd: int
) -> None:
    key = bytes(pattern(64))
    finder.add(1, fd, end=COUNT * PIECE, dun_base=1000, unit=4096)
    finder.cipher = EvpCipher("AES-256-XTS", key, 4096)
    assert_each_once(loop, [write_of(i) for i in range(COUNT)], answers(range(COUNT)), [])
    for index in range(COUNT):
        dun = 1000 + index * PIECE // 4096
        secret = os.pread(fd, 4096, index * PIECE)
        assert secret == reference_xts.encrypt(key, 4096, dun, piece(index)[:4096])
        plain = memoryview(bytearray(os.pread(fd, PIECE, index * PIECE)))
        EvpCipher("AES-256-XTS", key, 4096).decrypt(dun, plain, plain)
        assert plain == piece(index), f"write {index}"


def test_each_of_the_two_decrypts_with_contexts_of_its_own(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """Only a few large reads at once, since their replies need room."""
    key, size = bytes(pattern(64)), 32768
    data = pattern(8 * size)
    finder.cipher = EvpCipher("AES-256-XTS", key, 4096)
    secret = memoryview(bytearray(8 * size))
    finder.cipher.encrypt(0, memoryview(data), secret)
    os.pwrite(fd, secret, 0)
    finder.add(1, fd, end=8 * size, unit=4096)
    wanted = [done(unique, data[unique * size :][:size]) for unique in range(8)]
    for _ in range(60):
        replies, handed_out = loop.ask(*(read_request(1, at, at * size, size) for at in range(8)))
        assert (sorted(replies), handed_out) == (sorted(wanted), [])


def test_what_is_not_for_the_loop_is_handed_out_between_the_answers(
    loop: Loop, finder: Finder, fd: int
) -> None:
    finder.add(1, fd, end=COUNT * PIECE)
    mine = [index for index in range(COUNT) if index % 5]
    others = [request(GETATTR, index, b"x" * index) for index in range(COUNT) if index % 5 == 0]
    messages = [write_of(i) if i % 5 else request(GETATTR, i, b"x" * i) for i in range(COUNT)]
    assert_each_once(loop, messages, answers(mine), others)
    for index in mine:
        assert os.pread(fd, PIECE, index * PIECE) == piece(index), f"write {index}"


def test_paths_that_the_helper_comes_upon_first_are_found_for_it(
    loop: Loop, finder: Finder, fd: int
) -> None:
    """Every other write is the first of another file."""
    for handle in range(1, MAX_PATHS):
        finder.add(handle, fd, end=COUNT * PIECE)
    handles = [1 if index % 2 else 1 + index // 2 % (MAX_PATHS - 1) for index in range(COUNT)]
    messages = [write_of(index, handle) for index, handle in enumerate(handles)]
    assert_each_once(loop, messages, answers(range(COUNT)), [])
    for index in range(COUNT):
        assert os.pread(fd, PIECE, index * PIECE) == piece(index), f"write {index}"


def test_what_fails_in_either_is_handed_out(loop: Loop, finder: Finder, fd: int) -> None:
    """The file of the second handle can only be read."""
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    finder.add(1, fd, end=COUNT * PIECE)
    finder.add(2, reading, end=COUNT * PIECE)
    messages = [write_of(index, 2 if index % 3 == 1 else 1) for index in range(COUNT)]
    mine = [index for index in range(COUNT) if index % 3 != 1]
    assert_each_once(loop, messages, answers(mine), messages[1::3])
    os.close(reading)


def test_small_requests_that_were_all_there_before_are_answered_once(
    loop: Loop, finder: Finder, fd: int
) -> None:
    data = pattern(100 * 512)
    os.pwrite(fd, data, 0)
    finder.add(1, fd, end=COUNT * PIECE)
    for _ in range(20):
        messages = [read_request(1, unique, 512 * unique, 512) for unique in range(100)]
        replies, handed_out = loop.ask(*messages)
        wanted = [done(unique, data[512 * unique :][:512]) for unique in range(100)]
        assert (sorted(replies), handed_out) == (sorted(wanted), [])
