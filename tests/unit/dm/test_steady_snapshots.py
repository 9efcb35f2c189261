"""What is known of snapshots and their origin for many bios, and what ends it."""

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice, Remap, Script
from fusedm.dm.snapshot.copy import Copy
from fusedm.dm.snapshot.exception_store import PersistentStore
from fusedm.dm.snapshot.sharing import alike
from tests.helpers.builders import make_disk, write
from tests.helpers.snapshot_stack import NEW, SECTORS, Stack

BOTH, READS, NONE = {Op.READ, Op.WRITE}, {Op.READ}, set[Op]()

#: The first chunk of data on a COW device, in sectors: behind the header and the first area.
FIRST = 16


def outline(device: MappedDevice) -> list[tuple[int, int, set[Op], str | None]]:
    """All spans, each asked for at its first sector; asked at its last it is the same."""
    spans = [device.span(0)]
    while spans[-1].end < device.sector_count:
        assert device.span(spans[-1].end - 1) == spans[-1]
        spans.append(device.span(spans[-1].end))
    return [(span.begin, span.end, set(span.ops), span.leaf and span.leaf.name) for span in spans]


async def test_what_a_snapshot_has_copied_goes_to_the_copy() -> None:
    stack = await Stack().make()
    assert outline(stack.snap) == [(0, SECTORS, NONE, None)]
    await write(stack.snap, 20, NEW[:512])
    await write(stack.snap, 24, NEW[:512])
    assert outline(stack.snap) == [
        (0, 16, NONE, None),
        (16, 32, BOTH, "cow"),
        (32, SECTORS, NONE, None),
    ]
    assert stack.snap.span(20).shift == FIRST - 16


async def test_chunks_that_were_copied_in_another_order_are_spans_of_their_own() -> None:
    stack = await Stack().make()
    for sector in (24, 16):
        await write(stack.snap, sector, NEW[:512])
    assert [stack.snap.span(sector).shift for sector in (16, 24)] == [FIRST + 8 - 16, FIRST - 24]


async def test_an_origin_without_snapshots_is_one_span() -> None:
    stack = Stack()
    await stack.load(stack.origin, "snapshot-origin base")
    assert outline(stack.origin) == [(0, SECTORS, BOTH, "base")]


async def test_writes_to_an_origin_go_one_way_where_every_snapshot_has_copied() -> None:
    stack = await Stack().make()
    other = Stack("N", chunk=16, cow=make_disk("cow", 400), origin=stack.base)
    await stack.load(stack.origin, "snapshot-origin base")
    await other.load(other.snap, f"snapshot {other.words}")
    assert outline(stack.origin) == [(0, SECTORS, READS, "base")]
    await write(stack.snap, 16, NEW[: 16 * 512])
    assert outline(stack.origin) == [(0, SECTORS, READS, "base")]
    await write(stack.origin, 24, NEW[:512])
    assert outline(stack.origin) == [
        (0, 16, READS, "base"),
        (16, 32, BOTH, "base"),
        (32, SECTORS, READS, "base"),
    ]
    await other.snap.end()
    assert outline(stack.origin)[1] == (16, 32, BOTH, "base")


async def test_a_write_to_what_has_been_copied_needs_no_lock() -> None:
    stack = await Stack().make()
    bio, (entry,) = Bio.write(16, memoryview(bytes(512))), stack.origin.live.entries
    assert isinstance(entry.target.map(bio), Script)
    await write(stack.origin, 16, NEW[:512])
    assert entry.target.map(bio) == Remap(stack.base, bio)


def test_a_chunk_has_been_copied_when_the_device_tells_of_it() -> None:
    disk = make_disk("cow", 400)
    copy = Copy(make_disk("base"), disk, 128, PersistentStore(8, 400))
    told = [copy.holds(16, 8) for _ in copy.copy([2])]
    assert told == [False] * len(told)
    assert 2 in copy.store.chunks
    assert copy.holds(16, 8)


# What ends it.


@pytest.mark.parametrize("name", ["origin", "snap"])
async def test_with_every_chunk_that_is_copied_one_asks_anew(name: str) -> None:
    stack = await Stack().make()
    spans = [stack.origin.span(0), stack.snap.span(0)]
    await write(getattr(stack, name), 0, NEW[:512])
    assert not any(span.is_current() for span in spans)
    spans = [stack.origin.span(0), stack.snap.span(0)]
    await write(getattr(stack, name), 0, NEW[:512])
    assert all(span.is_current() for span in spans), "it had been copied"


@pytest.mark.parametrize("name", ["origin", "snap"])
async def test_a_snapshot_that_is_lost_ends_what_was_known_of_it(name: str) -> None:
    stack = await Stack(cow_sectors=24).make()
    await write(stack.snap, 16, NEW[:512])
    span = stack.snap.span(16)
    assert span.ops == BOTH
    try:
        await write(getattr(stack, name), 32, NEW[:512])
    except BlockIOError:
        assert name == "snap"
    assert stack.status == "Invalid"
    assert not span.is_current()
    assert (stack.snap.span(16).ops, stack.origin.span(0).ops) == (NONE, BOTH)


async def test_a_snapshot_that_is_full_is_read_only() -> None:
    stack = await Stack("PO", cow_sectors=24).make()
    await write(stack.snap, 16, NEW[:512])
    span = stack.snap.span(16)
    with pytest.raises(BlockIOError):
        await write(stack.snap, 32, NEW[:512])
    assert not span.is_current()
    assert stack.snap.span(16).ops == READS


async def test_a_snapshot_that_comes_or_goes_ends_what_was_known_of_the_origin() -> None:
    stack = Stack()
    await stack.load(stack.origin, "snapshot-origin base")
    before = stack.origin.span(0)
    await stack.load(stack.snap, f"snapshot {stack.words}")
    assert not before.is_current()
    during = stack.origin.span(0)
    assert (before.ops, during.ops) == (BOTH, READS)
    await stack.snap.end()
    assert not during.is_current()
    assert stack.origin.span(0).ops == BOTH


async def test_flushes_of_both_go_down() -> None:
    stack = await Stack().make()
    spans = [stack.snap.flush_span(), stack.origin.flush_span()]
    assert [[leg.leaf.name for leg in span.legs] for span in spans] == [["cow"], ["base"]]
    await submit_bio(stack.snap, FLUSH)
    assert all(span.is_current() for span in spans)


# How far one looks.


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [(0, range(3)), (3, range(3, 4)), (5, range(4, 64)), (63, range(4, 64)), (70, range(64, 128))],
)
def test_chunks_are_looked_at_within_a_window(chunk: int, expected: range) -> None:
    assert alike(chunk, lambda number: number == 3) == expected
