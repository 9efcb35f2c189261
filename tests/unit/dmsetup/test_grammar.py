"""What a command line asks for, and when the usage text is the answer."""

import pytest

from fusedm.block.errors import UsageError
from fusedm.dmsetup.grammar import Help, read_call, usage_text


def test_a_verb_and_its_words() -> None:
    call = read_call(["info", "-c", "t1", "t2"])
    assert (call.verb, call.words, call.help) == ("info", ("t1", "t2"), Help.NO)
    assert call.has_columns


@pytest.mark.parametrize(
    ("words", "help", "complaint"),
    [
        ("", Help.WRONG, ""),
        ("-f", Help.WRONG, ""),
        ("help", Help.ASKED, ""),
        ("--help foo", Help.ASKED, ""),
        ("-h", Help.ASKED, ""),
        ("help create", Help.WRONG, "Incorrect number of arguments."),
        ("bogus", Help.WRONG, "Unknown command."),
        ("bogus -o foo", Help.WRONG, "Unknown command."),
        ("create a b c", Help.WRONG, "Incorrect number of arguments."),
        ("rename", Help.WRONG, "Incorrect number of arguments."),
        ("message a", Help.WRONG, "Incorrect number of arguments."),
        ("ls a", Help.WRONG, "Incorrect number of arguments."),
        ("target-version", Help.WRONG, "Incorrect number of arguments."),
    ],
)
def test_usage_is_shown_for(words: str, help: Help, complaint: str) -> None:
    call = read_call(words.split())
    assert (call.help, call.complaint) == (help, complaint)


def test_the_version_may_be_asked_for_by_an_option() -> None:
    assert read_call(["--version"]).verb == "version"


def test_names_are_reported_in_columns_without_being_told() -> None:
    assert read_call(["splitname", "vg-lv", "-o", "lv_name"]).has_columns


def test_options_of_lists_are_split_at_commas() -> None:
    assert read_call(["deps", "-o", "devno,devname"]).listed == ["devno", "devname"]
    assert read_call(["deps"]).listed == []
    assert read_call(["ls", "--tree", "-o", "utf,rw"]).listed == ["utf", "rw"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("deps -o foo", "Option not recognised: foo."),
        ("info -o name", "Option not recognised: name."),
        ("remove_all -o foo", "Option not recognised: foo."),
        ("ls --tree -o devname", "Tree options not recognised: devname."),
        (
            "ls --tree -o inverted,foo,compact",
            "Tree options not recognised: foo,compact.",
        ),
    ],
)
def test_unknown_options_of_lists_are_refused(words: str, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_call(words.split())
    assert str(refused.value) == text


def test_usage_has_a_line_for_every_verb() -> None:
    text = usage_text()
    assert text.startswith("Usage:\n\ndmsetup\n        [--version]")
    assert "\n\tcreate <dev_name>\n\t    [-j|--major <major> -m|--minor <minor>]\n" in text
    assert "\n\tudevcookies \n\ttarget-version [<target>...]\n\ttargets \n\tversion \n" in text
    assert text.endswith("\n\n")
