"""The contract of base.Store, over every store and every wrapper."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedm.block import Op
from fusedm.stores import FaultyStore, FileStore, MemoryStore, Store, VolatileCacheStore
from tests.helpers.builders import memory_file

SECTOR = 512
#: More than a page, so that ranges cross the borders of whatever a store is made of.
CHUNK_SIZE = 1 << 16
SIZE = 4 * CHUNK_SIZE
SECTOR_COUNT = SIZE // SECTOR

Opener = Callable[[Path, int, bool], Store]


def open_file(directory: Path, size: int, read_only: bool) -> Store:
    path = directory / "store"
    if read_only and not path.exists():
        FileStore.open(path, size, create=True).close()
    return FileStore.open(path, size, create=True, read_only=read_only)


def open_memory(directory: Path, size: int, read_only: bool) -> Store:
    return MemoryStore(size, read_only=read_only)


OPENERS: dict[str, Opener] = {
    "memory": open_memory,
    "file": open_file,
    "memfd": lambda _, size, read_only: memory_file(size, read_only),
    "faulty without rules": lambda *args: FaultyStore(open_memory(*args), seed=1),
    "faulty over file": lambda *args: FaultyStore(open_file(*args), seed=1),
    "volatile over memory": lambda *args: VolatileCacheStore(open_memory(*args)),
    "volatile over file": lambda *args: VolatileCacheStore(open_file(*args)),
    "small volatile over memory": lambda *args: VolatileCacheStore(
        open_memory(*args), max_dirty_bytes=16 * SECTOR
    ),
}

every_store = pytest.mark.parametrize("open_store", OPENERS.values(), ids=OPENERS)


@pytest.fixture
def store(open_store: Opener, tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path, SIZE, False)) as opened:
        yield opened


def contents(store: Store, offset: int, length: int) -> bytes:
    buffer = bytearray(b"\xee" * length)
    store.pread_into(offset, memoryview(buffer))
    return bytes(buffer)


def pattern(length: int, seed: int = 1) -> memoryview:
    return memoryview(bytes((seed + 7 * i + i // SECTOR) % 255 + 1 for i in range(length)))


@every_store
def test_what_was_never_written_reads_as_zeros(store: Store) -> None:
    assert contents(store, 0, SIZE) == bytes(SIZE)


@every_store
def test_what_is_allocated_is_what_was_written_and_not_more_than_all(store: Store) -> None:
    assert store.allocated_bytes <= SECTOR
    store.pwrite(0, pattern(CHUNK_SIZE))
    assert CHUNK_SIZE <= store.allocated_bytes < SIZE
    store.pwrite(0, pattern(SIZE))
    assert store.allocated_bytes == SIZE


@every_store
def test_the_geometry_is_what_was_asked_for(store: Store) -> None:
    assert (store.size, store.logical_block_size, store.read_only) == (SIZE, SECTOR, False)


@every_store
@pytest.mark.parametrize("length", [SECTOR, CHUNK_SIZE, 2 * CHUNK_SIZE + SECTOR])
@pytest.mark.parametrize("offset", [0, CHUNK_SIZE - SECTOR, CHUNK_SIZE])
def test_a_write_reads_back_and_leaves_its_neighbours(
    store: Store, offset: int, length: int
) -> None:
    data = pattern(length)
    store.pwrite(offset, data)
    assert contents(store, 0, SIZE) == bytes(offset) + data + bytes(SIZE - offset - length)


@every_store
def test_the_last_sector_can_be_written_and_read(store: Store) -> None:
    data = pattern(SECTOR)
    store.pwrite(SIZE - SECTOR, data)
    assert contents(store, SIZE - SECTOR, SECTOR) == data


@every_store
def test_a_write_does_not_modify_or_keep_the_callers_buffer(store: Store) -> None:
    buffer = bytearray(pattern(2 * CHUNK_SIZE))
    store.pwrite(SECTOR, memoryview(buffer))
    assert buffer == pattern(2 * CHUNK_SIZE)
    buffer[:] = bytes(len(buffer))
    assert contents(store, SECTOR, len(buffer)) == pattern(2 * CHUNK_SIZE)


@every_store
@pytest.mark.parametrize("length", [SECTOR, 2 * SECTOR, 2 * CHUNK_SIZE])
def test_a_read_fills_the_buffer_and_nothing_around_it(store: Store, length: int) -> None:
    offset = CHUNK_SIZE - SECTOR
    store.pwrite(0, pattern(SIZE))
    around = bytearray(b"\xee" * (length + 20))
    store.pread_into(offset, memoryview(around)[10:-10])
    assert around == b"\xee" * 10 + pattern(SIZE)[offset : offset + length] + b"\xee" * 10


@every_store
@pytest.mark.parametrize("change", ["discard", "write_zeroes"])
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (SECTOR, SECTOR),
        (CHUNK_SIZE - SECTOR, 2 * SECTOR),
        (SECTOR, 2 * CHUNK_SIZE),
        (CHUNK_SIZE, CHUNK_SIZE),
        (0, SIZE),
    ],
)
def test_a_range_given_up_reads_as_zeros_and_its_neighbours_stay(
    store: Store, change: str, offset: int, length: int
) -> None:
    data = pattern(SIZE)
    store.pwrite(0, data)
    getattr(store, change)(offset, length)
    end = offset + length
    assert contents(store, 0, SIZE) == bytes(data[:offset]) + bytes(length) + bytes(data[end:])


@every_store
def test_flushing_twice_changes_nothing(store: Store) -> None:
    store.pwrite(0, pattern(SECTOR))
    store.flush()
    store.flush()
    assert contents(store, 0, 2 * SECTOR) == bytes(pattern(SECTOR)) + bytes(SECTOR)


@every_store
def test_a_store_answers_may_block_for_every_operation(store: Store) -> None:
    assert {type(store.may_block(op)) for op in Op} == {bool}


@every_store
def test_a_read_only_store_reads_but_refuses_every_change(
    open_store: Opener, tmp_path: Path
) -> None:
    with closing(open_store(tmp_path, SIZE, True)) as store:
        assert store.read_only
        changes = {"pwrite": pattern(SECTOR), "discard": SECTOR, "write_zeroes": SECTOR}
        for name, argument in changes.items():
            with pytest.raises(OSError, match="Read-only") as refused:
                getattr(store, name)(0, argument)
            assert refused.value.errno == errno.EROFS
        assert contents(store, 0, SIZE) == bytes(SIZE)


@every_store
def test_a_store_may_be_huge_and_sparse(open_store: Opener, tmp_path: Path) -> None:
    size = 1 << 40
    with closing(open_store(tmp_path, size, False)) as store:
        store.pwrite(size - SECTOR, pattern(SECTOR))
        store.pwrite(size // 2, pattern(SECTOR))
        store.write_zeroes(0, size - SECTOR)
        assert contents(store, size // 2, SECTOR) == bytes(SECTOR)
        assert contents(store, size - SECTOR, SECTOR) == pattern(SECTOR)


@pytest.mark.parametrize("name", [name for name in OPENERS if "file" in name])
def test_data_survive_closing_and_opening_again(name: str, tmp_path: Path) -> None:
    with closing(OPENERS[name](tmp_path, SIZE, False)) as store:
        store.pwrite(CHUNK_SIZE - SECTOR, pattern(CHUNK_SIZE))
    with closing(OPENERS[name](tmp_path, SIZE, False)) as store:
        assert contents(store, CHUNK_SIZE - SECTOR, CHUNK_SIZE) == pattern(CHUNK_SIZE)


@every_store
def test_threads_on_distinct_ranges_do_not_disturb_each_other(store: Store) -> None:
    thread_count, round_count = 6, 60

    def work(thread: int) -> bytes:
        # Neighbouring sectors, so that all threads meet in one chunk.
        offset = CHUNK_SIZE - 3 * SECTOR + thread * SECTOR
        for index in range(round_count):
            store.pwrite(offset, pattern(SECTOR, thread))
            if contents(store, offset, SECTOR) != pattern(SECTOR, thread):
                return b"lost write"
            if index % 3 == 0:
                store.discard(offset, SECTOR)
            if index % 20 == 0:
                store.flush()
        return contents(store, offset, SECTOR)

    with ThreadPoolExecutor(thread_count) as pool:
        results = list(pool.map(work, range(thread_count)))
    assert results == [bytes(pattern(SECTOR, thread)) for thread in range(thread_count)]


sectors = st.integers(0, SECTOR_COUNT - 1)
steps = st.lists(
    st.tuples(
        st.sampled_from(["pwrite", "discard", "write_zeroes", "flush", "read"]),
        sectors,
        st.one_of(st.integers(1, 3), st.integers(1, SECTOR_COUNT)),
        st.integers(0, 254),
    ),
    max_size=20,
)


@every_store
@settings(max_examples=25, deadline=None)
@given(steps=steps)
def test_any_sequence_of_calls_agrees_with_a_flat_model(
    open_store: Opener, steps: list[tuple[str, int, int, int]]
) -> None:
    model = bytearray(SIZE)
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(open_store(Path(directory), SIZE, False)) as store,
    ):
        for name, sector, count, seed in steps:
            offset = sector * SECTOR
            length = min(count * SECTOR, SIZE - offset)
            if name == "pwrite":
                data = bytes([seed + 1]) * length
                store.pwrite(offset, memoryview(data))
                model[offset : offset + length] = data
            elif name == "flush":
                store.flush()
            elif name == "read":
                assert contents(store, offset, length) == model[offset : offset + length]
            else:
                getattr(store, name)(offset, length)
                model[offset : offset + length] = bytes(length)
        assert contents(store, 0, SIZE) == model


# Data and holes.


def outline(store: Store) -> list[tuple[int, int]]:
    """The data as a store tells them; every answer lies between the question and the size."""
    data, at = [], 0
    while at < store.size:
        begin = store.seek_data(at)
        assert at <= begin <= store.size
        if begin == store.size:
            break
        at = store.seek_hole(begin)
        assert begin < at <= store.size, "where data begin is no hole"
        data.append((begin, at))
    return data


def assert_outline_is_true(store: Store, model: bytes) -> None:
    """What is called no data is zeros; zeros may be called data."""
    at = 0
    for begin, end in [*outline(store), (store.size, store.size)]:
        assert not any(model[at:begin]), f"there are data in {at}..{begin}"
        at = end


@every_store
def test_what_was_written_is_data_from_its_first_byte_to_its_last(store: Store) -> None:
    store.pwrite(CHUNK_SIZE, pattern(CHUNK_SIZE))
    for offset in (CHUNK_SIZE, CHUNK_SIZE + 100, 2 * CHUNK_SIZE - 1):
        assert store.seek_data(offset) == offset
        assert store.seek_hole(offset) >= 2 * CHUNK_SIZE
    assert store.seek_data(0) <= CHUNK_SIZE


@every_store
def test_a_store_that_is_full_has_its_hole_at_the_end(store: Store) -> None:
    store.pwrite(0, pattern(SIZE))
    for offset in (0, SIZE - 1):
        assert store.seek_data(offset) == offset
        assert store.seek_hole(offset) == SIZE


@pytest.mark.parametrize("name", ["memory", "memfd"])
@pytest.mark.parametrize("change", ["discard", "write_zeroes"])
def test_a_store_in_memory_knows_its_holes(name: str, change: str, tmp_path: Path) -> None:
    with closing(OPENERS[name](tmp_path, SIZE, False)) as store:
        assert outline(store) == []
        assert store.seek_hole(SECTOR) == SECTOR
        store.pwrite(0, pattern(SIZE))
        getattr(store, change)(CHUNK_SIZE, CHUNK_SIZE)
        assert outline(store) == [(0, CHUNK_SIZE), (2 * CHUNK_SIZE, SIZE)]
        getattr(store, change)(0, SIZE)
        assert outline(store) == []


@every_store
@settings(max_examples=15, deadline=None)
@given(steps=steps)
def test_after_any_sequence_of_calls_no_data_are_called_a_hole(
    open_store: Opener, steps: list[tuple[str, int, int, int]]
) -> None:
    model = bytearray(SIZE)
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(open_store(Path(directory), SIZE, False)) as store,
    ):
        for name, sector, count, seed in steps:
            offset = sector * SECTOR
            length = min(count * SECTOR, SIZE - offset)
            if name == "pwrite":
                model[offset : offset + length] = bytes([seed + 1]) * length
                store.pwrite(offset, memoryview(model)[offset : offset + length].toreadonly())
            elif name in ("discard", "write_zeroes"):
                getattr(store, name)(offset, length)
                model[offset : offset + length] = bytes(length)
            elif name == "flush":
                store.flush()
            assert_outline_is_true(store, model)


@every_store
def test_a_read_only_store_that_is_empty_has_no_data_or_cannot_tell(
    open_store: Opener, tmp_path: Path
) -> None:
    with closing(open_store(tmp_path, SIZE, True)) as store:
        assert_outline_is_true(store, bytes(SIZE))


# The descriptor that may be used instead.


@every_store
def test_through_a_direct_descriptor_the_same_bytes_are_read_and_written(store: Store) -> None:
    descriptor = store.direct_fd()
    if descriptor is None:
        return
    store.pwrite(CHUNK_SIZE, pattern(CHUNK_SIZE))
    store.discard(CHUNK_SIZE + 4096, 4096)
    assert os.pread(descriptor, SIZE, 0) == contents(store, 0, SIZE)
    os.pwrite(descriptor, pattern(SECTOR, 7), 3 * SECTOR)
    assert contents(store, 3 * SECTOR, SECTOR) == pattern(SECTOR, 7)


@pytest.mark.parametrize("name", ["memory", "memfd"])
def test_a_store_in_memory_has_a_direct_descriptor(name: str, tmp_path: Path) -> None:
    with closing(OPENERS[name](tmp_path, SIZE, False)) as store:
        assert isinstance(store.direct_fd(), int)
        assert store.direct_fd() == store.direct_fd()


@pytest.mark.parametrize("name", [name for name in OPENERS if "faulty" in name or "vol" in name])
def test_a_store_that_does_more_than_keep_bytes_has_no_direct_descriptor(
    name: str, tmp_path: Path
) -> None:
    with closing(OPENERS[name](tmp_path, SIZE, False)) as store:
        assert store.direct_fd() is None
