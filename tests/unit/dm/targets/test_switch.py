"""What is special to switch; the rest is in tests/contracts/test_every_target.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import StackError, TableError
from fusedm.dm import Many, MappedDevice, Remap, Target, format_status, parse_table
from fusedm.dm.targets.switch import WINDOW
from fusedm.tables.grammars import striped
from tests.helpers.builders import make_disk, make_mapped, medium, pattern, read, write
from tests.helpers.devices import RecordingDevice, lookup_in

DEVICES = [RecordingDevice(name, 1 << 30) for name in ("d0", "d1", "d2")]
D0, D1, D2 = DEVICES


def make(words: str, length: int = 64) -> Target:
    table = parse_table(f"0 {length} switch {words}", lookup_in(*DEVICES), lambda: 0.0)
    return table.entries[0].target


def three(length: int = 64) -> Target:
    """Regions of 8 sectors over three paths."""
    return make("3 8 0 d0 0 d1 100 d2 200", length)


def paths(target: Target) -> str:
    return "".join(str(path) for path in target.table)


def read_at(sector: int, sector_count: int = 1) -> Bio:
    return Bio.read(sector, memoryview(bytearray(512 * sector_count)))


def test_regions_go_by_the_paths_in_turn_at_first():
    assert paths(three()) == "01201201"


def test_sectors_keep_their_numbers_whichever_path_they_go_by():
    target = three()
    for sector, device, start in [(7, D0, 0), (8, D1, 100), (16, D2, 200), (24, D0, 0)]:
        assert target.map(read_at(sector)) == Remap(device, read_at(start + sector))


def test_a_region_size_need_not_be_a_power_of_two_nor_divide_the_length():
    target = make("2 7 0 d0 0 d1 0", 16)
    assert paths(target) == "010"
    assert target.map(read_at(15)) == Remap(D0, read_at(15))
    assert target.max_io_sectors == 7


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("0:2 1:2 7:0", "22201200"),
        (":2", "02201201"),
        ("3:1 :1 :0", "01211001"),
        ("A:0", None),
        ("1:0 :2 R2,4", "00202021"),
        ("0:1 R1,7", "11111111"),
        ("0:1 r1,7 3:0 R3,2", "11101111"),
        ("3:0 R1,0", "01201201"),
        ("0:2 :1 :0 R3,5 2:2", "21221021"),
    ],
)
def test_messages_choose_paths(words, expected):
    target = three()
    if expected is None:
        with pytest.raises(StackError, match="region 10 is not below 8"):
            target.message(["set_region_mappings", *words.split()])
        return
    assert target.message(["Set_Region_Mappings", *words.split()]) == ""
    assert paths(target) == expected


def test_numbers_of_regions_are_hexadecimal():
    target = three(256)
    target.message(["set_region_mappings", "1f:2", "1F:0"])
    assert target.table[31] == 0


def test_a_message_of_no_words_changes_nothing():
    target = three()
    assert target.message(["set_region_mappings"]) == ""
    assert paths(target) == "01201201"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("8:0", "region 8 is not below 8"),
        ("0:3", "path 3 is not below 3"),
        ("x:0", "'x:0' is none of REGION:PATH"),
        ("0:", "'0:' is none of"),
        ("0", "'0' is none of"),
        ("0:1x", "'0:1x' is none of"),
        ("R,1", "'R,1' is none of"),
        ("R1", "'R1' is none of"),
        ("R1,", "'R1,' is none of"),
        ("R1,2,3", "'R1,2,3' is none of"),
        ("R0,1", "there are 1 regions up to region 0, not 0"),
        ("R2,1", "there are 1 regions up to region 0, not 2"),
        ("7:0 R1,1", "region 8 is not below 8"),
    ],
)
def test_words_that_are_not_mappings_are_refused(words, text):
    with pytest.raises(StackError, match=f"^switch: {text}"):
        three().message(["set_region_mappings", *words.split()])


def test_words_before_a_bad_one_stay_done():
    target = three()
    with pytest.raises(StackError):
        target.message(["set_region_mappings", "0:2", "bad", "1:2"])
    assert paths(target) == "21201201"


def test_other_messages_are_refused():
    with pytest.raises(StackError, match="message 'mark' is not set_region_mappings"):
        three().message(["mark", "x"])


@pytest.mark.parametrize(("count", "typecode"), [(2, "B"), (256, "B"), (257, "H"), (65537, "L")])
def test_a_region_takes_as_few_bytes_as_the_paths_allow(count, typecode):
    target = make(f"{count} 1 0 {'d0 0 ' * count}")
    assert target.table.typecode == typecode
    target.message(["set_region_mappings", f"5:{count - 1:x}"])
    assert target.table[5] == count - 1


def test_a_flush_goes_by_every_path():
    assert three().map(FLUSH) == Many((Remap(D0, FLUSH), Remap(D1, FLUSH), Remap(D2, FLUSH)))


def test_a_discard_is_cut_where_the_path_changes():
    target = three()
    target.message(["set_region_mappings", "1:0"])
    assert target.map(Bio(Op.DISCARD, 4, 16)) == Many(
        (Remap(D0, Bio(Op.DISCARD, 4, 12)), Remap(D2, Bio(Op.DISCARD, 216, 4)))
    )
    assert target.map(Bio(Op.DISCARD, 4, 8)) == Remap(D0, Bio(Op.DISCARD, 4, 8))


async def two() -> MappedDevice:
    return await make_mapped(
        "0 64 switch 2 8 0 d0 0 d1 64", make_disk("d0", 64), make_disk("d1", 128)
    )


async def test_data_lie_where_their_path_leads():
    device = await two()
    disks = list(device.underlying())
    text = bytes(pattern(64 * 512))
    await device.message(0, ["set_region_mappings", "0:1", ":1", ":0"])
    await write(device, 0, text)
    assert medium(disks[1], 64, 16 * 512) == text[: 16 * 512]
    assert medium(disks[0], 16, 8 * 512) == text[16 * 512 : 24 * 512]
    assert await read(device, 0, 64 * 512) == text


async def test_neighbours_with_the_same_path_are_one_span_until_a_message():
    device = await two()
    await device.message(0, ["set_region_mappings", "2:1"])
    span = device.span(20)
    assert (span.begin, span.end, span.ops) == (8, 32, {Op.READ, Op.WRITE})
    assert span.leaf is list(device.underlying())[1]
    await device.message(0, ["set_region_mappings", "1:0"])
    assert not span.is_current()
    assert (device.span(20).begin, device.span(20).end) == (16, 32)
    assert device.flush_span() is not None


def test_neighbours_are_looked_for_in_a_window():
    target = make("2 1 0 d0 0 d1 0", 4 * WINDOW)
    target.message(["set_region_mappings", "0:0", f"R1,{4 * WINDOW - 1:x}"])
    said = target.steady(WINDOW + 5)
    assert (said.begin, said.end) == (WINDOW, 2 * WINDOW)


async def test_of_one_path_all_is_one_span():
    device = await make_mapped("0 64 switch 1 8 0 d0 0", make_disk("d0", 64))
    assert (device.span(20).begin, device.span(20).end) == (0, 64)


@given(st.lists(st.integers(0, 2), min_size=8, max_size=8), st.integers(0, 63))
def test_what_is_said_of_a_sector_is_said_of_all_that_it_is_said_to_hold_for(chosen, sector):
    target = three()
    target.message(
        ["set_region_mappings", *(f"{index:x}:{path}" for index, path in enumerate(chosen))]
    )
    said = target.steady(sector)
    assert said.begin <= sector < said.end
    assert len({target.map(read_at(each)).device for each in range(said.begin, said.end)}) == 1
    assert all(target.steady(each) == said for each in range(said.begin, said.end))


async def test_status_says_nothing():
    device = await two()
    assert format_status(device.live) == "0 64 switch "


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("0 8 0", r"argument 1: paths: 0 is not in 1\.\."),
        ("1 0 0 d0 0", r"argument 2: region_size: 0 is not in 1\.\."),
        ("1 8 1 d0 0", r"argument 3: optional arguments: 1 is not in 0\.\.0"),
        ("2 8 0 d0 0", r"argument 1: paths 2: 4 words should follow, 2 do"),
        ("1 8 0 d9 0", r"argument 4: dev: no device is named 'd9'"),
        ("1 8 0 d0 x", r"argument 5: offset: 'x' is not a number"),
    ],
)
def test_bad_arguments_are_refused(words, text):
    with pytest.raises(TableError, match=f"^table line 1: switch: {text}"):
        make(words)


def test_more_regions_than_there_is_memory_for_are_refused(monkeypatch):
    assert striped.MAX_REGIONS == 1 << 27
    monkeypatch.setattr(striped, "MAX_REGIONS", 7)
    with pytest.raises(TableError, match="region_size 8: 8 regions, more than 7"):
        three()
