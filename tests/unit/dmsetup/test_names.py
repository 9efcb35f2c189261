"""Names as /dev has them, and as people do."""

import pytest

from fusedm.block.errors import UsageError
from fusedm.dmsetup.names import (
    check_length,
    check_new_name,
    check_renamed,
    check_uuid,
    mangle,
    split_lvm_name,
    unmangle,
)


@pytest.mark.parametrize(
    ("name", "mangled"),
    [("a b", r"a\x20b"), ("x&y", r"x\x26y"), ("a-b_c.d:e=f@g#h+i", "a-b_c.d:e=f@g#h+i")],
)
def test_what_dev_would_not_take_is_escaped(name: str, mangled: str) -> None:
    assert mangle(name) == mangled
    assert unmangle(mangled) == name


def test_a_name_of_more_bytes_comes_back() -> None:
    assert mangle("ä") == r"\xc3\xa4"
    assert unmangle(r"\xc3\xa4") == "ä"


def test_a_name_that_is_escaped_already_is_left_alone_but_for_hex() -> None:
    assert mangle(r"a\x20b") == r"a\x20b"
    assert mangle(r"a\x20b", "hex") == r"a\x5cx20b"


def test_nothing_is_escaped_where_that_is_asked_for() -> None:
    assert mangle("a b", "none") == "a b"
    assert unmangle(r"a\x20b", "none") == r"a\x20b"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vg-lv", ("vg", "lv", "")),
        ("vg--a-lv--b-real", ("vg-a", "lv-b", "real")),
        ("vg", ("vg", "", "")),
        ("a-b-c-d", ("a", "b", "c-d")),
        ("a---b", ("a-", "b", "")),
    ],
)
def test_a_single_dash_parts_names_of_lvm(name: str, parts: tuple[str, str, str]) -> None:
    assert split_lvm_name(name) == parts


LONG = "a" * 128


def test_names_that_cannot_be_are_refused_in_the_words_of_dmsetup() -> None:
    refusals = [
        (lambda: check_new_name("a/b"), 'Name "a/b" invalid. It contains "/".'),
        (lambda: check_new_name(LONG), f'Name "{LONG}" too long.'),
        (lambda: check_length(LONG), f'Name "{LONG}" too long.'),
        (lambda: check_renamed(LONG, False), f'Name "{LONG}" too long'),
        (lambda: check_renamed(LONG + "a", True), f'Uuid "{LONG}a" too long'),
        (lambda: check_renamed("", False), "Non empty new name is required."),
        (lambda: check_renamed("a/b", False), 'Name "a/b" invalid. It contains "/".'),
        (
            lambda: check_uuid(LONG + "a"),
            f'Mangled form of the UUID too long for "{LONG}a".\n'
            f'Failed to mangle device uuid "{LONG}a".',
        ),
    ]
    for refuse, text in refusals:
        with pytest.raises(UsageError) as refused:
            refuse()
        assert str(refused.value) == text


def test_names_that_can_be_pass() -> None:
    check_new_name("t1")
    check_renamed("t1", False)
    check_renamed("U/1", True)
    check_uuid("U-1")
