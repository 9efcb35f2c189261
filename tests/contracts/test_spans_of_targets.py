"""What targets say of stretches of sectors is what they do to each bio there."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fusedm.block import FLUSH, NO_DATA, Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice, parse_table
from tests.contracts.test_every_target import EXAMPLES, LENGTH, Clock, every_example, make, times
from tests.helpers.builders import make_disk, medium, pattern
from tests.helpers.by_span import carry_out_by_span
from tests.helpers.devices import lookup_in

#: Pools need metadata below them: tests/unit/dm/thin/test_spans.py does the same with them.
OF_ANY_DISKS = [example for example in EXAMPLES if example[0] not in ("thin", "thin-pool")]

OPS = [Op.READ, Op.READ, Op.WRITE, Op.WRITE, Op.FLUSH, Op.DISCARD]


@st.composite
def some_ios(draw: st.DrawFn) -> list[tuple[Op, int, int]]:
    """Ops, and their borders in blocks of 8 sectors; few places, so that many meet."""
    borders = st.tuples(st.integers(0, LENGTH // 8 - 1), st.integers(1, 4))
    ios = st.tuples(st.sampled_from(OPS), borders)
    return [(op, at, min(at + n, LENGTH // 8)) for op, (at, n) in draw(st.lists(ios, max_size=12))]


async def do_all(
    name: str, words: str, ios: list[tuple[Op, int, int]], now: float, by_span: bool
) -> list[bytes | int | None]:
    """What becomes of bios at a time, by spans where those say it; and of the media."""
    disks = [make_disk(f"d{index}", 4096) for index in range(3)]
    for index, disk in enumerate(disks[:1]):
        disk.store.pwrite(0, memoryview(pattern(disk.store.size, index)))
    clock, device = Clock(), MappedDevice("dm0")
    device.load(parse_table(f"0 {LENGTH} {name} {words}", lookup_in(*disks), clock))
    await device.resume()
    clock.now = now
    told: list[bytes | int | None] = []
    for index, (op, begin, end) in enumerate(ios):
        data = pattern((end - begin) * 4096, index)
        bio = Bio(op, begin * 8, (end - begin) * 8, memoryview(data) if op.has_data else NO_DATA)
        bio = FLUSH if op is Op.FLUSH else bio
        try:
            if not (by_span and carry_out_by_span(device, bio, now)):
                await submit_bio(device, bio)
            told.append(bytes(data))
        except BlockIOError as error:
            told.append(error.errno)
    await trio.sleep(60)  # What is done in the background is done then.
    await device.end()
    return [*told, *map(medium, disks)]


@pytest.mark.parametrize(("name", "words"), OF_ANY_DISKS)
@settings(max_examples=15)
@given(ios=some_ios(), now=times)
def test_what_spans_say_is_what_plans_do(name, words, ios, now):
    planned, spanned = (
        trio.run(do_all, name, words, ios, now, by_span, clock=MockClock(autojump_threshold=0))
        for by_span in (False, True)
    )
    assert planned == spanned


@every_example
@given(sector=st.integers(0, LENGTH - 1), now=times)
def test_what_is_steady_is_so_for_every_sector_of_it(name, words, sector, now):
    target = make(name, words, now)
    said = target.steady(sector)
    assert said.begin <= sector < said.end
    assert said.until > now
    for other in (said.begin, min(said.end, LENGTH) - 1):
        assert target.steady(other) == said
