"""What a power cut may leave, and what it must not."""

import errno
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedm.block import Op
from fusedm.stores import FailOp, FaultyStore, Latency, MemoryStore, Store, VolatileCacheStore
from fusedm.stores.volatile_cache import MAX_CACHED_ZEROS_BYTES

BLOCK = 512
BLOCK_COUNT = 16
SIZE = BLOCK_COUNT * BLOCK


def filled(value: int, block_count: int = 1) -> memoryview:
    return memoryview(bytes([value]) * (block_count * BLOCK))


def blocks(store: Store, count: int = BLOCK_COUNT) -> list[int]:
    """The value each block is filled with; a mixed block fails."""
    buffer = bytearray(count * BLOCK)
    store.pread_into(0, memoryview(buffer))
    pieces = [buffer[begin : begin + BLOCK] for begin in range(0, len(buffer), BLOCK)]
    assert all(len(set(piece)) == 1 for piece in pieces)
    return [piece[0] for piece in pieces]


def test_a_write_stays_in_the_cache_until_a_flush() -> None:
    store = VolatileCacheStore(MemoryStore(SIZE))
    store.pwrite(BLOCK, filled(1))
    assert (blocks(store, 3), blocks(store.inner, 3)) == ([0, 1, 0], [0, 0, 0])
    store.flush()
    assert blocks(store.inner, 3) == [0, 1, 0]


@pytest.mark.parametrize(("keep", "left"), [("nothing", [1, 1]), ("everything", [3, 1])])
def test_a_power_cut_can_keep_nothing_or_everything(
    keep: Literal["nothing", "everything"], left: list[int]
) -> None:
    store = VolatileCacheStore(MemoryStore(SIZE))
    store.pwrite(0, filled(1, 2))
    store.flush()
    store.pwrite(0, filled(2))
    store.pwrite(0, filled(3))
    store.lose_power(keep)
    assert blocks(store, 2) == left


def test_every_content_since_the_flush_is_left_for_some_seed() -> None:
    left = set()
    for seed in range(50):
        store = VolatileCacheStore(MemoryStore(SIZE), seed)
        store.pwrite(0, filled(1))
        store.flush()
        store.pwrite(0, filled(2))
        store.pwrite(0, filled(3))
        store.lose_power()
        left.add(blocks(store, 1)[0])
    assert left == {1, 2, 3}


def test_blocks_are_lost_one_by_one() -> None:
    left = set()
    for seed in range(50):
        store = VolatileCacheStore(MemoryStore(SIZE), seed)
        store.pwrite(0, filled(1, 2))
        store.lose_power()
        left.add(tuple(blocks(store, 2)))
    assert left == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_same_seed_loses_the_same_blocks() -> None:
    def left(seed: int) -> list[int]:
        store = VolatileCacheStore(MemoryStore(SIZE), seed)
        store.pwrite(0, filled(1, BLOCK_COUNT))
        store.lose_power()
        return blocks(store)

    assert left(7) == left(7) != left(8)


def test_blocks_are_as_large_as_the_inner_stores() -> None:
    for seed in range(20):
        store = VolatileCacheStore(MemoryStore(8192, logical_block_size=4096), seed)
        store.pwrite(0, filled(1, 16))
        store.lose_power()
        values = blocks(store, 16)
        assert values[:8] in ([0] * 8, [1] * 8)
        assert values[8:] in ([0] * 8, [1] * 8)


@pytest.mark.parametrize("change", ["discard", "write_zeroes"])
def test_a_few_zeros_are_as_volatile_as_a_write(change: str) -> None:
    store = VolatileCacheStore(MemoryStore(SIZE))
    store.pwrite(0, filled(1))
    store.flush()
    getattr(store, change)(0, BLOCK)
    assert blocks(store, 1) == [0]
    store.lose_power("nothing")
    assert blocks(store, 1) == [1]


@pytest.mark.parametrize("change", ["discard", "write_zeroes"])
def test_many_zeros_go_through_after_the_writes_before_them(change: str) -> None:
    inner = MemoryStore(4 * MAX_CACHED_ZEROS_BYTES)
    store = VolatileCacheStore(inner)
    store.pwrite(0, filled(1, 2))
    getattr(store, change)(BLOCK, 2 * MAX_CACHED_ZEROS_BYTES)
    store.lose_power("nothing")
    assert blocks(store, 3) == [1, 0, 0]


def test_a_full_cache_writes_back_the_oldest_half() -> None:
    store = VolatileCacheStore(MemoryStore(SIZE), max_dirty_bytes=4 * BLOCK)
    for block in (9, 3, 5, 7, 1):
        store.pwrite(block * BLOCK, filled(block))
    written = [block for block, value in enumerate(blocks(store.inner)) if value]
    assert written == [3, 9]
    assert [block for block, value in enumerate(blocks(store)) if value] == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("empty", [VolatileCacheStore.flush, VolatileCacheStore.lose_power])
def test_an_emptied_cache_has_all_its_room_again(
    empty: Callable[[VolatileCacheStore], None],
) -> None:
    store = VolatileCacheStore(MemoryStore(SIZE), max_dirty_bytes=4 * BLOCK)
    store.pwrite(0, filled(1, 4))
    empty(store)
    before = blocks(store.inner)
    store.pwrite(8 * BLOCK, filled(2, 2))
    store.pwrite(10 * BLOCK, filled(2, 2))
    assert blocks(store.inner) == before


def test_rewriting_one_block_for_ever_stays_within_the_bound() -> None:
    store = VolatileCacheStore(MemoryStore(SIZE), max_dirty_bytes=4 * BLOCK)
    for value in range(1, 6):
        store.pwrite(0, filled(value))
    # Four contents filled the cache; the newest of them was written back to make room.
    assert (blocks(store, 1), blocks(store.inner, 1)) == ([5], [4])


def test_closing_is_an_orderly_shutdown() -> None:
    medium = MemoryStore(SIZE)
    faulty = FaultyStore(medium, seed=1, rules=[FailOp(op=Op.FLUSH)])
    store = VolatileCacheStore(faulty)
    store.pwrite(0, filled(1))
    with pytest.raises(OSError, match="Input/output error"):
        store.close()
    assert medium.allocated_bytes == 0, "the inner store was not closed"


def test_a_flush_that_fails_half_way_can_be_repeated() -> None:
    inner = FaultyStore(MemoryStore(SIZE), seed=1, rules=[FailOp(op=Op.WRITE, nth=2)])
    store = VolatileCacheStore(inner)
    store.pwrite(0, filled(1))
    store.pwrite(4 * BLOCK, filled(2))
    with pytest.raises(OSError, match="Input/output error"):
        store.flush()
    assert blocks(inner, 5) == [1, 0, 0, 0, 0]
    assert blocks(store, 5) == [1, 0, 0, 0, 2]
    store.flush()
    assert blocks(inner, 5) == [1, 0, 0, 0, 2]


def test_a_write_for_which_no_room_can_be_made_has_no_effect() -> None:
    rules = [FailOp(op=Op.WRITE, errno=errno.ENOSPC)]
    inner = FaultyStore(MemoryStore(SIZE), seed=1, rules=rules)
    store = VolatileCacheStore(inner, max_dirty_bytes=2 * BLOCK)
    store.pwrite(0, filled(1, 2))
    with pytest.raises(OSError, match="No space"):
        store.pwrite(0, filled(2, 2))
    assert blocks(store, 3) == [1, 1, 0]


def test_every_call_may_block_if_any_of_the_inner_stores_may() -> None:
    slow = FaultyStore(MemoryStore(SIZE), 1, [Latency(op=Op.FLUSH, seconds=1)])
    assert all(VolatileCacheStore(slow).may_block(op) for op in Op)
    assert not any(VolatileCacheStore(MemoryStore(SIZE)).may_block(op) for op in Op)


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"),
            st.integers(0, BLOCK_COUNT - 1),
            st.integers(1, 6),
            st.integers(0, 255),
        ),
        st.sampled_from([("flush", 0, 0, 0), ("power", 0, 0, 0)]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps=steps, seed=st.integers(0, 1000), max_dirty_blocks=st.sampled_from([4, 1000]))
def test_after_a_power_cut_each_block_holds_something_it_may(
    steps: list[tuple[str, int, int, int]], seed: int, max_dirty_blocks: int
) -> None:
    store = VolatileCacheStore(MemoryStore(SIZE), seed, max_dirty_blocks * BLOCK)
    newest = [0] * BLOCK_COUNT
    # What a power cut may leave: the content at the last flush and all written since.
    possible = [{0} for _ in newest]
    for step, block, count, value in [*steps, ("power", 0, 0, 0)]:
        if step == "write":
            count = min(count, BLOCK_COUNT - block)
            store.pwrite(block * BLOCK, filled(value, count))
            for at in range(block, block + count):
                newest[at] = value
                possible[at].add(value)
            assert blocks(store) == newest
            continue
        if step == "flush":
            store.flush()
            assert blocks(store.inner) == newest
        else:
            store.lose_power()
            left = blocks(store)
            assert all(value in values for value, values in zip(left, possible, strict=True))
            newest = left
        possible = [{value} for value in newest]
