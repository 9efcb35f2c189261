"""Options are read as getopt_long reads them, and refused in its words."""

import pytest

from fusedm.block.errors import UsageError
from fusedm.dmsetup.options import leading_number, read_options


def test_options_may_stand_anywhere() -> None:
    options = read_options(["create", "-r", "t1", "--table", "0 8 zero", "-v", "-v"])
    assert options.words == ["create", "t1"]
    assert options.values == {"table": "0 8 zero"}
    assert options.has("readonly")
    assert options.has("table")
    assert not options.has("force")
    assert options.verbosity == 2


def test_a_value_may_follow_its_letter_or_an_equals_sign() -> None:
    options = read_options(["-j253", "-m", "7", "--uuid=U", "-fyoname"])
    assert options.values == {"major": "253", "minor": "7", "uuid": "U", "options": "name"}
    assert options.flags == {"force", "yes"}
    assert options.number("minor") == 7
    assert options.number("uid") is None


def test_the_last_of_two_counts() -> None:
    assert read_options(["--table", "a", "--table", "b"]).values["table"] == "b"


def test_two_dashes_end_the_options() -> None:
    options = read_options(["info", "--", "-c", "--tree"])
    assert (options.words, options.flags) == (["info", "-c", "--tree"], set())


def test_a_lone_dash_is_a_word() -> None:
    assert read_options(["-"]).words == ["-"]


def test_a_long_option_may_be_cut_short() -> None:
    assert read_options(["--notab", "--tar", "zero"]).values == {"target": "zero"}


def test_of_options_that_begin_alike_the_whole_word_is_meant() -> None:
    assert read_options(["--group"]).flags == {"group"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--bogus", "dmsetup: unrecognized option '--bogus'"),
        ("-Z", "dmsetup: invalid option -- 'Z'"),
        ("-vx", "dmsetup: invalid option -- 'x'"),
        ("--force=x", "dmsetup: option '--force' doesn't allow an argument"),
        ("--target", "dmsetup: option '--target' requires an argument"),
        ("-o", "dmsetup: option requires an argument -- 'o'"),
        (
            "--ma",
            "dmsetup: option '--ma' is ambiguous; possibilities: '--manglename' '--major'",
        ),
        ("-M 999", "Invalid argument for --mode: 999. "),
        ("--manglename bad", "Unknown name mangling mode."),
        ("-j 253", "Please specify both major number and minor number."),
        ("-m 0", "Please specify both major number and minor number."),
        ("-n --table x", "--table and --notable are incompatible."),
    ],
)
def test_what_cannot_be_is_refused(words: str, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_options(words.split())
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("word", "number"), [("12", 12), ("12x", 12), ("x", 0), ("", 0), ("-5", -5), (" +7 ", 7)]
)
def test_a_number_is_what_a_word_begins_with(word: str, number: int) -> None:
    assert leading_number(word) == number
