"""A mapped device's limits and capabilities follow from its table."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import ALL_CAPABILITIES, NO_CAPABILITIES, Capabilities, Limits
from fusedm.block.capabilities import data_unit_sizes
from fusedm.dm import Table, parse_table, stack_capabilities, stack_limits, target_names
from tests.helpers.devices import RecordingDevice, lookup_in


def of(*sizes: int, max_dun_bytes: int = 8) -> Capabilities:
    return Capabilities.of({"AES-256-XTS": sizes}, max_dun_bytes)


FULL = RecordingDevice("full", 1 << 20, ALL_CAPABILITIES)
SMALL = RecordingDevice("small", 1 << 20, of(512, 4096))
LARGE = RecordingDevice("large", 1 << 20, of(4096, 8192, max_dun_bytes=4))
PLAIN = RecordingDevice("plain", 1 << 20)
UPPER = RecordingDevice("upper", 1 << 20, ALL_CAPABILITIES, below=[FULL])
BIG_BLOCKS = RecordingDevice("k4", 1 << 20, limits=Limits(4096, 8192, 12288, discard=False))
LOOKUP = lookup_in(FULL, SMALL, LARGE, PLAIN, UPPER, BIG_BLOCKS)


def parse(text: str) -> Table:
    return parse_table(text, LOOKUP, lambda: 0.0)


def capabilities(text: str) -> Capabilities:
    return stack_capabilities(parse(text))


def sizes_of(text: str) -> list[int]:
    return data_unit_sizes(capabilities(text).modes.get("AES-256-XTS", 0))


def test_capabilities_are_those_all_devices_share():
    assert capabilities("0 64 linear small 0\n64 64 linear large 0") == of(4096, max_dun_bytes=4)


def test_one_device_alone_gives_its_own():
    assert capabilities("0 64 linear small 0") == SMALL.capabilities


def test_a_device_without_capabilities_leaves_none():
    assert capabilities("0 64 linear small 0\n64 64 linear plain 0") == NO_CAPABILITIES


def test_a_target_that_does_not_pass_contexts_leaves_none():
    assert capabilities("0 64 linear small 0\n64 64 zero") == NO_CAPABILITIES
    assert capabilities("0 64 delay small 0 0") == NO_CAPABILITIES


def test_a_table_without_devices_has_none():
    assert capabilities("0 64 zero") == NO_CAPABILITIES


def test_the_start_of_a_target_may_not_cut_a_data_unit():
    assert sizes_of("0 64 linear full 0\n64 64 linear full 64") == [512 << n for n in range(7)]
    assert sizes_of("0 24 linear full 0\n24 64 linear full 64") == [512, 1024, 2048, 4096]
    assert sizes_of("0 1 linear full 0\n1 64 linear full 64") == [512]


def test_the_end_of_the_table_cuts_nothing():
    assert 65536 in sizes_of("0 129 linear full 0")


def test_a_chunk_may_not_cut_a_data_unit():
    assert sizes_of("0 96 striped 2 8 full 0 full 1000") == [512, 1024, 2048, 4096]
    assert sizes_of("0 96 striped 2 12 full 0 full 1000") == [512, 1024, 2048]


def test_an_offset_into_a_disk_cuts_nothing():
    assert 65536 in sizes_of("0 64 linear full 1")


def test_an_offset_shifts_the_splits_of_the_device_below():
    assert sizes_of("0 64 linear upper 8") == [512, 1024, 2048, 4096]


def split_points(table: Table) -> Iterator[int]:
    """Every sector at which a bio would be split, one by one."""
    for entry in table.entries:
        step = entry.target.max_io_sectors or entry.sector_count
        yield from range(entry.start_sector, entry.end_sector, step)


@st.composite
def tables(draw: st.DrawFn) -> str:
    lines, start = [], 0
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            length = draw(st.integers(1, 300))
            words = f"linear {draw(st.sampled_from(['full', 'upper']))} {start}"
        else:
            stripes, chunk = draw(st.integers(1, 3)), draw(st.integers(1, 130))
            length = stripes * chunk * draw(st.integers(1, 3))
            words = f"striped {stripes} {chunk}" + " full 0" * stripes
        lines.append(f"{start} {length} {words}")
        start += length
    return "\n".join(lines)


@given(tables())
def test_every_split_is_at_a_multiple_of_every_size_offered(text):
    table = parse(text)
    for mask in stack_capabilities(table).modes.values():
        for size in data_unit_sizes(mask):
            assert all(sector * 512 % size == 0 for sector in split_points(table))


@given(tables(), st.sampled_from([512, 4096]))
def test_a_table_aligned_to_a_size_offers_it(text, size):
    scaled = []
    for line in text.splitlines():
        # The second argument is an offset or a chunk: all three are lengths.
        start, length, kind, first, second, *rest = line.split()
        start, length, second = (str(int(word) * size // 512) for word in (start, length, second))
        scaled.append(" ".join([start, length, kind, first, second, *rest]))
    assert size in sizes_of("\n".join(scaled))


def test_limits_satisfy_every_device_and_every_target():
    table = parse("0 96 striped 3 8 full 0 full 100 full 200\n96 8 linear k4 0")
    assert stack_limits(table) == Limits(4096, 8192, 12288, discard=False)
    assert stack_limits(parse("0 96 striped 2 48 full 0 full 100")) == Limits(512, 24576, 49152)


def test_a_table_without_devices_has_the_default_limits():
    assert stack_limits(parse("0 8 zero")) == Limits(write_zeroes=False)


CRYPT = f"aes-xts-plain64 {bytes(range(1, 65)).hex()} 0"

#: Lines over `below`, and whether they take DISCARD: over what does, and over what does not.
DISCARDS = {
    "linear below 0": (True, False),
    "striped 2 8 below 0 below 64": (True, False),
    "unstriped 2 8 0 below 0": (False, False),
    "switch 2 8 0 below 0 below 64": (True, False),
    "ebs below 0 1": (True, False),
    "mirror core 1 8 2 below 0 full 0": (True, False),
    "raid raid1 2 0 nosync 2 - below - full": (True, False),
    "delay below 0 1": (True, False),
    "flakey below 0 1 1": (True, False),
    "dust below 0 512": (True, False),
    "zero": (True, True),
    "error": (True, True),
    "error below 0": (True, True),
    "log-writes below full": (True, True),
    "snapshot below full P 8": (False, False),
    "snapshot below full P 8 1 discard_zeroes_cow": (True, True),
    "snapshot-merge below full P 8": (False, False),
    "snapshot-merge below full P 8 1 discard_zeroes_cow": (True, True),
    "snapshot-origin below": (False, False),
    "thin-pool full below 128 0": (True, True),
    "thin below 0": (True, True),
    **{f"{name} {CRYPT} below 0": (False, False) for name in ("crypt", "inlinecrypt")},
    f"default-key {CRYPT} below 0": (False, False),
    **{f"{n} {CRYPT} below 0 1 allow_discards": (True, False) for n in ("crypt", "inlinecrypt")},
    f"default-key {CRYPT} below 0 1 allow_discards": (True, False),
}


def takes(line: str, below: Limits) -> Limits:
    lookup = lookup_in(RecordingDevice("below", 4096, limits=below), RecordingDevice("full", 4096))
    return stack_limits(parse_table(f"0 64 {line}", lookup, lambda: 0.0))


@pytest.mark.parametrize("line", DISCARDS)
def test_a_device_takes_discards_as_the_kernels_does(line: str):
    wanted = [takes(line, Limits(discard=below)).discard for below in (True, False)]
    assert tuple(wanted) == DISCARDS[line]


def test_every_target_is_known_to_take_discards_or_not():
    assert {line.split()[0] for line in DISCARDS} == set(target_names())


@pytest.mark.parametrize("line", DISCARDS)
def test_zeroes_without_data_go_through_what_only_moves_bios(line: str):
    moves = line.startswith(("linear", "striped"))
    wanted = [takes(line, Limits(write_zeroes=below)).write_zeroes for below in (True, False)]
    assert wanted == [moves, False]


def test_one_target_that_takes_no_discards_is_enough():
    mixed = f"0 64 linear full 0\n64 64 crypt {CRYPT} full 0"
    assert stack_limits(parse(mixed)).discard is False
