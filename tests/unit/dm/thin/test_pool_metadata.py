"""A pool's metadata: devices, mappings, snapshots, space, and the ends of transactions."""

import errno
from collections.abc import Callable

import pytest

from fusedm.block.errors import StackError
from fusedm.dm.thin.pool_state import Run
from tests.helpers.thin_metadata import BLOCK_SECTORS, DATA, Medium, Pool, mappings


@pytest.fixture
def pool() -> Pool:
    return Pool()


def refused(code: int, what: Callable[..., object], *arguments: int) -> str:
    with pytest.raises(StackError) as raised:
        what(*arguments)
    assert raised.value.errno == code
    return str(raised.value)


def test_a_new_pool_has_no_data_blocks_and_is_on_the_device_at_once():
    medium = Medium(100)
    pool = medium.open()
    assert not pool.has_changes
    assert medium.log[-1] is None
    assert (pool.data_blocks, pool.free_data_blocks, pool.transaction_id) == (0, 0, 0)
    assert pool.block_sectors == BLOCK_SECTORS
    # Superblock, index, bitmap, two trees of counts, bitmaps of data, devices and details; a tenth
    # is kept for commits.
    assert (pool.metadata_blocks, pool.free_metadata_blocks) == (100, 100 - 8 - 10)
    assert medium.open().metadata_blocks == 100


def test_a_device_that_is_too_small_for_a_pool_is_refused():
    with pytest.raises(StackError, match=r"no metadata block is free \(of 7\)") as raised:
        Medium(7).open()
    assert raised.value.errno == errno.ENOSPC


def test_a_device_maps_nothing_until_something_is_inserted(pool: Pool):
    metadata = pool.metadata
    assert metadata.has_device(1)
    assert not metadata.has_device(2)
    assert metadata.lookup(1, 0) is None
    assert (metadata.mapped_blocks(1), metadata.highest_mapped(1)) == (0, None)
    pool.map(1, 5, 9)
    assert [metadata.lookup(1, block) for block in (4, 5, 9, 10)] == [
        None,
        (0, False),
        (1, False),
        None,
    ]
    assert (metadata.mapped_blocks(1), metadata.highest_mapped(1)) == (2, 9)
    assert metadata.free_data_blocks == DATA - 2


def test_what_there_is_not_cannot_be_used(pool: Pool):
    metadata = pool.metadata
    assert refused(errno.EEXIST, metadata.create_thin, 1) == "there is a thin device 1 already"
    assert refused(errno.EEXIST, metadata.create_snap, 1, 1) == "there is a thin device 1 already"
    for what, *arguments in (
        (metadata.create_snap, 3, 2),
        (metadata.delete, 2),
        (metadata.lookup, 2, 0),
        (metadata.run, 2, 0, 1),
        (metadata.insert, 2, 0, 0),
        (metadata.remove, 2, 0, 1),
        (metadata.mapped_blocks, 2),
        (metadata.highest_mapped, 2),
    ):
        assert refused(errno.ENODATA, what, *arguments) == "there is no thin device 2"
    assert refused(errno.EINVAL, metadata.set_transaction_id, 1, 2) == "transaction id is 0, not 1"
    assert refused(errno.EINVAL, metadata.release_metadata_snap)
    assert not metadata.has_changes


def test_a_snapshot_shares_what_was_mapped_before_it(pool: Pool):
    metadata = pool.metadata
    pool.map(1, 0, 1)
    metadata.create_snap(2, 1)
    assert metadata.lookup(1, 0) == metadata.lookup(2, 0) == (0, True)
    assert metadata.mapped_blocks(2) == 2
    pool.map(2, 0, 7)
    assert metadata.lookup(2, 0) == (2, False)
    assert metadata.lookup(1, 0) == (0, True)
    assert metadata.lookup(1, 7) is None
    # Block 0 is the origin's alone now, block 1 both have, once in each of two leaves.
    assert not metadata.is_data_shared(0)
    assert metadata.is_data_shared(1)
    metadata.create_snap(3, 2)
    assert metadata.lookup(2, 0) == (2, True)
    metadata.delete(1)
    pool.commit()
    assert mappings(metadata) == {2: {0: 2, 1: 1, 7: 3}, 3: {0: 2, 1: 1, 7: 3}}
    assert metadata.free_data_blocks == DATA - 3


def test_what_is_told_of_devices_is_found_again(pool: Pool):
    metadata = pool.metadata
    metadata.set_transaction_id(0, 7)
    metadata.create_thin(5)
    metadata.create_snap(6, 1)
    metadata.create_snap(7, 5)
    pool.commit()
    again = pool.medium.open()
    assert again.transaction_id == 7
    told = {
        number: (thin.transaction_id, thin.creation_time, thin.snapshotted_time)
        for number, thin in again.devices.items()
    }
    assert told == {1: (0, 0, 1), 5: (7, 0, 2), 6: (7, 1, 1), 7: (7, 2, 2)}


def test_runs_end_where_data_blocks_do_not_follow_or_are_shared_otherwise(pool: Pool):
    metadata = pool.metadata
    pool.map(1, 10, 11, 12, 14, 13, 20)
    assert metadata.run(1, 0, 64) == Run(None, False, 10)
    assert metadata.run(1, 0, 8) == Run(None, False, 8)
    assert metadata.run(1, 10, 64) == Run(0, False, 3)
    assert metadata.run(1, 11, 1) == Run(1, False, 1)
    assert metadata.run(1, 13, 64) == Run(4, False, 1)
    assert metadata.run(1, 15, 64) == Run(None, False, 5)
    assert metadata.run(1, 20, 64) == Run(5, False, 1)
    assert metadata.run(1, 21, 64) == Run(None, False, 64)
    metadata.create_snap(2, 1)
    metadata.insert(1, 11, metadata.allocate())
    assert metadata.run(1, 10, 64) == Run(0, True, 1)
    assert metadata.run(2, 10, 64) == Run(0, True, 3)


def test_a_block_mapped_anew_gives_up_its_old_data_block(pool: Pool):
    pool.map(1, 5)
    pool.map(1, 5)
    assert pool.metadata.lookup(1, 5) == (1, False)
    assert pool.metadata.mapped_blocks(1) == 1
    assert pool.metadata.free_data_blocks == DATA - 1


def test_what_is_removed_is_not_mapped_any_more(pool: Pool):
    metadata = pool.metadata
    pool.map(1, *range(10))
    pool.commit()
    assert metadata.remove(1, 20, 30) == 0
    assert metadata.remove(1, 3, 3) == 0
    assert not metadata.has_changes
    assert metadata.remove(1, 3, 30) == 7
    assert dict(metadata.mapped(1, 1, 8)) == {1: 1, 2: 2}
    assert metadata.mapped_blocks(1) == 3


def test_data_blocks_are_free_for_others_when_the_caller_says_so(pool: Pool):
    metadata = pool.metadata
    metadata.resize_data(DATA)
    pool.map(1, *range(DATA))
    assert not metadata.can_allocate
    assert refused(errno.ENOSPC, metadata.allocate) == f"no data block is free (of {DATA})"
    pool.commit()
    metadata.remove(1, 5, 6)
    assert (metadata.free_data_blocks, metadata.can_allocate) == (1, False)
    pool.medium.run(metadata.commit())
    assert not metadata.can_allocate
    freed = metadata.take_freed()
    assert list(freed) == [5]
    metadata.recycle(freed)
    assert metadata.can_allocate
    assert pool.map(1, 5) == [5]


def test_a_data_block_may_be_held_beyond_its_mapping(pool: Pool):
    metadata = pool.metadata
    pool.map(1, 0, 1)
    metadata.hold(0, 2)
    metadata.remove(1, 0, 2)
    pool.commit()
    assert metadata.free_data_blocks == DATA - 2
    metadata.release(0, 2)
    assert metadata.free_data_blocks == DATA


def test_more_data_and_metadata_blocks_may_come_and_not_fewer(pool: Pool):
    metadata = pool.metadata
    metadata.resize_data(50000)
    pool.medium.image.extend(bytes(20000 * 4096))
    metadata.resize_metadata(20256)
    pool.commit()
    assert (metadata.data_blocks, metadata.metadata_blocks) == (50000, 20256)
    again = pool.medium.open()
    assert (again.data_blocks, again.metadata_blocks) == (50000, 20256)
    assert again.free_metadata_blocks == metadata.free_metadata_blocks
    refused(errno.EINVAL, metadata.resize_data, 49999)
    refused(errno.EINVAL, metadata.resize_metadata, 20255)
    metadata.resize_metadata(1 << 40)
    assert metadata.metadata_blocks == 255 * 16320
    pool.abort()
    assert metadata.metadata_blocks == 20256
