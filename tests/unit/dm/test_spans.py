"""Where stretches of mapped devices lie, as far as that does not depend on the bio."""

import pytest
import trio

from fusedm.block import Op, Span
from fusedm.block.errors import BlockIOError, DeviceSuspended
from fusedm.dm import MappedDevice
from fusedm.stores import MemoryStore
from fusedm.system import System
from tests.helpers.builders import load, make_disk, make_mapped, pattern, read

BOTH = {Op.READ, Op.WRITE}


def where(span: Span) -> tuple[int, int, str | None, int]:
    """The borders of a span, its leaf and how far it is moved."""
    return span.begin, span.end, span.leaf and span.leaf.name, span.shift


# Where it lies.


async def test_a_disk_is_one_span_for_reads_and_writes() -> None:
    disk = make_disk("d0", 64)
    span = disk.span(5)
    assert where(span) == (0, 64, "d0", 0)
    assert (span.ops, span.fallback, span.is_current()) == (BOTH, None, True)
    assert (span.visits, span.route) == ((disk.stats,), (disk.counts,))


@pytest.mark.parametrize(
    ("sector", "expected"),
    [
        (0, (0, 10, "d0", 7)),
        (9, (0, 10, "d0", 7)),
        (10, (10, 30, "d1", -10)),
        (29, (10, 30, "d1", -10)),
    ],
)
async def test_each_linear_target_is_a_span(
    sector: int, expected: tuple[int, int, str, int]
) -> None:
    mapped = await make_mapped(
        "0 10 linear d0 7\n10 20 linear d1 0", make_disk("d0"), make_disk("d1")
    )
    assert where(mapped.span(sector)) == expected


async def test_shifts_add_up_and_borders_of_every_level_hold() -> None:
    lowest = await make_mapped(
        "0 100 linear d0 3\n100 50 linear d0 500", make_disk(), name="lowest"
    )
    middle = await make_mapped("0 120 linear lowest 10", lowest, name="middle")
    top = await make_mapped("0 8 zero\n8 60 linear middle 40\n68 20 zero", middle, name="top")
    # Sector 8 is 40 of middle, 50 of lowest, 53 of the disk; 100 of lowest is 58 of top.
    assert where(top.span(20)) == (8, 58, "d0", 45)
    assert where(top.span(58)) == (58, 68, "d0", 442)


async def test_a_span_leads_where_reads_go() -> None:
    disks = [make_disk(name, 512) for name in ("d0", "d1")]
    data = [bytes(pattern(512 * 512, seed)) for seed in range(2)]
    for disk, content in zip(disks, data, strict=True):
        disk.store.pwrite(0, memoryview(content))
    lower = await make_mapped(
        "0 48 striped 2 6 d0 5 d1 9\n48 80 linear d1 33", *disks, name="lower"
    )
    top = await make_mapped("0 13 linear lower 2\n13 7 zero\n20 100 linear lower 17", lower)
    for sector in [*range(13), *range(20, 120)]:
        span = top.span(sector).at(sector)
        leaf = disks.index(span.leaf)
        at = (sector + span.shift) * 512
        assert await read(top, sector, 512) == data[leaf][at : at + 512], f"sector {sector}"


# Stripes.


def legs(span: Span) -> tuple[int, int, int, int, list[tuple[str, int]]]:
    """The borders, origin and chunk of a span, and its legs."""
    found = [(leg.leaf.name, leg.shift) for leg in span.legs]
    return span.begin, span.end, span.origin, span.chunk, found


async def test_a_striped_target_is_a_span_of_a_leg_for_each_stripe() -> None:
    mapped = await make_mapped(
        "0 4 zero\n4 32 striped 2 8 d0 100 d1 200", make_disk("d0"), make_disk("d1")
    )
    expected = 4, 36, 4, 8, [("d0", 100), ("d1", 200)]
    assert [legs(mapped.span(sector)) for sector in (4, 19, 35)] == [expected] * 3
    assert (mapped.span(4).leaf, mapped.span(4).shift) == (None, 0)
    assert [where(mapped.span(sector).at(sector)) for sector in (4, 11, 12, 19, 20, 35)] == [
        (4, 12, "d0", 96),
        (4, 12, "d0", 96),
        (12, 20, "d1", 188),
        (12, 20, "d1", 188),
        (20, 28, "d0", 88),
        (28, 36, "d1", 180),
    ]


async def test_what_lies_above_stripes_moves_where_they_begin() -> None:
    lower = await make_mapped(
        "0 64 striped 2 8 d0 100 d1 200", make_disk("d0"), make_disk("d1"), name="lower"
    )
    top = await make_mapped("0 5 zero\n5 40 linear lower 3", lower)
    assert legs(top.span(5)) == (5, 45, 2, 8, [("d0", 100), ("d1", 200)])
    assert where(top.span(5).at(5)) == (5, 10, "d0", 98)
    assert where(top.span(44).at(44)) == (42, 45, "d1", 174)


async def test_one_stripe_is_a_range_like_any() -> None:
    mapped = await make_mapped("0 32 striped 1 8 d0 100", make_disk())
    assert where(mapped.span(20)) == (0, 32, "d0", 100)


async def test_rows_of_stripes_that_a_border_below_cuts_are_a_span_for_each_chunk() -> None:
    lower = await make_mapped("0 20 linear d0 0\n20 44 linear d0 300", make_disk(), name="lower")
    mapped = await make_mapped("0 64 striped 2 8 lower 0 d1 200", lower, make_disk("d1"))
    assert legs(mapped.span(0)) == (0, 32, 0, 8, [("d0", 0), ("d1", 200)])
    assert legs(mapped.span(63)) == (48, 64, 0, 8, [("d0", 280), ("d1", 200)])
    assert where(mapped.span(32)) == (32, 36, "d0", -16)
    assert where(mapped.span(36)) == (36, 40, "d0", 264)
    assert where(mapped.span(40)) == (40, 48, "d1", 176)


async def test_stripes_over_stripes_are_a_span_for_each_chunk_above() -> None:
    lower = await make_mapped(
        "0 64 striped 2 4 d0 0 d1 0", make_disk("d0"), make_disk("d1"), name="lower"
    )
    mapped = await make_mapped("0 64 striped 2 8 d1 200 lower 16", make_disk("d1"), lower)
    assert where(mapped.span(0)) == (0, 8, "d1", 200)
    assert legs(mapped.span(9)) == (8, 16, -8, 4, [("d0", 0), ("d1", 0)])


async def test_a_stripe_of_what_has_no_leaf_leaves_the_others_their_chunks() -> None:
    lower = await make_mapped("0 64 zero", name="lower")
    mapped = await make_mapped("0 64 striped 2 8 lower 0 d1 0", lower, make_disk("d1"))
    assert where(mapped.span(0)) == (0, 8, None, 0)
    assert where(mapped.span(8)) == (8, 16, "d1", -8)


async def test_of_stripes_one_knows_what_each_would_visit_and_count() -> None:
    disks = [make_disk("d0"), make_disk("d1")]
    lower = await make_mapped("0 64 linear d0 0", disks[0], name="lower")
    mapped = await make_mapped("0 64 striped 2 8 lower 0 d1 0", lower, disks[1])
    span = mapped.span(0)
    assert (span.visits, [leg.visits for leg in span.legs]) == (
        (mapped.stats,),
        [(lower.stats, disks[0].stats), (disks[1].stats,)],
    )
    own, (below,) = mapped.live.entries[0].counts, lower.live.entries
    for sector, counts in ((0, (own, below.counts, disks[0].counts)), (8, (own, disks[1].counts))):
        one = span.at(sector)
        assert one.visits == span.visits + span.legs[sector // 8].visits
        assert all(a is b for a, b in zip(one.route, counts, strict=True))


async def test_stripes_are_writable_where_all_are() -> None:
    disks = [make_disk("d0"), make_disk("d1", store=MemoryStore(1 << 16, read_only=True))]
    mapped = await make_mapped("0 64 striped 2 8 d0 0 d1 0", *disks)
    assert mapped.span(0).ops == {Op.READ}


async def test_a_span_knows_what_a_plan_would_visit_and_count() -> None:
    disk = make_disk(slots=1)
    lower = await make_mapped("0 64 linear d0 0", disk, name="lower")
    top = await make_mapped("0 8 linear lower 0\n8 8 linear lower 8", lower, name="top")
    span = top.span(9)
    assert span.visits == (top.stats, lower.stats, disk.stats)
    counts = (top.live.entries[1].counts, lower.live.entries[0].counts, disk.counts)
    assert all(one is other for one, other in zip(span.route, counts, strict=True))


# Where contexts end.


async def test_contexts_end_above_the_highest_target_that_does_not_pass_them() -> None:
    lowest = await make_mapped("0 64 dust d0 0 512", make_disk(), name="lowest")
    lower = await make_mapped("0 64 linear lowest 0", lowest, name="lower")
    middle = await make_mapped("0 64 delay lower 0 0", lower, name="middle")
    top = await make_mapped("0 64 linear middle 0", middle, name="top")
    ends = [(device, device.span(0)) for device in (lowest, lower, middle, top)]
    assert [span.fallback for _, span in ends] == [
        lowest.fallback, lowest.fallback, middle.fallback, middle.fallback,
    ]  # fmt: skip
    passed = [[id(counts) for counts in span.fallback_route] for _, span in ends]
    own = [id(device.live.entries[0].counts) for device, _ in ends]
    assert passed == [[own[0]], [own[1], own[0]], [own[2]], [own[3], own[2]]]


async def test_stripes_over_what_does_not_pass_contexts_are_a_span_for_each_chunk() -> None:
    lower = await make_mapped("0 64 dust d0 0 512", make_disk(), name="lower")
    mapped = await make_mapped("0 64 striped 2 8 lower 0 d1 0", lower, make_disk("d1"))
    assert [mapped.span(sector).fallback for sector in (0, 8)] == [lower.fallback, None]


# What is not known.


@pytest.mark.parametrize("target", ["zero", "error", "delay d0 0 7", "flakey d0 0 0 1"])
async def test_of_a_target_that_is_not_steady_only_its_borders_are_known(target: str) -> None:
    mapped = await make_mapped(f"0 8 linear d0 0\n8 9 {target}\n17 3 linear d0 0", make_disk())
    assert where(mapped.span(12)) == (8, 17, None, 0)


async def test_the_borders_of_what_is_unknown_below_hold_above() -> None:
    lower = await make_mapped("0 8 linear d0 0\n8 8 zero", make_disk(), name="lower")
    top = await make_mapped("0 12 linear lower 2", lower)
    assert where(top.span(8)) == (6, 12, None, 0)


@pytest.mark.parametrize("read_only_level", ["disk", "lower", "top"])
async def test_a_span_is_writable_where_every_level_is(read_only_level: str) -> None:
    disk = make_disk(store=MemoryStore(1 << 16, read_only=read_only_level == "disk"))
    lower, top = MappedDevice("lower"), MappedDevice("top")
    await load(lower, "0 64 linear d0 0", disk)
    lower.load(lower.inactive, read_only=read_only_level == "lower")
    await lower.resume()
    await load(top, "0 64 linear lower 0", lower)
    top.load(top.inactive, read_only=read_only_level == "top")
    await top.resume()
    assert top.span(0).ops == {Op.READ}
    assert lower.span(0).ops == (BOTH if read_only_level == "top" else {Op.READ})


# Flushes.


async def test_a_flush_reaches_every_leaf_below_once() -> None:
    disks = [make_disk(name) for name in ("d0", "d1", "d2")]
    lower = await make_mapped("0 64 striped 2 8 d0 0 d1 0", *disks, name="lower")
    top = await make_mapped("0 64 linear lower 0\n64 8 linear d1 0\n72 8 zero", lower, *disks)
    span = top.flush_span()
    assert [leg.leaf.name for leg in span.legs] == ["d0", "d1"]
    d0, d1, _ = (disk.stats for disk in disks)
    assert span.visits == (top.stats, lower.stats, d0, d1, d1), "as often as it is planned"
    assert (span.ops, span.is_current()) == ({Op.FLUSH}, True)


async def test_a_flush_of_nothing_reaches_no_leaf() -> None:
    assert (await make_mapped("0 8 zero\n8 8 error")).flush_span().legs == ()


@pytest.mark.parametrize("level", ["lower", "top"])
async def test_what_a_flush_reaches_is_known_until_a_device_on_the_way_changes(level: str) -> None:
    lower = await make_mapped("0 64 linear d0 0", make_disk(), name="lower")
    top = await make_mapped("0 64 linear lower 0", lower, name="top")
    span = top.flush_span()
    await {"lower": lower, "top": top}[level].suspend()
    assert not span.is_current()
    with pytest.raises(DeviceSuspended):
        top.flush_span()


# How long it holds.


async def test_without_a_table_there_is_no_span() -> None:
    with pytest.raises(BlockIOError, match="dm0: a search without a live table"):
        MappedDevice("dm0").span(0)


@pytest.mark.parametrize("suspended_level", ["lower", "top"])
async def test_a_suspended_device_is_waited_for(suspended_level: str) -> None:
    lower = await make_mapped("0 64 linear d0 0", make_disk(), name="lower")
    top = await make_mapped("0 64 linear lower 0", lower, name="top")
    suspended = {"lower": lower, "top": top}[suspended_level]
    await suspended.suspend()
    with pytest.raises(DeviceSuspended) as caught:
        top.span(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caught.value.wait)
        await suspended.resume()
    assert top.span(0).leaf is not None


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("target", ["linear {} 0", "zero"], ids=["steady", "unknown"])
async def test_a_span_is_out_of_date_when_any_device_on_the_way_changes(
    level: int, target: str
) -> None:
    """A span without a leaf too: the next table may have one there."""
    below, levels = make_disk(), []
    for name in ("lower", "middle", "top"):
        words = target if name == "lower" else "linear {} 0"
        levels.append(await make_mapped(f"0 64 {words.format(below.name)}", below, name=name))
        below = levels[-1]
    span = below.span(0)
    assert span.is_current()
    await levels[level].suspend()
    assert not span.is_current()
    await levels[level].resume()
    assert not span.is_current()
    assert below.span(0).is_current()


async def test_a_change_beside_the_way_is_none() -> None:
    one = await make_mapped("0 64 linear d0 0", make_disk(), name="one")
    other = await make_mapped("0 64 linear d0 0", make_disk(), name="other")
    top = await make_mapped("0 64 linear one 0\n64 64 linear other 0", one, other)
    span = top.span(0)
    await other.suspend()
    assert span.is_current()


async def test_a_loaded_table_changes_no_span_before_it_is_resumed() -> None:
    disk = make_disk()
    mapped = await make_mapped("0 64 linear d0 0", disk)
    span = mapped.span(0)
    await load(mapped, "0 64 linear d0 8", disk)
    assert span.is_current()
    await mapped.resume()
    assert not span.is_current()
    assert where(mapped.span(0)) == (0, 64, "d0", 8)


async def test_a_span_is_out_of_date_when_a_device_below_has_become_read_only() -> None:
    system = System()
    system.add_disk(make_disk())
    for name, below in (("lower", "d0"), ("top", "lower")):
        system.add_mapped(name)
        system.load(name, f"0 64 linear {below} 0")
        await system.resume(name)
    span = system.mapped["top"].span(0)
    assert span.ops == BOTH
    system.load("lower", "0 64 linear d0 0", read_only=True)
    await system.resume("lower")
    assert not span.is_current()
    assert system.mapped["top"].span(0).ops == {Op.READ}


async def test_after_a_suspend_that_was_given_up_there_are_spans_again() -> None:
    mapped = await make_mapped("0 64 linear d0 0", make_disk())
    began = mapped.stats.begin(Op.READ)
    with trio.move_on_after(0):
        await mapped.suspend()
    mapped.stats.end(Op.READ, 1, began)
    assert mapped.span(0).is_current()
