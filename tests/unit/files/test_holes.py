"""Where data and holes of a file are, over stores that know it to the sector."""

import errno
import threading
from collections.abc import Callable, Iterable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from fusedm.block import Op
from fusedm.block.errors import BlockIOError
from fusedm.disk import Disk
from fusedm.files import holes
from fusedm.files.holes import seek
from fusedm.stores import MemoryStore
from fusedm.system import View
from tests.helpers.builders import load, make_disk, make_key, make_mapped

S = 512


class SectorStore(MemoryStore):
    """Whose data are in the sectors that it is told."""

    def __init__(self, sector_count: int, data: Iterable[int]) -> None:
        super().__init__(sector_count * S)
        self.sectors = set(data)

    def seek_data(self, offset: int) -> int:
        """By the sectors it was told."""
        return self._first(offset, lambda sector: sector in self.sectors)

    def seek_hole(self, offset: int) -> int:
        """By the sectors it was told."""
        return self._first(offset, lambda sector: sector not in self.sectors)

    def _first(self, offset: int, fits: Callable[[int], bool]) -> int:
        for sector in range(offset // S, self.size // S):
            if fits(sector):
                return max(offset, sector * S)
        return self.size


class UnreadableStore(MemoryStore):
    """Whose file cannot be searched."""

    def seek_data(self, offset: int) -> int:
        """Fails as a file may."""
        raise OSError(errno.ESTALE, "stale")

    seek_hole = seek_data


class SlowStore(MemoryStore):
    """Whose file is on a slow medium; it notes who searches it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.threads: set[int] = set()

    def may_block(self, op: Op) -> bool:
        """It may."""
        return True

    def seek_data(self, offset: int) -> int:
        """All is data."""
        self.threads.add(threading.get_ident())
        return offset

    def seek_hole(self, offset: int) -> int:
        """Nowhere."""
        self.threads.add(threading.get_ident())
        return self.size


def make_sector_disk(name: str, sector_count: int, *data: range) -> Disk:
    return make_disk(name, store=SectorStore(sector_count, (s for some in data for s in some)))


async def data(view: View, offset: int) -> int:
    return await seek(view, offset, for_data=True)


async def hole(view: View, offset: int) -> int:
    return await seek(view, offset, for_data=False)


async def answer(view: View, offset: int, for_data: bool) -> int | str:
    """What seek finds, or the name of its error."""
    try:
        return await seek(view, offset, for_data)
    except BlockIOError as error:
        return errno.errorcode[error.errno]


async def outline(view: View) -> list[tuple[int, int]]:
    """The data of a view as `cp` finds them: begin and end in sectors."""
    found = []
    begin = await answer(view, 0, True)
    while isinstance(begin, int):
        end = await hole(view, begin)
        found.append((begin // S, end // S))
        begin = await answer(view, end, True)
    assert begin == "ENXIO"
    return found


# Disks.


async def test_data_and_holes_of_a_disk_are_its_stores() -> None:
    view = View("d0", make_sector_disk("d0", 64, range(8, 16), range(20, 21)))
    assert await outline(view) == [(8, 16), (20, 21)]


async def test_an_offset_in_the_middle_is_its_own_answer() -> None:
    view = View("d0", make_sector_disk("d0", 64, range(8, 16)))
    assert await data(view, 9 * S + 100) == 9 * S + 100
    assert await hole(view, 20 * S + 7) == 20 * S + 7


async def test_a_whole_disk_of_data_has_its_hole_at_the_end() -> None:
    view = View("d0", make_sector_disk("d0", 64, range(64)))
    assert await data(view, 0) == 0
    assert await hole(view, 0) == 64 * S


async def test_where_no_data_follow_is_enxio() -> None:
    view = View("d0", make_sector_disk("d0", 64, range(8, 16)))
    with pytest.raises(BlockIOError, match="d0: there are no data from 8192 on") as caught:
        await data(view, 16 * S)
    assert caught.value.errno == errno.ENXIO
    assert await hole(view, 16 * S) == 16 * S


@pytest.mark.parametrize("beyond", [0, 1, 4096, 1 << 63])
@pytest.mark.parametrize("for_data", [False, True])
async def test_at_the_end_and_beyond_it_is_enxio(beyond: int, for_data: bool) -> None:
    view = View("d0", make_sector_disk("d0", 64, range(64)))
    with pytest.raises(BlockIOError, match=f"{64 * S + beyond} is past the end at 32768") as caught:
        await seek(view, 64 * S + beyond, for_data)
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize("for_data", [False, True])
async def test_an_error_of_the_store_is_passed_on(for_data: bool) -> None:
    view = View("d0", make_disk("d0", store=UnreadableStore(1 << 16)))
    what = "data" if for_data else "a hole"
    wanted = f"d0: seek of {what} from 1024" if for_data else "d0: seek of data from 1024"
    with pytest.raises(BlockIOError, match=wanted) as caught:
        await seek(view, 1024, for_data)
    assert caught.value.errno == errno.ESTALE


async def test_a_store_that_may_block_is_asked_in_another_thread() -> None:
    store = SlowStore(1 << 16)
    view = View("d0", make_disk("d0", store=store))
    await hole(view, 0)
    assert store.threads
    assert threading.get_ident() not in store.threads


async def test_a_store_in_memory_is_asked_on_the_spot() -> None:
    view = View("d0", make_sector_disk("d0", 64, range(8)))
    with assert_no_checkpoints():
        assert await seek(view, 0, for_data=False) == 8 * S


# Mapped devices.


async def test_data_are_found_through_pieces_of_several_disks() -> None:
    one = make_sector_disk("one", 64, range(8, 24), range(40, 48))
    two = make_sector_disk("two", 64, range(16), range(32, 40))
    mapped = await make_mapped(
        "0 16 linear one 8\n16 16 linear two 8\n32 8 linear one 40", one, two
    )
    # All of the first piece, then the second's first half, then all of the third.
    assert await outline(View("dm0", mapped)) == [(0, 24), (32, 40)]


async def test_data_outside_a_piece_are_not_its() -> None:
    disk = make_sector_disk("d0", 64, range(8), range(16, 64))
    mapped = await make_mapped("0 8 linear d0 8\n8 8 linear d0 0\n16 8 linear d0 8", disk)
    assert await outline(View("dm0", mapped)) == [(8, 16)]


async def test_holes_are_found_chunk_by_chunk_in_a_striped_device() -> None:
    one, two = make_sector_disk("one", 16, range(8)), make_sector_disk("two", 16, range(4, 12))
    mapped = await make_mapped("0 32 striped 2 4 one 0 two 0", one, two)
    # Chunks in turn: one's 0 and 1 are data, of two's the second and third.
    assert await outline(View("dm0", mapped)) == [(0, 4), (8, 16), (20, 24)]


@pytest.mark.parametrize("target", ["zero", "error", "delay d0 0 7", "flakey d0 0 0 1"])
async def test_what_nobody_can_tell_is_data(target: str) -> None:
    disk = make_sector_disk("d0", 64)
    mapped = await make_mapped(f"0 8 linear d0 0\n8 8 {target}\n16 8 linear d0 0", disk)
    assert await outline(View("dm0", mapped)) == [(8, 16)]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("flakey d0 0 1 0", [(2, 3)]),
        ("delay d0 0 0", [(2, 3)]),
        ("delay d0 0 7 d0 0 0", [(0, 8)]),
        (f"crypt aes-cbc-plain64 {'5a' * 32} 0 d0 0", [(0, 8)]),
        (f"crypt aes-cbc-plain64 {'5a' * 32} 0 d0 0 1 allow_discards", [(2, 3)]),
    ],
)
async def test_what_reads_go_through_as_it_is_has_the_holes_of_what_lies_below(
    target: str, found: list[tuple[int, int]]
) -> None:
    mapped = await make_mapped(f"0 8 {target}", make_sector_disk("d0", 64, [2]))
    assert await outline(View("dm0", mapped)) == found


async def test_a_suspended_device_is_waited_for_and_its_next_table_asked() -> None:
    full, empty = make_sector_disk("full", 64, range(64)), make_sector_disk("empty", 64)
    mapped = await make_mapped("0 64 linear empty 0", empty)
    await mapped.suspend()
    found: list[int] = []

    async def look() -> None:
        found.append(await data(View("dm0", mapped), 512))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        assert found == []
        await load(mapped, "0 64 linear full 0", full)
        await mapped.resume()
    assert found == [512]


async def test_after_so_many_spans_the_rest_is_called_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "MAX_SPANS", 4)
    one, two = make_sector_disk("one", 64), make_sector_disk("two", 64, range(63, 64))
    mapped = await make_mapped("0 128 striped 2 4 one 0 two 0", one, two)
    view = View("dm0", mapped)
    assert await data(view, 0) == 16 * S
    assert await hole(view, 0) == 0


async def test_a_hole_further_than_so_many_spans_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holes, "MAX_SPANS", 4)
    one, two = make_sector_disk("one", 64, range(64)), make_sector_disk("two", 64, range(12))
    mapped = await make_mapped("0 128 striped 2 4 one 0 two 0", one, two)
    # Chunk 7, at sector 28, is the first hole; from 0 on only 4 chunks are looked at.
    assert await hole(View("dm0", mapped), 0) == 128 * S
    assert await hole(View("dm0", mapped), 16 * S) == 28 * S


async def test_so_many_blocks_that_are_holes_in_part_end_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holes, "MAX_SPANS", 4)
    view = View("v", make_sector_disk("d", 80, range(0, 72, 8)), make_key("k", 4096))
    assert await hole(view, 0) == 80 * S
    assert await hole(view, 48 * S) == 72 * S


# Views.


@pytest.mark.parametrize("unit", [512, 4096, 65536])
@pytest.mark.parametrize("sector", [0, 1, 7, 127])
async def test_a_unit_of_which_a_sector_is_data_is_data(unit: int, sector: int) -> None:
    disk = make_sector_disk("d0", 512, range(128 + sector, 129 + sector))
    view = View("v", disk, make_key("k", unit))
    begin = (128 + sector) * S // unit * unit
    assert await data(view, 0) == begin
    assert await hole(view, begin) == begin + unit
    assert await hole(view, begin + unit - 1) == begin + unit
    assert await data(view, begin + 5) == begin + 5


async def test_neighbouring_units_with_data_have_no_hole_between_them() -> None:
    """Sectors 1 and 14 lie in two units of 8; there is no unit of holes between them."""
    view = View("v", make_sector_disk("d0", 64, range(1, 2), range(14, 15)), make_key("k", 4096))
    assert await outline(view) == [(0, 16)]


async def test_a_unit_cut_by_a_border_is_data_if_either_part_is() -> None:
    one, two = make_sector_disk("one", 64), make_sector_disk("two", 64, range(1))
    mapped = await make_mapped("0 20 linear one 0\n20 20 linear two 0", one, two)
    assert await outline(View("v", mapped, make_key("k", 4096))) == [(16, 24)]


async def test_what_does_not_fill_a_unit_at_the_end_is_not_in_the_view() -> None:
    view = View("v", make_sector_disk("d0", 63, range(60, 63)), make_key("k", 4096))
    with pytest.raises(BlockIOError, match="there are no data from 0 on"):
        await data(view, 0)
    assert await hole(view, 55 * S) == 55 * S


KINDS = ["linear", "linear", "zero", "delay"]


@settings(max_examples=150)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(1, 30), st.integers(0, 60)),
        min_size=1,
        max_size=5,
    ),
    written=st.sets(st.integers(0, 95), max_size=40),
    unit=st.sampled_from([None, 512, 1024, 4096]),
    offset=st.integers(0, 160 * S),
)
def test_any_layout_agrees_with_looking_at_every_block(
    pieces: list[tuple[str, int, int]], written: set[int], unit: int | None, offset: int
) -> None:
    lines, is_data = [], []
    for kind, count, begin in pieces:
        words = {"linear": f"linear d0 {begin}", "delay": f"delay d0 {begin} 7", "zero": "zero"}
        lines.append(f"{len(is_data)} {count} {words[kind]}")
        is_data += [kind != "linear" or s in written for s in range(begin, begin + count)]

    async def main() -> None:
        disk = make_disk("d0", store=SectorStore(96, written))
        mapped = await make_mapped("\n".join(lines), disk)
        view = View("v", mapped, make_key("k", unit) if unit else None)
        block = view.block_size // S
        blocks = [any(is_data[at : at + block]) for at in range(0, view.size // S, block)]
        for wanted in (True, False):
            fitting = [
                at * view.block_size
                for at, found in enumerate(blocks)
                if found is wanted and (at + 1) * view.block_size > offset
            ]
            if offset >= view.size or (wanted and not fitting):
                expected: int | str = "ENXIO"
            else:
                expected = max(fitting[0], offset) if fitting else view.size
            assert await answer(view, offset, wanted) == expected

    trio.run(main)
