"""Snapshots under writes of many chunks: copied in one go, under one commit."""

from random import Random

import pytest

from fusedm.block import FLUSH
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice, parse_table
from fusedm.stores import FileStore, MemoryStore, VolatileCacheStore
from tests.helpers.builders import make_disk, medium, pattern, read, write
from tests.helpers.devices import lookup_in
from tests.helpers.snapshot_stack import NEW, OLD, SECTORS, Stack


@pytest.mark.parametrize("name", ["origin", "snap"])
@pytest.mark.parametrize("seed", range(20))
async def test_a_power_cut_in_large_writes_leaves_each_chunk_as_it_was_or_is(name, seed):
    """A chunk of one sector tells of 32 chunks, so each write fills an area or two."""
    random = Random(seed)
    store = VolatileCacheStore(MemoryStore(400 * 512), seed=seed)
    stack = await Stack(chunk=1, cow=make_disk("cow", 400, store=store)).make()
    want, begin = bytearray(OLD), 0
    while begin < SECTORS - 60:
        count = random.randrange(20, 60)
        await write(getattr(stack, name), begin, NEW[: count * 512])
        if name == "snap":
            await submit_bio(stack.snap, FLUSH)
            want[begin * 512 : (begin + count) * 512] = NEW[: count * 512]
        begin += count - random.randrange(10)
    store.lose_power("random")
    await stack.close()
    again = await Stack(chunk=1, cow=stack.cow, origin=stack.base).open()
    assert await read(again.snap, 0, SECTORS * 512) == want


@pytest.mark.parametrize(("name", "reads"), [("origin", 1), ("snap", 0)])
async def test_what_one_write_needs_is_copied_and_made_durable_in_one_go(name, reads):
    stack = await Stack().make()
    before = [*stack.cow.stats.ios], stack.base.stats.ios[0]
    await write(getattr(stack, name), 0, NEW[: 64 * 512])
    done = [now - then for now, then in zip(stack.cow.stats.ios, before[0], strict=True)]
    assert done == [0, 2, 0, 2], "data and metadata, each behind a flush or with one behind it"
    assert stack.base.stats.ios[0] - before[1] == reads


async def test_a_write_across_what_has_been_copied_and_what_has_not():
    stack = await Stack().make()
    await write(stack.snap, 8, NEW[: 8 * 512])
    await write(stack.snap, 24, NEW[: 8 * 512])
    await write(stack.snap, 4, NEW[: 40 * 512])
    want = OLD[: 4 * 512] + NEW[: 40 * 512] + OLD[44 * 512 :]
    assert await read(stack.snap, 0, SECTORS * 512) == want
    assert medium(stack.base, 0, SECTORS * 512) == OLD


@pytest.mark.parametrize(("kind", "status"), [("P", "Invalid"), ("PO", "Overflow")])
async def test_a_large_write_that_does_not_fit_takes_the_room_there_is(kind, status):
    stack = await Stack(kind, cow_sectors=40).make()
    with pytest.raises(BlockIOError, match="has no room for it"):
        await write(stack.snap, 0, NEW[: 64 * 512])
    assert stack.status == status
    if kind == "PO":
        want = NEW[: 24 * 512] + OLD[24 * 512 :]
        assert await read(stack.snap, 0, SECTORS * 512) == want


async def test_one_large_write_passes_from_one_area_to_the_next(tmp_path):
    """A chunk of 8 sectors tells of 256 chunks."""
    sectors, data = 4096, bytes(pattern(3000 * 512, 3))
    base = make_disk("base", sectors)
    cow = make_disk("cow", 8192, store=FileStore.open(tmp_path / "cow", 8192 * 512, create=True))
    snap = MappedDevice("snap")
    line = f"0 {sectors} snapshot base cow P 8"
    snap.load(parse_table(line, lookup_in(base, cow), lambda: 0.0))
    await snap.resume()
    await write(snap, 4, data)
    assert await read(snap, 4, len(data)) == data
    await snap.end()
    cow.store.close()
