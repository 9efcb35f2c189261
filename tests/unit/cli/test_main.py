"""The command line without a stack: help, exit codes, and which stack a verb means."""

import contextlib
import os
import subprocess
import sys
import tempfile

import click
import pytest

from fusedm.cli.main import VERBS, cli, main
from fusedm.control.run_dir import RunFile
from fusedm.crypto import ENGINE_PROFILES
from fusedm.dm import target_doc, target_names
from fusedm.host.doctor import examine

NOBODY = 65534
SETTINGS = cli.context_settings


def commands(group, words=()):
    """Every command with its words, those in groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def exit_of(capsys, *words):
    """The exit code of a command line, and what it said on standard error."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    said = capsys.readouterr()
    return caught.value.code, said.err


@pytest.mark.parametrize(
    "command", [pytest.param(command, id=" ".join(words)) for words, command in commands(cli)]
)
def test_every_command_and_option_is_documented_with_its_exit_codes(command):
    text = command.get_help(click.Context(command, parent=click.Context(cli, **SETTINGS)))
    assert "Exit codes: " in " ".join(text.split())
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("name", VERBS)
def test_the_line_of_a_verb_in_the_list_is_how_the_verb_describes_itself(name):
    command = cli.get_command(click.Context(cli), name)
    assert VERBS[name].summary == command.get_short_help_str(limit=200)
    assert command.name == name


#: What takes long to load, and what only the daemon's side needs.
HEAVY = ("trio", "pyfuse3", "cryptography", "matplotlib", "fusedm.crypto", "fusedm.stack")


@pytest.mark.parametrize(
    "words",
    ["--help", "ls -h", "status -h", "down -h", "dm table -h", "disk add -h", "view add -h"],
)
def test_what_only_talks_to_a_daemon_loads_nothing_that_a_daemon_runs_on(words):
    code = (
        "import atexit, sys\n"
        f"loaded = lambda: print(*({set(HEAVY)!r} & sys.modules.keys()), file=sys.stderr)\n"
        "atexit.register(loaded)\n"
        "from fusedm.cli import main\n"
        f"main({words.split()!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == "\n"


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["disk", "add", "-h"], ["--version"]])
def test_help_and_version_are_no_error(capsys, words):
    assert exit_of(capsys, *words) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["up"],
        ["up", "s.toml", "/mnt", "--colour"],
        ["upp", "s.toml", "--foreground"],
        ["down"],
        ["down", "/mnt", "--all"],
        ["disk", "add", "d"],
        ["dm", "add", "d", "--stack"],
        ["disk", "lose-power", "d", "--keep", "half"],
        ["s.toml", "/mnt", "-o", "colour=red"],
        ["key", "add", "k"],
        ["run", "s.toml"],
    ],
)
def test_what_is_asked_for_wrongly_is_exit_code_2(capsys, words):
    code, said = exit_of(capsys, *words)
    assert code == 2
    assert said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["targets", "lineal"], "lineal"),
        (["engines", "usf"], "profile 'usf' is no engine, did you mean 'ufs'?"),
        (["check", "/no/such/stack.toml"], "/no/such/stack.toml: cannot be read: No such file"),
        (["up", "/no/such/stack.toml", "/mnt"], "cannot be read"),
        (["/no/such/stack.toml", "/mnt"], "cannot be read"),
        (["ls", "--stack", "/no/such"], "/no/such: no fusedm daemon can be reached there"),
    ],
)
def test_what_is_refused_is_exit_code_1_and_one_line(capsys, words, text):
    code, said = exit_of(capsys, *words)
    assert code == 1
    assert said.startswith("fusedm: ")
    assert text in said
    assert said.count("\n") == 1


def test_targets_are_listed_and_their_pages_printed(capsys):
    with contextlib.suppress(SystemExit):
        main(["targets"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(target_names())
    with contextlib.suppress(SystemExit):
        main(["targets", "linear"])
    assert capsys.readouterr().out == target_doc("linear")


def test_engines_are_listed_and_their_numbers_printed(capsys):
    with contextlib.suppress(SystemExit):
        main(["engines"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *ENGINE_PROFILES]
    with contextlib.suppress(SystemExit):
        main(["engines", "exynos-fmp"])
    told = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert (told["keyslots"], told["max_dun_bytes"]) == ("0", "16")
    assert (told["key_types"], told["modes.AES-256-XTS"]) == ("raw", "4096")
    assert told["resembles"].startswith("Exynos FMP")


def test_doctor_has_a_line_for_each_thing_it_looks_at(capsys):
    with contextlib.suppress(SystemExit):
        main(["doctor"])
    marks = [line[:4] for line in capsys.readouterr().out.splitlines() if line[:4].strip()]
    assert len(marks) == len(examine())
    assert set(marks) <= {"ok  ", "MISS", "note"}


@pytest.fixture
def alone(monkeypatch):
    """A user with a folder of running stacks of his own, so that no other is seen."""
    monkeypatch.delenv("FUSEDM_STACK", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED: it becomes another user")


@needs_root
@pytest.mark.usefixtures("alone")
def test_without_a_stack_running_a_verb_does_not_know_which(capsys):
    code, said = exit_of(capsys, "ls")
    assert (code, "no stack is running: start one with" in said) == (1, True)


@needs_root
@pytest.mark.usefixtures("alone")
def test_the_only_stack_running_is_meant(capsys):
    one = RunFile("/no/one", "/s.toml")
    code, said = exit_of(capsys, "ls")
    one.release()
    assert (code, "/no/one: no fusedm daemon can be reached" in said) == (1, True)


@needs_root
@pytest.mark.usefixtures("alone")
def test_of_several_stacks_one_must_be_chosen(capsys, monkeypatch):
    both = [RunFile("/no/one", "/s.toml"), RunFile("/no/two", "/s.toml")]
    code, said = exit_of(capsys, "ls")
    assert code == 2
    assert "several stacks are running, choose with --stack: /no/" in said
    assert "/no/one" in said
    assert "/no/two" in said
    monkeypatch.setenv("FUSEDM_STACK", "/no/two")
    assert "/no/two: no fusedm daemon" in exit_of(capsys, "ls")[1]
    assert "/no/one: no fusedm daemon" in exit_of(capsys, "ls", "--stack", "/no/one")[1]
    for each in both:
        each.release()
