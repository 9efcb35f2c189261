"""What is special to the store in memory: it is sparse, and gives back what it holds."""

import os

import pytest

from fusedm.block import Op
from fusedm.block.errors import StoreError
from fusedm.stores import MemoryStore

PAGE = os.sysconf("SC_PAGE_SIZE")
ONES = memoryview(b"\xff" * PAGE)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_new_store_takes_no_memory_however_large() -> None:
    assert MemoryStore(1 << 40).allocated_bytes == 0


def test_a_store_that_nobody_has_used_takes_no_descriptor() -> None:
    before = descriptors()
    stores = [MemoryStore(1 << 40) for _ in range(10)]
    assert descriptors() == before
    assert not any(store.allocated_bytes for store in stores)


def test_reading_takes_no_memory() -> None:
    store = MemoryStore(4 * PAGE)
    store.pread_into(0, memoryview(bytearray(4 * PAGE)))
    assert store.allocated_bytes == 0


def test_a_write_takes_the_pages_it_touches() -> None:
    store = MemoryStore(4 * PAGE)
    store.pwrite(PAGE - 512, ONES[:1024])
    assert store.allocated_bytes == 2 * PAGE


@pytest.mark.parametrize("change", ["discard", "write_zeroes"])
def test_a_page_given_up_as_a_whole_is_freed(change: str) -> None:
    store = MemoryStore(4 * PAGE)
    store.pwrite(PAGE, ONES)
    store.pwrite(3 * PAGE, ONES)
    getattr(store, change)(0, 3 * PAGE)
    assert store.allocated_bytes == PAGE


def test_giving_up_a_huge_range_costs_only_what_is_there() -> None:
    store = MemoryStore(1 << 60)
    store.pwrite(1 << 59, ONES[:512])
    store.discard(0, 1 << 60)
    assert store.allocated_bytes == 0


@pytest.mark.parametrize("end", ["close", "forget"])
def test_what_a_store_holds_is_given_back_when_it_ends(end: str) -> None:
    before = descriptors()
    store = MemoryStore(PAGE)
    store.pwrite(0, ONES)
    assert descriptors() == before + 1
    if end == "close":
        store.close()
    else:
        del store
    assert descriptors() == before


def test_nothing_ever_blocks() -> None:
    assert not any(MemoryStore(PAGE).may_block(op) for op in Op)


def test_the_logical_block_size_can_be_chosen() -> None:
    assert MemoryStore(PAGE, logical_block_size=4096).logical_block_size == 4096


def test_a_size_that_is_not_whole_blocks_is_refused_with_both_numbers() -> None:
    with pytest.raises(StoreError, match=r"size 4608 .* 4096-byte blocks \(512 bytes over\)"):
        MemoryStore(4608, logical_block_size=4096)
