"""raid10, near: where copies lie, and the array at work."""

import pytest
import trio

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from tests.helpers.arrays import (
    disks,
    failing,
    health,
    make_raid,
    said,
    started,
    superblock,
    target_of_device,
)
from tests.helpers.builders import medium, pattern, read, write
from tests.helpers.by_span import carry_out_by_span

MEMBER = 256
CHUNK = 16


class Case:
    """A raid10 of some disks."""

    def __init__(self, count, copies=2, member=MEMBER):
        self.count, self.copies = count, copies
        self.size = member * count // copies
        self.metas, self.datas = disks(count, member)

    async def start(self, **options):
        words = {"nosync": True, "region_sectors": 32, **options}
        target = make_raid("raid10", self.size, self.metas, self.datas, CHUNK, self.copies, **words)
        self.device = await started(target)
        self.level = target_of_device(self.device).level
        return self

    def chunk(self, index, row):
        return medium(self.datas[index], row * CHUNK, CHUNK * 512)


def chunks(data):
    return [data[at : at + CHUNK * 512] for at in range(0, len(data), CHUNK * 512)]


async def test_copies_of_a_chunk_lie_side_by_side(autojump_clock):
    case = await Case(3).start()
    data = pattern(case.size * 512)
    await write(case.device, 0, data)
    first, second, third = chunks(data)[:3]
    assert [case.chunk(index, 0) for index in range(3)] == [first, first, second]
    assert [case.chunk(index, 1) for index in range(3)] == [second, third, third]
    assert await read(case.device, 0, len(data)) == data


@pytest.mark.parametrize(("count", "copies"), [(2, 2), (3, 2), (4, 2), (5, 3), (4, 4)])
async def test_any_data_survive_what_the_level_says_it_survives(count, copies, autojump_clock):
    case = await Case(count, copies, 48 * CHUNK // 4).start()
    data = bytes(pattern(case.size * 512, count))
    await write(case.device, 0, data)
    for first in range(count):
        for second in range(count):
            lost = {first, second}
            for index in lost:
                case.datas[index].store.fails = failing(Op.READ)
            if case.level.survives(lost):
                assert await read(case.device, 0, len(data)) == data, lost
            else:
                with pytest.raises(BlockIOError):
                    await read(case.device, 0, len(data))
            for index in lost:
                case.datas[index].store.fails = failing()
            await trio.sleep(1)


def test_which_members_may_be_lost():
    level = make_raid("raid10", MEMBER * 2, *disks(4, MEMBER), CHUNK).level
    assert level.survives({0, 2})
    assert not level.survives({0, 1})
    odd = make_raid("raid10", MEMBER * 3 // 2, *disks(3, MEMBER), CHUNK).level
    assert odd.survives({1})
    assert not odd.survives({0, 2})


@pytest.mark.parametrize("count", [2, 3, 4])
async def test_a_lost_member_is_rebuilt(count, autojump_clock):
    case = await Case(count).start()
    data = bytes(pattern(case.size * 512))
    await write(case.device, 0, data)
    before = medium(case.datas[1])
    await case.device.end()
    (case.metas[1],), (case.datas[1],) = disks(1, MEMBER)
    await case.start(rebuild=frozenset({1}))
    await trio.sleep(60)
    assert medium(case.datas[1]) == before
    assert health(case.device) == "A" * count


@pytest.mark.parametrize("count", [2, 3])
async def test_a_new_array_is_made_alike(count, autojump_clock):
    case = Case(count)
    for index, data in enumerate(case.datas):
        data.store.pwrite(0, memoryview(pattern(MEMBER * 512, index)))
    await case.start(nosync=False)
    assert said(case.device)[2:5] == ["a" * count, f"0/{case.size}", "resync"]
    await trio.sleep(60)
    await case.device.message(0, ["check"])
    await trio.sleep(60)
    assert said(case.device)[2:] == ["A" * count, f"{case.size}/{case.size}", "idle", "0", "0", "-"]


async def test_the_layout_is_written_as_md_does(autojump_clock):
    case = await Case(4).start()
    found = superblock(case.metas[3])
    assert (found.level, found.layout, found.chunk_sectors) == (10, 0x102, CHUNK)
    assert (found.member_sectors, found.array_sectors) == (MEMBER, case.size)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(("begin", "end"), [(0, 96), (3, 9), (3, 77), (16, 32), (20, 40)])
async def test_discards_reach_every_copy_and_nothing_else(count, begin, end, autojump_clock):
    case = await Case(count).start()
    data = bytearray(pattern(case.size * 512))
    await write(case.device, 0, data)
    await submit_bio(case.device, Bio(Op.DISCARD, begin, end - begin))
    data[begin * 512 : end * 512] = bytes((end - begin) * 512)
    for lost in range(count):
        for index, disk in enumerate(case.datas):
            disk.store.fails = failing(Op.READ) if index == lost else failing()
        assert await read(case.device, 0, len(data)) == data
        await trio.sleep(1)


@pytest.mark.parametrize(
    ("sectors", "copies", "text"),
    [
        (MEMBER, 3, "raid10_copies 3 is not in 2..2"),
        (MEMBER, 1, "raid10_copies 1 is not in 2..2"),
        (MEMBER - 8, 2, "length 248 in 2 copies is not a multiple of 2 devices \\* 16"),
    ],
)
def test_what_cannot_be_is_refused(sectors, copies, text):
    with pytest.raises(ValueError, match=text):
        make_raid("raid10", sectors, *disks(2, MEMBER), CHUNK, copies)


async def test_ranges_of_a_member_are_locked_where_their_chunks_lie(autojump_clock):
    case = await Case(3).start()
    for begin in range(0, MEMBER, 8):
        first, last = case.level.locked_by(begin, begin + 8)
        for index in range(3):
            [place] = case.level.places_of(index, begin, begin + 8)
            assert first <= place.sector
            assert place.end_sector <= last


async def test_reads_are_steady_as_far_as_they_go_the_same_way(autojump_clock):
    case = await Case(4).start()
    assert case.level.steady(100).stripes == 2
    odd = await Case(3).start()
    assert (odd.level.steady(20).begin, odd.level.steady(20).end) == (16, 32)
    target_of_device(odd.device).array.need(0, 8)
    assert not odd.level.steady(0).ops


def failing_chunk(row):
    """Have reads fail that touch a chunk of a member."""
    begin, end = row * CHUNK * 512, (row + 1) * CHUNK * 512
    return lambda op, at, length: op is Op.READ and at < end and begin < at + length


@pytest.mark.parametrize("action", ["rebuild", "check"])
async def test_bad_chunks_of_several_copies_do_no_harm_in_different_places(action, autojump_clock):
    case = await Case(6, 3).start()
    data = bytes(pattern(case.size * 512))
    await write(case.device, 0, data)
    before = medium(case.datas[1])
    for index, row in ((0, 2), (2, 5)):
        case.datas[index].store.fails = failing_chunk(row)
    if action == "rebuild":
        await case.device.end()
        (case.metas[1],), (case.datas[1],) = disks(1, MEMBER)
        await case.start(rebuild=frozenset({1}))
        await trio.sleep(60)
    else:
        case.datas[1].store.pwrite(CHUNK * 512, memoryview(bytes(512)))
        await case.device.message(0, ["repair"])
        await trio.sleep(60)
    assert medium(case.datas[1]) == before
    assert health(case.device) == "A" * 6


async def test_a_chunk_that_no_member_can_read_ends_a_check(autojump_clock, caplog):
    case = await Case(4).start()
    for disk in case.datas[2:]:
        disk.store.fails = failing_chunk(3)
    await case.device.message(0, ["check"])
    await trio.sleep(60)
    # The chunk of row 3 of the third and fourth members is the eighth of the array.
    assert f"check ends: raid10: no copy of sector {7 * CHUNK} can be read" in caplog.text


async def test_a_check_counts_no_more_than_the_chunks_that_differ(autojump_clock):
    case = await Case(4).start()
    for row in (1, 2):
        case.datas[1].store.pwrite(row * CHUNK * 512, memoryview(b"other" + bytes(507)))
    await case.device.message(0, ["check"])
    await trio.sleep(60)
    assert said(case.device)[5] == str(2 * CHUNK)


async def test_a_rebuild_reads_and_writes_chunks_that_lie_together_in_one_bio(autojump_clock):
    case = await Case(4).start()
    await write(case.device, 0, pattern(case.size * 512))
    await case.device.end()
    (case.metas[1],), (case.datas[1],) = disks(1, MEMBER)
    was = [disk.stats.ios[0] for disk in case.datas]
    await case.start(rebuild=frozenset({1}))
    await trio.sleep(60)
    assert medium(case.datas[0]) == medium(case.datas[1])
    assert [disk.stats.ios[0] for disk in case.datas] == [was[0] + 1, *was[1:]]
    assert case.datas[1].stats.ios[1] == 1


async def test_only_reads_go_by_stripes_and_writes_reach_all_copies(autojump_clock):
    case = await Case(4).start()
    span = case.device.span(100)
    assert (len(span.legs), span.ops) == (2, {Op.READ})
    data = pattern(case.size * 512)
    bio = Bio.write(0, memoryview(data[:512]))
    assert not carry_out_by_span(case.device, bio)
    await write(case.device, 0, data)
    assert carry_out_by_span(case.device, Bio.read(0, memoryview(bytearray(512))))
    assert medium(case.datas[0]) == medium(case.datas[1])
    assert medium(case.datas[2]) == medium(case.datas[3])
