"""raid: what its lines say. Arrays at work are in tests/unit/dm/raid."""

import pytest

from fusedm.block.errors import TableError
from fusedm.dm import Table, format_table, parse_table
from fusedm.dm.raid.array import Options
from fusedm.dm.targets.raid import Raid
from tests.helpers.builders import make_disk, make_key, make_mapped
from tests.helpers.devices import RecordingDevice, lookup_in
from tests.helpers.strict import make_system

DISKS = [RecordingDevice(name, 4096) for name in ("d0", "d1", "d2", "m0", "m1", "m2")]
PARAMETERS = (
    "rebuild 1 daemon_sleep 1000 min_recovery_rate 10 max_recovery_rate 100 write_mostly 1 "
    "max_write_behind 512 region_size 64"
)


def parse(words: str, length: int = 1024) -> Table:
    return parse_table(f"0 {length} raid {words}", lookup_in(*DISKS), lambda: 0.0)


def target(words: str, length: int = 1024) -> Raid:
    found = parse(words, length).entries[0].target
    assert isinstance(found, Raid)
    return found


def test_every_parameter_is_taken():
    found = target(f"raid1 16 0 nosync {PARAMETERS} 2 m0 d0 m1 d1")
    assert found.options == Options(
        rebuild=frozenset({1}),
        nosync=True,
        region_sectors=64,
        daemon_sleep_ms=1000,
        write_behind=256,
        min_rate=10,
        max_rate=100,
    )
    assert [member.is_write_mostly for member in found.array.members] == [False, True]


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("raid1 1 0 2 m0 d0 m1 d1", ""),
        ("raid1 1 8 2 m0 d0 m1 d1", "raid1 1 0 2 m0 d0 m1 d1"),
        (f"raid1 16 0 nosync {PARAMETERS} 2 m0 d0 m1 d1", ""),
        ("raid1 5 0 region_size 64 rebuild 0 2 - d0 - d1", "rebuild 0 region_size 64"),
        ("raid1 5 0 rebuild 2 rebuild 0 3 - d0 - d1 - d2", "rebuild 0 rebuild 2"),
        ("raid1 2 0 sync 3 m0 d0 - - m2 d2", ""),
        ("raid0 1 64 2 - d0 - d1", ""),
        ("raid10 5 64 raid10_format near raid10_copies 2 2 - d0 - d1", "raid10_copies 2 raid10_"),
        ("raid10_near 1 64 2 - d0 - d1", ""),
    ],
)
def test_a_table_is_printed_in_the_kernels_order(given, printed):
    text = format_table(parse(given))
    assert printed in text
    if not printed:
        assert text == f"0 1024 raid {given}"
    again = parse_table(text, lookup_in(*DISKS), lambda: 0.0)
    assert format_table(again) == text
    assert again.entries[0].target == parse(given).entries[0].target


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("raid0 1 64 3 - d0 - d1 - d2", "length 1024: does not divide evenly"),
        ("raid0 1 1024 2 - d0 - d1", "takes 512 sectors of each device, which are no whole chunks"),
        ("raid10 3 8 raid10_copies 3 2 - d0 - d1", "raid10_copies 3: is not in 2..2"),
        ("raid10_far 1 8 2 - d0 - d1", "its layout far is run by the kernel only"),
        ("raid10 3 8 raid10_format offset 2 - d0 - d1", "its layout offset is run by the kernel"),
        ("raid1 3 0 delta_disks 1 2 - d0 - d1", "delta_disks: is run by the kernel only"),
        ("raid1 3 0 data_offset 8 2 - d0 - d1", "data_offset: is run by the kernel only"),
        ("raid1 1 0 2 m0 - m1 d1", "is given for a data device that is missing"),
    ],
)
def test_what_is_not_done_is_refused(words, text):
    with pytest.raises(TableError, match=text):
        parse(words)


def test_a_data_offset_of_0_is_no_offset():
    assert parse("raid1 3 0 data_offset 0 2 - d0 - d1")


def test_data_devices_that_are_too_small_are_refused():
    with pytest.raises(TableError, match="data: d0 has 4096 sectors, 8192 are used"):
        parse("raid1 1 0 2 - d0 - d1", 8192)


def test_an_array_of_one_device_is_one():
    assert parse("raid1 1 0 1 m0 d0")
    assert parse("raid0 1 64 1 - d0")


def test_all_devices_are_told():
    found = target("raid1 1 0 3 m0 d0 - - m2 d2")
    assert [part.device.name for part in found.devices()] == ["d0", "d2"]
    assert [device.name for device in found.own_devices()] == ["m0", "m2"]


def test_chunks_are_the_preferred_size():
    assert target("raid0 1 64 2 - d0 - d1").limits().io_min_bytes == 64 * 512
    assert target("raid1 1 0 2 - d0 - d1").limits().io_min_bytes == 512


@pytest.mark.parametrize(("words", "are_passed"), [("raid0 1 8", True), ("raid1 1 0", True)])
async def test_contexts_pass_but_in_strict_mode(words, are_passed):
    config = make_key().config
    disks = [make_disk(name, 1024, slots=2) for name in ("d0", "d1")]
    device = await make_mapped(f"0 1024 raid {words} 2 - d0 - d1", *disks)
    assert device.capabilities.supports(config) is are_passed
    strict = await make_system(x=f"0 1024 raid {words} 2 - rich - less")
    assert not strict.mapped_device("x").capabilities.supports(config)
