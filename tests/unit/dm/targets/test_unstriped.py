"""What is special to unstriped; the rest is in tests/contracts/test_every_target.py."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, TableError
from fusedm.crypto import submit_bio
from fusedm.dm import Remap, Target, parse_table
from tests.helpers.builders import make_disk, make_mapped, pattern, read, write
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096)


def make(words: str, length: int = 24) -> Target:
    table = parse_table(f"0 {length} unstriped {words}", lookup_in(D0), lambda: 0.0)
    return table.entries[0].target


def read_at(sector: int, sector_count: int = 1) -> Bio:
    return Bio.read(sector, memoryview(bytearray(512 * sector_count)))


def test_every_so_manieth_chunk_is_one_of_it():
    target = make("3 4 1 d0 100")
    for chunk in range(6):
        place = 100 + (chunk * 3 + 1) * 4
        assert target.map(read_at(chunk * 4)) == Remap(D0, read_at(place))
        assert target.map(read_at(chunk * 4 + 3)) == Remap(D0, read_at(place + 3))


def test_of_one_stripe_it_is_all():
    assert make("1 4 0 d0 8").map(read_at(9)) == Remap(D0, read_at(17))


def test_bios_are_split_at_chunks():
    assert make("2 4 0 d0 0").max_io_sectors == 4


def test_a_flush_goes_to_the_device():
    assert make("2 4 1 d0 8").map(FLUSH) == Remap(D0, FLUSH)


def test_no_range_past_its_last_chunk_is_used():
    [segment] = make("3 4 1 d0 100").devices()
    assert (segment.start_sector, segment.start_sector + segment.sector_count) == (104, 168)


def test_the_table_says_where_the_first_stripe_starts():
    assert make("3 4 2 d0 100").params() == ["3", "4", "2", D0, "100"]


@given(stripes=st.integers(1, 4), chunk=st.integers(1, 7), rows=st.integers(1, 4))
def test_the_stripes_of_a_device_are_all_of_it(stripes, chunk, rows):
    places = [
        target.map(read_at(sector)).bio.sector
        for index in range(stripes)
        for target in [make(f"{stripes} {chunk} {index} d0 10", chunk * rows)]
        for sector in range(chunk * rows)
    ]
    assert sorted(places) == list(range(10, 10 + stripes * chunk * rows))


async def test_what_was_striped_and_unstriped_is_what_it_was():
    disk = make_disk("d0", 96)
    halves = [
        await make_mapped(f"0 48 unstriped 2 8 {index} d0 0", disk, name=f"half{index}")
        for index in range(2)
    ]
    whole = await make_mapped("0 96 striped 2 8 half0 0 half1 0", *halves)
    text = bytes(pattern(96 * 512))
    await write(whole, 0, text)
    assert await read(disk, 0, 96 * 512) == text
    assert await read(halves[1], 8, 8 * 512) == text[24 * 512 : 32 * 512]


async def test_each_chunk_has_a_span():
    device = await make_mapped("0 48 unstriped 2 8 1 d0 0", make_disk("d0", 96))
    span = device.span(21)
    assert (span.begin, span.end, span.shift) == (16, 24, 24)
    assert span.ops == {Op.READ, Op.WRITE}
    assert device.flush_span() is not None


async def test_a_discard_is_refused():
    device = await make_mapped("0 48 unstriped 2 8 1 d0 0", make_disk("d0", 96))
    with pytest.raises(BlockIOError) as caught:
        await submit_bio(device, Bio(Op.DISCARD, 0, 8))
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("0 4 0 d0 0", r"argument 1: stripes: 0 is not in 1\.\."),
        ("2 0 0 d0 0", r"argument 2: chunk: 0 is not in 1\.\."),
        ("2 4 2 d0 0", r"argument 3: index 2: there is no such stripe, they are 0\.\.1"),
        ("1 4 1 d0 0", r"argument 3: index 1: there is no such stripe, they are 0\.\.0"),
        ("2 4 1 d0 x", r"argument 5: offset: 'x' is not a number"),
        ("2 5 1 d0 0", r"length 24 is not a multiple of the chunk of 5 sectors"),
        ("2 4 1 d0 4060", r"4064 \+ 44 sectors ends past d0 \(4096 sectors\)"),
    ],
)
def test_bad_arguments_are_refused(words, text):
    with pytest.raises(TableError, match=f"^table line 1: unstriped: {text}"):
        make(words)


def test_a_device_that_is_missing_is_einval():
    with pytest.raises(TableError, match=r"argument 4: dev: no device is named") as caught:
        make("2 4 1 nosuch 0")
    assert caught.value.errno == errno.EINVAL
