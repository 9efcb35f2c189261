"""Which blocks are given out, and what commits and aborts do to counts."""

import errno

import pytest

from fusedm.block.errors import StackError
from fusedm.dm.thin.blocks import PER_BITMAP
from fusedm.dm.thin.space_map import Chunk, SpaceMap


def new(blocks: int = 10) -> SpaceMap:
    space = SpaceMap(0, [], {})
    space.resize(blocks)
    space.commit()
    return space


def given(space: SpaceMap, count: int) -> list[int]:
    return [space.allocate("data") for _ in range(count)]


def refilled(space: SpaceMap) -> None:
    space.commit()
    space.recycle(space.take_freed())


def test_blocks_are_given_out_in_order_until_there_are_none():
    space = new(3)
    assert given(space, 3) == [0, 1, 2]
    assert (space.free, space.allocated) == (0, 3)
    assert space.find() is None
    with pytest.raises(StackError, match=r"no data block is free \(of 3\)") as raised:
        space.allocate("data")
    assert raised.value.errno == errno.ENOSPC


def test_the_last_bitmap_ends_where_the_blocks_do():
    space = new(PER_BITMAP + 1)
    assert len(given(space, PER_BITMAP + 1)) == PER_BITMAP + 1
    assert space.find() is None


def test_a_block_that_was_freed_is_given_out_after_commit_and_recycle_only():
    space = new(2)
    given(space, 2)
    space.commit()
    assert space.drop(1) == 0
    assert space.free == 1
    assert space.find() is None
    assert not space.take_freed()
    space.commit()
    assert space.find() is None
    freed = space.take_freed()
    assert list(freed) == [1]
    assert not space.take_freed()
    space.recycle(freed)
    assert given(space, 1) == [1]


def test_what_was_given_out_and_freed_in_one_transaction_comes_back_as_well():
    space = new(1)
    space.drop(given(space, 1)[0])
    assert space.find() is None
    refilled(space)
    assert space.find() == 0


def test_free_blocks_are_looked_for_behind_the_last_one_first():
    space = new(4)
    given(space, 2)
    space.drop(0)
    refilled(space)
    assert given(space, 3) == [2, 3, 0]


def test_counts_of_three_and_more_are_kept_beside_the_bitmap():
    space = new(1)
    for _ in range(5):
        space.add(0)
    assert (space.count(0), space.chunks[0].counts[0], space.many) == (5, 3, {0: 5})
    assert [space.drop(0) for _ in range(5)] == [4, 3, 2, 1, 0]
    assert space.many == {}
    assert space.changed_many == {0: 0}


def test_a_reference_that_is_not_there_cannot_be_dropped():
    with pytest.raises(StackError, match="block 0 is referred to and counted as free") as raised:
        new().drop(0)
    assert raised.value.errno == errno.EILSEQ


def test_an_abort_goes_back_to_the_last_commit():
    space = new(4)
    given(space, 2)
    for _ in range(3):
        space.add(0)
    space.commit()
    assert not space.has_changes
    space.drop(0)
    space.drop(0)
    space.drop(1)
    for _ in range(4):
        space.add(1)
    given(space, 2)
    space.resize(3 * PER_BITMAP)
    space.add(2 * PER_BITMAP)
    given(space, 1)
    space.dirty[0].block = 77
    assert space.has_changes
    space.abort()
    assert not space.has_changes
    assert (space.blocks, space.allocated, space.many) == (4, 2, {0: 4})
    assert [space.count(block) for block in range(4)] == [4, 1, 0, 0]
    assert space.chunks[0].block == 0
    assert given(space, 2) == [2, 3]
    space.commit()
    assert not space.take_freed()


def test_what_was_freed_stays_away_over_an_abort_until_it_is_recycled():
    space = new(2)
    given(space, 2)
    space.drop(0)
    space.commit()
    freed = space.take_freed()
    space.add(1)
    space.abort()
    assert space.find() is None
    space.recycle(freed)
    assert space.find() == 0


def test_what_is_referred_to_again_is_not_recycled():
    space = new(2)
    given(space, 2)
    space.drop(0)
    space.drop(1)
    space.commit()
    freed = space.take_freed()
    space.add(0)
    space.add(1)
    space.commit()
    space.drop(1)
    space.recycle(freed)
    assert space.find() is None


def test_more_blocks_may_come_and_not_fewer():
    space = new(4)
    space.resize(5)
    assert space.has_changes
    assert not space.dirty
    with pytest.raises(StackError, match=r"4 blocks are fewer than before \(5\)"):
        space.resize(4)


def test_bitmaps_that_were_read_are_counted():
    counts = bytearray(PER_BITMAP)
    counts[:3] = [1, 0, 3]
    space = SpaceMap(PER_BITMAP + 9, [Chunk(8, counts), Chunk(9)], {2: 7})
    assert (space.allocated, space.count(2), space.find()) == (2, 7, 1)
    space.add(PER_BITMAP)
    assert given(space, 1) == [1]
    space.rewind()
    assert given(space, 1) == [3]
