"""fusedm table check: what it prints, and its exit codes."""

import io
import json

import pytest

from fusedm.cli.main import main

GOOD = "0 2048 linear 8:0 2048\n"
BAD = "0 2048 linear /dev/sda 2049s\n"
ODD = "0 2047 linear 8:0 0\n"


def check(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, what is printed, and what is said on stderr."""
    with pytest.raises(SystemExit) as caught:
        main(["table", "check", *words])
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Writes a table file in the working folder."""
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "t").write_text(text)


def test_a_table_in_order_says_nothing(capsys, table):
    table(GOOD)
    assert check(capsys, "t") == (0, "", "")


def test_what_is_wrong_is_marked_below_its_line(capsys, table):
    table(BAD)
    assert check(capsys, "t") == (
        1,
        "t:1:24: error: linear: offset: '2049s' is not a number of sectors "
        "(2049s is 2049 sectors)\n"
        "  0 2048 linear /dev/sda 2049s\n"
        "                         ^~~~~\n"
        "  the kernel: EINVAL at load\n",
        "",
    )


def test_a_warning_is_no_error_unless_asked_for(capsys, table):
    table(ODD)
    code, out, _ = check(capsys, "t")
    assert (code, out.split(":")[3]) == (0, " warning")
    assert check(capsys, "--werror", "t")[0] == 1


def test_standard_input_is_read(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(BAD))
    code, out, _ = check(capsys, "-")
    assert code == 1
    assert out.startswith("<stdin>:1:24: error:")


def test_an_explanation_comes_first(capsys, table):
    table(BAD)
    code, out, _ = check(capsys, "--explain", "t")
    assert code == 1
    assert out.startswith("line 1: linear: sectors 0..2048 of the device, 1 MiB from 0 bytes on\n")
    assert "t:1:24: error: " in out


def test_programs_get_json(capsys, table):
    table(BAD)
    code, out, _ = check(capsys, "--json", "t")
    told = json.loads(out)
    assert (code, told["file"], told["errors"], told["warnings"]) == (1, "t", 1, 0)
    assert told["findings"][0]["column"] == 24
    assert told["tables"][0]["lines"][0]["fields"][0]["word"] == "/dev/sda"


def test_options_say_what_the_text_does_not(capsys, table):
    table("0 1280 thin-pool a b 128 1")
    assert check(capsys, "t")[0] == 0
    assert check(capsys, "--readonly", "t")[0] == 1
    assert check(capsys, "--concise", "t")[0] == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nosuch"], 1, "fusedm: nosuch: No such file or directory\n"),
        (["binary"], 1, "fusedm: binary: byte 0 is not UTF-8\n"),
        ([], 2, "Missing argument 'FILE|-'"),
    ],
)
def test_what_cannot_be_read_is_one_line(capsys, table, tmp_path, words, code, text):
    (tmp_path / "binary").write_bytes(b"\xff")
    got, out, err = check(capsys, *words)
    assert (got, out) == (code, "")
    assert text in err
