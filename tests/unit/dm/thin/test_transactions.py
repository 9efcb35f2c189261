"""The ends of transactions: commits, aborts, failing writes, and metadata snapshots."""

import errno

import pytest

from fusedm.block import FUA, Op
from fusedm.block.errors import BlockIOError, StackError
from tests.helpers.thin_metadata import (
    DATA,
    Medium,
    Model,
    Pool,
    make_nodes_small,
    mappings,
    refill,
)


@pytest.fixture
def pool() -> Pool:
    return Pool()


def test_only_what_differs_is_committed(pool: Pool):
    pool.medium.log.clear()
    pool.commit()
    assert not pool.medium.log
    for change in (
        lambda: pool.metadata.set_transaction_id(0, 1),
        lambda: pool.metadata.resize_data(DATA + 1),
        lambda: pool.metadata.create_thin(9),
    ):
        assert not pool.metadata.has_changes
        change()
        assert pool.metadata.has_changes
        pool.commit()


def test_blocks_are_flushed_before_the_superblock_is_written(pool: Pool):
    pool.medium.log.clear()
    pool.map(1, *range(600))
    pool.commit()
    *writes, flush, superblock, last = pool.medium.log
    assert flush is last is None
    assert all(write and write[0] for write in writes)
    assert superblock[0] == 0
    assert len(superblock[1]) == 4096


def test_what_the_last_commit_leads_to_is_not_overwritten(pool: Pool):
    pool.map(1, *range(600))
    pool.commit()
    before = bytes(pool.medium.image)
    superblock = before[:4096]
    for _ in range(3):
        pool.medium.log.clear()
        pool.map(1, *range(0, 600, 7))
        pool.metadata.create_snap(2, 1)
        pool.metadata.delete(2)
        pool.medium.run(pool.metadata.commit())
        torn = superblock + bytes(pool.medium.image)[4096:]
        assert mappings(Medium(image=torn).open()) == mappings(Medium(image=before).open())
        before = bytes(pool.medium.image)
        superblock = before[:4096]


def test_an_abort_goes_back_to_the_last_commit(pool: Pool):
    metadata = pool.metadata
    pool.map(1, *range(600))
    pool.commit()
    before = mappings(metadata)
    space = metadata.free_data_blocks, metadata.free_metadata_blocks
    pool.map(1, *range(500, 800))
    metadata.create_thin(2)
    metadata.create_snap(3, 1)
    metadata.delete(1)
    metadata.set_transaction_id(0, 5)
    metadata.resize_data(DATA * 100)
    pool.abort()
    assert not metadata.has_changes
    assert mappings(metadata) == before
    assert (metadata.free_data_blocks, metadata.free_metadata_blocks) == space
    assert (metadata.transaction_id, metadata.data_blocks) == (0, DATA)
    pool.map(1, 1000)
    pool.commit()
    assert mappings(pool.medium.open()) == mappings(metadata)


def test_a_metadata_snapshot_keeps_what_was_committed(pool: Pool):
    metadata, medium = pool.metadata, pool.medium
    pool.map(1, 0, 1)
    medium.run(metadata.reserve_metadata_snap())
    assert metadata.held_root
    with pytest.raises(StackError, match="there is a metadata snapshot already") as raised:
        medium.run(metadata.reserve_metadata_snap())
    assert raised.value.errno == errno.EBUSY
    metadata.delete(1)
    pool.commit()
    assert metadata.free_data_blocks == DATA - 2, "held data blocks are in use"
    again = medium.open()
    assert again.held_root == metadata.held_root
    for each in (again, metadata):
        each.release_metadata_snap()
        medium.run(each.abort())
        assert each.held_root
        each.release_metadata_snap()
        assert (each.held_root, each.free_data_blocks) == (0, DATA)
    pool.commit()
    assert medium.open().held_root == 0


def test_running_out_of_metadata_space_leaves_a_transaction_that_can_be_aborted(
    monkeypatch: pytest.MonkeyPatch,
):
    make_nodes_small(monkeypatch)
    pool = Pool(40)
    pool.map(1, *range(10))
    pool.commit()
    before = mappings(pool.metadata)
    with pytest.raises(StackError, match="no metadata block is free"):
        pool.map(1, *range(10, 500))
    fitting = pool.metadata.highest_mapped(1)
    pool.abort()
    assert mappings(pool.metadata) == before
    assert pool.metadata.free_metadata_blocks
    # There is room for these, and not to commit them.
    pool.map(1, *range(10, fitting + 1))
    with pytest.raises(StackError, match="no metadata block is free"):
        pool.commit()
    pool.abort()
    pool.commit()
    assert mappings(pool.medium.open()) == mappings(pool.metadata)


def test_needs_check_is_set_in_the_last_transaction(pool: Pool):
    pool.map(1, 0)
    pool.medium.run(pool.metadata.set_needs_check())
    assert pool.metadata.needs_check
    again = pool.medium.open()
    assert again.needs_check
    assert mappings(again) == {1: {}}
    pool.commit()
    assert pool.medium.open().needs_check


@pytest.mark.parametrize("is_late", [False, True])
def test_a_write_that_fails_leaves_one_transaction_or_the_other(pool: Pool, is_late: bool):
    metadata, medium = pool.metadata, pool.medium
    pool.map(1, *range(300))
    pool.commit()
    before = mappings(metadata)
    bios = []
    medium.fails = lambda bio: bios.append(bio) or False
    pool.map(1, *range(300, 310))
    pool.commit()
    assert [(bio.op, bio.flags) for bio in bios[-2:]] == [(Op.FLUSH, 0), (Op.WRITE, FUA)]
    for failing in range(len(bios)):
        medium.fails = medium.fails_late = lambda bio: False
        metadata.remove(1, 300, 310)
        pool.commit()
        assert mappings(metadata) == before
        pool.map(1, *range(300, 310))
        left = iter(range(100))
        fails = "fails_late" if is_late else "fails"
        setattr(medium, fails, lambda bio, left=left, at=failing: next(left) == at)
        with pytest.raises(BlockIOError):
            pool.commit()
        medium.fails = medium.fails_late = lambda bio: False
        pool.abort()
        refill(metadata)
        assert mappings(metadata) == mappings(medium.open())
        # A superblock that was written is there, whatever was said of it.
        is_there = is_late and failing == len(bios) - 1
        assert metadata.mapped_blocks(1) == (310 if is_there else 300)


def test_a_superblock_that_nobody_wrote_is_not_taken_for_one_of_the_two(pool: Pool):
    pool.map(1, 0)
    pool.medium.fails = lambda bio: bio.op is Op.WRITE and bio.sector == 0
    with pytest.raises(BlockIOError):
        pool.commit()
    pool.medium.image[:4096] = Pool().medium.image[:4096]
    other = Pool()
    other.metadata.set_transaction_id(0, 9)
    other.commit()
    pool.medium.image[:4096] = other.medium.image[:4096]
    with pytest.raises(StackError, match="neither the old one nor the new one"):
        pool.abort()


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_are_what_dictionaries_say(seed: int, monkeypatch: pytest.MonkeyPatch):
    make_nodes_small(monkeypatch)
    model = Model(Medium(512), seed)
    for _ in range(100):
        model.step()
        model.compare()
    model.commit()
    assert mappings(model.medium.open()) == dict(sorted(model.now.items()))
