"""Table text becomes a table or is refused with the line; a sector finds its target."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import Limits
from fusedm.block.errors import TableError
from fusedm.block.units import MAX_SECTORS
from fusedm.dm import (
    Table,
    TableEntry,
    check_table,
    format_status,
    format_table,
    parse_table,
    target_class,
    target_names,
)
from fusedm.dm.targets.zero import Zero
from fusedm.tables import layout
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 8192)
D1 = RecordingDevice("d1", 8192)
BIG_BLOCKS = RecordingDevice("k4", 8192, limits=Limits(logical_block_size=4096))
LOOKUP = lookup_in(D0, D1, BIG_BLOCKS)


def parse(text: str) -> Table:
    return parse_table(text, LOOKUP, lambda: 0.0)


def test_a_line_is_start_length_type_and_arguments():
    table = parse("0 100 linear d0 5\n100 20 zero")
    first, second = table.entries
    assert (first.start_sector, first.sector_count, first.end_sector) == (0, 100, 100)
    assert first.target == target_class("linear")(100, first.target.segment)
    assert (second.start_sector, second.target) == (100, Zero(20))
    assert table.sector_count == 120


def test_blank_lines_comments_and_leading_blanks_say_nothing():
    text = "\n# a comment\n   \n  # another\n\t 0 100   zero  \r\n\n100 1 zero"
    assert format_table(parse(text)) == "0 100 zero \n100 1 zero "


def test_an_error_names_the_line_of_the_text():
    with pytest.raises(
        TableError, match=r"^table line 4: zero: argument 1: 'x' is too much"
    ) as caught:
        parse("# one\n\n0 100 zero\n100 1 zero x")
    assert caught.value.line == 4


def test_a_backslash_takes_the_next_character_literally():
    odd = RecordingDevice("a b\\c", 100)
    table = parse_table(r"0 8 linear a\ b\\c 0", lookup_in(odd), lambda: 0.0)
    assert table.devices() == [odd]
    assert format_table(table) == r"0 8 linear a\ b\\c 0"


def test_a_backslash_at_the_end_is_itself():
    assert parse("0 8 error a\\").entries[0].target.params() == ["a\\"]


words = st.text(st.sampled_from("ab\\ \t#7"), min_size=1)


@given(st.lists(words, max_size=5).filter(lambda given: len(given) != 2))
def test_any_words_are_the_same_after_formatting_and_parsing(given):
    table = Table([TableEntry(0, 8, target_class("error")(8, given, []))])
    assert parse(format_table(table)).entries[0].target.params() == given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table: is empty: at least one line `start length type arguments`"),
        ("# only a comment", "table: is empty: at least one line `start length type arguments`"),
        ("0 8", "table line 1: '0 8' is not `start length type arguments`"),
        ("x 8 zero", "table line 1: zero: start: 'x' is not a number of sectors"),
        ("0 8x zero", "table line 1: zero: length: '8x' is not a number of sectors"),
        ("0 -8 zero", "table line 1: zero: length: '-8' is not a number of sectors"),
        ("5 8 zero", "table line 1: zero: start 5: the first target must start at 0"),
        (
            "0 8 zero\n9 8 zero",
            "table line 2: zero: start 9: leaves a gap of 1 sectors (512 bytes), "
            "the target before ends at 8",
        ),
        (
            "0 8 zero\n7 8 zero",
            "table line 2: zero: start 7: overlaps the target before, which ends at 8",
        ),
        (
            "0 8 zero\n0 8 zero",
            "table line 2: zero: start 0: overlaps the target before, which ends at 8",
        ),
        ("0 0 zero", "table line 1: zero: length 0: a target has at least 1 sector"),
        (
            f"0 8 zero\n8 {MAX_SECTORS} zero",
            f"table line 2: zero: length: 8 + {MAX_SECTORS} sectors "
            f"ends past {MAX_SECTORS} sectors",
        ),
        (
            "0 8 linaer d0 0",
            "table line 1: target type 'linaer' is unknown: linear may be meant",
        ),
        (
            "0 64 multipath 0 0",
            "table line 1: target type 'multipath' is unknown: use " + ", ".join(target_names()),
        ),
        (
            "0 64 era d0 d1 8",
            "table line 1: target type 'era' is unknown: use " + ", ".join(target_names()),
        ),
        (
            "0 8 linear d0 0 0",
            "table line 1: linear: argument 3: '0' is too much: it takes dev offset",
        ),
        (
            "0 8 linear d0",
            "table line 1: linear: argument 2: offset is missing: it takes dev offset",
        ),
        (
            "0 8192 linear d0 2048",
            "table line 1: linear: 2048 + 8192 sectors ends past d0 (8192 sectors)",
        ),
        (
            "0 8 zero\n8 9 linear k4 0\n",
            "table line 2: linear: length 9 is not a multiple of 8 sectors, "
            "the logical block size of 4096 bytes",
        ),
        (
            "0 9 zero\n9 8 linear k4 0\n",
            "table line 2: linear: start 9 is not a multiple of 8 sectors, "
            "the logical block size of 4096 bytes",
        ),
        (
            "0 8 linear k4 4",
            "table line 1: linear: offset into k4 4 is not a multiple of 8 sectors, "
            "the logical block size of 4096 bytes",
        ),
        (
            "0 24 striped 2 12 k4 0 k4 800",
            "table line 1: striped: largest I/O 12 is not a multiple of 8 sectors, "
            "the logical block size of 4096 bytes",
        ),
        (
            "0 8 linear k4 0\n8 9 zero",
            "table: length 17 is not a multiple of 8 sectors, the logical block size of 4096 bytes",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(text, message):
    with pytest.raises(TableError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert caught.value.errno == errno.EINVAL


def test_an_unknown_device_keeps_the_errno_of_the_lookup():
    with pytest.raises(
        TableError, match="table line 1: linear: .* no device is named 'd9'"
    ) as caught:
        parse("0 8 linear d9 0")
    assert caught.value.errno == errno.ENXIO


def test_the_largest_device_is_allowed():
    assert parse(f"0 {MAX_SECTORS} zero").sector_count == MAX_SECTORS


def test_a_range_may_end_where_the_device_does():
    assert parse("0 4096 linear d0 4096").sector_count == 4096


def test_targets_after_a_boundary_may_take_a_rest_of_a_block():
    assert parse("0 8 linear k4 0\n8 3 linear d0 0\n11 5 linear d0 3").sector_count == 16


def test_a_table_has_a_largest_number_of_targets(monkeypatch):
    monkeypatch.setattr(layout, "MAX_TABLE_TARGETS", 2)
    assert len(parse("0 1 zero\n1 1 zero").entries) == 2
    with pytest.raises(TableError, match=r"^table line 3: zero: a table of fusedm has at most 2"):
        parse("0 1 zero\n1 1 zero\n2 1 zero")


def test_a_device_that_has_shrunk_since_is_refused_when_checked_again():
    device = RecordingDevice("d0", 100)
    table = parse_table("0 100 linear d0 0", lookup_in(device), lambda: 0.0)
    check_table(table)
    device.sector_count = 99
    with pytest.raises(TableError, match=r"table line 1: linear: 0 \+ 100 .* d0 \(99 sectors\)"):
        check_table(table)


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_every_sector_finds_the_target_it_lies_in(lengths):
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    entries = [
        TableEntry(start, length, Zero(length))
        for start, length in zip(starts, lengths, strict=True)
    ]
    table = Table(entries)
    for entry in entries:
        for sector in range(entry.start_sector, entry.end_sector):
            assert table.find(sector) is entry


@pytest.mark.parametrize("sector", [-1, 8])
def test_a_sector_outside_is_a_bug(sector):
    with pytest.raises(AssertionError):
        parse("0 8 zero").find(sector)


@pytest.mark.parametrize("entries", [[], [TableEntry(1, 8, Zero(8))]])
def test_entries_that_do_not_follow_each_other_are_a_bug(entries):
    with pytest.raises(AssertionError):
        Table(entries)


def test_devices_are_listed_once_in_order():
    table = parse("0 8 linear d1 0\n8 8 striped 2 4 d0 0 d1 8\n16 8 zero")
    assert table.devices() == [D1, D0]


def test_a_line_without_arguments_ends_in_a_blank():
    assert format_table(parse("0 8 zero\n8 8 linear d0 0")) == "0 8 zero \n8 8 linear d0 0"


def test_status_is_one_line_for_each_target():
    table = parse("0 8 striped 2 4 d0 0 d1 0\n8 8 linear d0 8")
    assert format_status(table) == "0 8 striped 2 d0 d1 1 AA\n8 8 linear "


def test_each_entry_counts_for_itself():
    first, second = parse("0 8 zero\n8 8 zero").entries
    first.counts.native += 1
    assert (first.counts.native, second.counts.native) == (1, 0)


def test_a_device_is_called_what_the_namer_calls_it():
    table = parse("0 8 linear d0 0")
    assert format_table(table, lambda device: "253:4") == "0 8 linear 253:4 0"


def test_keys_are_shown_to_those_who_ask():
    table = parse("0 8 linear d0 0")
    assert format_table(table, show_keys=True) == format_table(table)
