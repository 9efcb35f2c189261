"""What is special to the store in memory: it is sparse."""

import pytest

from fusedm.block import Op
from fusedm.block.errors import StoreError
from fusedm.stores import MemoryStore
from fusedm.stores.memory import CHUNK_SIZE

ONES = memoryview(b"\xff" * CHUNK_SIZE)


def test_a_new_store_takes_no_memory_however_large() -> None:
    assert MemoryStore(1 << 40).allocated_bytes == 0


def test_reading_takes_no_memory() -> None:
    store = MemoryStore(4 * CHUNK_SIZE)
    store.pread_into(0, memoryview(bytearray(4 * CHUNK_SIZE)))
    assert store.allocated_bytes == 0


def test_a_write_takes_the_chunks_it_touches() -> None:
    store = MemoryStore(4 * CHUNK_SIZE)
    store.pwrite(CHUNK_SIZE - 512, ONES[:1024])
    assert store.allocated_bytes == 2 * CHUNK_SIZE


@pytest.mark.parametrize("change", ["discard", "write_zeroes"])
def test_a_chunk_given_up_as_a_whole_is_freed(change: str) -> None:
    store = MemoryStore(4 * CHUNK_SIZE)
    store.pwrite(CHUNK_SIZE, ONES)
    store.pwrite(3 * CHUNK_SIZE, ONES)
    getattr(store, change)(0, 3 * CHUNK_SIZE)
    assert store.allocated_bytes == CHUNK_SIZE


def test_a_chunk_given_up_in_parts_is_freed_with_the_last_part() -> None:
    store = MemoryStore(CHUNK_SIZE)
    store.pwrite(0, ONES[:1024])
    store.discard(0, 512)
    assert store.allocated_bytes == CHUNK_SIZE
    store.discard(512, 512)
    assert store.allocated_bytes == 0


def test_giving_up_a_huge_range_costs_only_what_is_there() -> None:
    store = MemoryStore(1 << 60)
    store.pwrite(1 << 59, ONES[:512])
    store.discard(0, 1 << 60)
    assert store.allocated_bytes == 0


def test_nothing_ever_blocks() -> None:
    assert not any(MemoryStore(CHUNK_SIZE).may_block(op) for op in Op)


def test_the_logical_block_size_can_be_chosen() -> None:
    assert MemoryStore(CHUNK_SIZE, logical_block_size=4096).logical_block_size == 4096


def test_a_size_that_is_not_whole_blocks_is_refused_with_both_numbers() -> None:
    with pytest.raises(StoreError, match=r"size 4608 .* 4096-byte blocks \(512 bytes over\)"):
        MemoryStore(4608, logical_block_size=4096)
