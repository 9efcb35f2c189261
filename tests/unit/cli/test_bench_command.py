"""The options of `fusedm bench`: what is refused before anything is started, in one line."""

import pytest

from fusedm.bench.record import to_json
from fusedm.cli.main import main
from tests.unit.bench.test_record import RECORD

FOR_RATIOS = (
    "--only, --disk-folder, --plot, --compare and --require-peers are for ratios: not with "
)


#: Two devices of ours and two of QEMU's, and a file system of each.
NO_ROOM = "--disk-folder /proc: 0B are free, 1GiB are needed"


def refused(capsys, *words, code=2):
    """The one line a command line is refused with."""
    with pytest.raises(SystemExit) as caught:
        main(["bench", *words])
    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (code, "")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("fusedm: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--rounds", "x"], "--rounds x: must be a whole number, at least 1"),
        (["--rounds", "0"], "--rounds 0: must be a whole number, at least 1"),
        (["--rounds", "2.5"], "--rounds 2.5: must be a whole number, at least 1"),
        (["--rounds", "4"], "--rounds 4: a result needs at least 5; "
         "with --quick fewer will do, for no result"),
        (["--seconds", "0"], "--seconds 0: must be a number, more than 0"),
        (["--seconds", "nan"], "--seconds nan: must be a number, more than 0"),
        (["--seconds", "inf"], "--seconds inf: must be a number, more than 0"),
        (["--minutes", "-1"], "--minutes -1: must be a number, more than 0"),
        (["--factor", "0.9"], "--factor 0.9: must be a number, at least 1"),
        (["--layers", "--memory"], "give either --layers or --memory"),
        (["--layers", "--only", "disk"], FOR_RATIOS + "--layers"),
        (["--layers", "--disk-folder", "/"], FOR_RATIOS + "--layers"),
        (["--memory", "--plot", "a.png"], FOR_RATIOS + "--memory"),
        (["--plot", "a.pdf"], "--plot a.pdf: must end in .png or .svg"),
    ],
)  # fmt: skip
def test_what_was_asked_for_wrongly_is_one_line(capsys, words, complaint):
    assert refused(capsys, *words) == complaint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--json", "/no/such/a.json"], "--json /no/such/a.json: cannot be written"),
        (["--compare", "/no/such"], "--compare /no/such: No such file or directory"),
        (["--folder", "/proc"], "--folder /proc: is on proc, not tmpfs: a medium would be measured "
         "and not the stacks; --any-medium does it all the same"),
        (["--disk-folder", "/proc"], "--disk-folder /proc: is on proc, not on a disk"),
        (["--disk-folder", "/no/such"], "--disk-folder /no/such: No such file or directory"),
        (["--disk-folder", "/proc", "--any-medium"], NO_ROOM),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used_are_one_line(capsys, words, complaint):
    assert refused(capsys, *words, code=1) == complaint


def test_a_pattern_of_nothing_is_refused_with_the_names(capsys):
    assert "is none of the 18 jobs" in refused(capsys, "--only", "nothing")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"{}"])
def test_a_file_to_compare_with_that_is_none_is_refused(capsys, tmp_path, content):
    (tmp_path / "old.json").write_bytes(content)
    said = refused(capsys, "--compare", str(tmp_path / "old.json"), code=1)
    assert said.startswith("--compare ")


def test_a_file_to_compare_with_is_read_before_the_run(capsys, tmp_path):
    (tmp_path / "old.json").write_text(to_json(RECORD))
    old = str(tmp_path / "old.json")
    assert refused(capsys, "--compare", old, "--only", "x").startswith("--only x: ")
