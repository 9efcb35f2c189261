"""Texts of tables: what is refused before anybody is asked, and the concise form."""

import pytest

from fusedm.block.errors import UsageError
from fusedm.dmsetup.tables import (
    ConciseDevice,
    check_table_text,
    format_concise,
    split_concise,
)


def test_empty_lines_and_comments_are_left_out() -> None:
    text = "# a comment\n\n  0 8 zero\n8 8 error # another\n"
    assert check_table_text(text, "on stdin") == "0 8 zero\n8 8 error"


def test_numbers_are_passed_on_as_they_are() -> None:
    assert check_table_text("-1 99999999999999999999999 zero", "") == (
        "-1 99999999999999999999999 zero"
    )


def test_arguments_are_passed_on_as_they_are() -> None:
    assert check_table_text("0 8 linear  /dev/a\\ b  0", "") == "0 8 linear /dev/a\\ b  0"


@pytest.mark.parametrize(
    ("text", "source", "refusal"),
    [
        ("garbage", "", "Invalid format on line 1 of table ."),
        ("0 8 zero\nfoo", "on stdin", "Invalid format on line 2 of table on stdin."),
        ("0 100", "/tmp/t", "Invalid format on line 1 of table /tmp/t."),
        ("0x0 0x8 zero", "", "Invalid format on line 1 of table ."),
        ("0,8,zero", "", "Invalid format on line 1 of table ."),
        ("0 8 sixteen-letters-", "", "Target type name sixteen-letters- is too long."),
    ],
)
def test_a_line_that_cannot_be_is_named(text: str, source: str, refusal: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_table_text(text, source)
    assert str(refused.value) == refusal


def test_a_concise_list_has_several_devices() -> None:
    text = r"x1,,,ro,0 8 error;x2,U\,2,7,rw,0 8 zero,8 8 error;"
    assert list(split_concise(text)) == [
        ConciseDevice("x1", "", "", "ro", "0 8 error"),
        ConciseDevice("x2", "U,2", "7", "rw", "0 8 zero\n8 8 error"),
    ]


def test_a_concise_list_need_not_end_in_a_semicolon() -> None:
    assert [device.name for device in split_concise("a,,,,0 8 zero;b,,,,0 8 zero")] == ["a", "b"]


def test_an_empty_concise_list_has_none() -> None:
    assert list(split_concise("")) == []


def test_blanks_after_a_mark_say_nothing_and_all_others_belong_to_their_field() -> None:
    text = "\n a ,\n\t U ,\n 9 ,\nrw,\n0 8 zero,\n\t8 8 error\n;\n  b,,,ro,0 8 zero;\n"
    assert list(split_concise(text)) == [
        ConciseDevice("\n a ", "U ", "9 ", "rw", "0 8 zero\n8 8 error\n"),
        ConciseDevice("b", "", "", "ro", "0 8 zero"),
    ]


def test_a_backslash_keeps_a_blank_and_a_backslash() -> None:
    (device,) = split_concise("a,\\ u\\\\,,,0 8 zero")
    assert device == ConciseDevice("a", " u\\", "", "", "0 8 zero")


FIVE = "Five comma-separated fields are required for each device\n"
INCOMPLETE = "Incomplete entry: five comma-separated fields are required for each device\n"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (
            "x3",
            FIVE
            + "Parsed 1 fields: name: x3 uuid: (null) minor: (null) flags: (null) table: (null)",
        ),
        ("x3,,,rw", FIVE + "Parsed 4 fields: name: x3 uuid:  minor:  flags: rw table: (null)"),
        (
            "c4,,,ro;c5,,,,0 8 zero",
            FIVE + "Parsed 4 fields: name: c4 uuid:  minor:  flags: ro table: (null)",
        ),
        (
            ";",
            FIVE + "Parsed 1 fields: name:  uuid: (null) minor: (null) flags: (null) table: (null)",
        ),
        ("c8,,,", INCOMPLETE + "Parsed 4 fields: name: c8 uuid:  minor:  flags:  table: (null)"),
        ("c4,,,,", INCOMPLETE + "Parsed 5 fields: name: c4 uuid:  minor:  flags:  table: "),
        (
            "c4,,,ro,0 8 zero\\",
            "Backslash must be followed by another character at end of string.\n"
            "Parsed 5 fields: name: c4 uuid:  minor:  flags: ro table: 0 8 zero",
        ),
        (
            " ",
            FIVE
            + "Parsed 1 fields: name:   uuid: (null) minor: (null) flags: (null) table: (null)",
        ),
        (
            "c4,,,,0 8 zero,8 8 error,",
            INCOMPLETE
            + "Parsed 5 fields: name: c4 uuid:  minor:  flags:  table: 0 8 zero\n8 8 error\n",
        ),
    ],
)
def test_an_entry_with_too_few_fields_is_refused(text: str, refusal: str) -> None:
    with pytest.raises(UsageError) as refused:
        list(split_concise(text))
    assert str(refused.value) == refusal


def test_devices_before_a_wrong_one_are_told() -> None:
    devices = iter(split_concise("c1,,,,0 8 zero;bad"))
    assert next(iter(devices)).name == "c1"
    with pytest.raises(UsageError, match="Parsed 1 fields"):
        next(iter(devices))


def test_flags_say_whether_it_is_read_only() -> None:
    assert ConciseDevice("a", "", "", "ro", "").is_read_only
    assert not ConciseDevice("a", "", "", "", "").is_read_only
    with pytest.raises(UsageError, match="Invalid flags parameter 'xx' must be 'ro' or 'rw'"):
        _ = ConciseDevice("a", "", "", "xx", "").is_read_only
    with pytest.raises(UsageError, match="Invalid flags parameter 'ro ' must be 'ro' or 'rw'"):
        _ = ConciseDevice("a", "", "", "ro ", "").is_read_only


def test_a_device_is_written_concisely() -> None:
    assert format_concise("a", "", 3, False, ["0 8 zero ", "8 8 error "]) == (
        "a,,3,rw,0 8 zero ,8 8 error "
    )
    assert format_concise("a;b", "U,1", 3, True, []) == r"a\;b,U\,1,3,ro"
