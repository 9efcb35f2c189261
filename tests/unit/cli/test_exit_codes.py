"""One table of exit codes for all verbs: 0 done, 1 refused or failed, 2 asked for wrongly.

Whatever depends on what is there (stacks, files, names, mount points) is 1; what is wrong with the
words themselves, or missing on this machine (programs, devices, rights), is 2.
"""

import click
import pytest

from fusedm.block.errors import FusedmError, StackError, UsageError
from fusedm.cli.main import cli, main
from fusedm.control import client
from fusedm.control.protocol import decode_reply, encode_error
from fusedm.control.run_dir import RunningStack

#: The words that each verb on a running stack needs.
WORDS = {
    "attach": "v",
    "detach": "v",
    "disk add": "n --store memory: --size 4KiB",
    "disk gain-engine": "d --engine ufs",
    "disk list": "",
    "disk lose-engine": "d",
    "disk lose-power": "d",
    "disk remove": "d",
    "disk reset-engine": "d",
    "disk show": "d",
    "dm add": "m --no-table",
    "dm clear": "m",
    "dm list": "",
    "dm load": "m --table 0",
    "dm message": "m 0 word",
    "dm remove": "m",
    "dm rename": "m n",
    "dm resume": "m",
    "dm show": "m",
    "dm status": "m",
    "dm suspend": "m",
    "dm table": "m",
    "dm wait": "m",
    "explain": "v 0 512",
    "key add": "k --source random",
    "key generate-wrapped": "d --out /no/such/file",
    "key import-wrapped": "d --source random --out /no/such/file",
    "key list": "",
    "key prepare": "d --source random --out /no/such/file",
    "key remove": "k",
    "key software-secret": "d --source random --out /no/such/file",
    "ls": "",
    "nbd": "--list",
    "luks close": "m",
    "luks open": "/no/such/file m --key-file /no/such/file",
    "save": "",
    "status": "",
    "verify": "v",
    "view add": "v --device d --key k",
    "view list": "",
    "view remove": "v",
    "view show": "v",
    "why": "v",
}
#: Of the others, the words with which they find something missing that is no program or device.
OTHERS = {
    "check": "/no/such/file",
    "demo": "--keep /no/such/folder",
    "down": "/no/such/place",
    "engines": "usf",
    "run": "/no/such/file true",
    "shim": "/dev/null/folder",
    "table check": "/no/such/file",
    "targets": "lineal",
    "up": "/no/such/file /no/such/folder",
    "bench": "--compare /no/such/file",
}
#: dmsetup has the exit codes of dmsetup(8), and doctor only looks.
NONE_OF_OURS = {"dmsetup", "doctor"}


def leaves(group, words=()):
    """Every verb, in groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def outcome(capsys, *words):
    """The exit code of a command line and the one line it says."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    said = capsys.readouterr()
    assert said.out == ""
    return caught.value.code, said.err


def test_every_verb_is_in_the_table():
    with_stack = {name for name, verb in leaves(cli) if "stack" in {p.name for p in verb.params}}
    assert with_stack == set(WORDS)
    assert {name for name, _ in leaves(cli)} == {*WORDS, *OTHERS, *NONE_OF_OURS}


@pytest.mark.parametrize("verb", [*WORDS, *OTHERS])
def test_an_option_that_is_none_is_2(capsys, verb):
    code, said = outcome(capsys, *verb.split(), "--no-such-option")
    assert (code, "--no-such-option" in said or "Missing" in said) == (2, True)


@pytest.mark.parametrize("verb", WORDS)
def test_a_stack_that_is_not_there_is_1(capsys, monkeypatch, verb):
    monkeypatch.setenv("FUSEDM_STACK", "/no/such/stack")
    code, said = outcome(capsys, *verb.split(), *WORDS[verb].split())
    assert (code, said.count("\n")) == (1, 1), said


@pytest.mark.parametrize("verb", OTHERS)
def test_a_file_or_name_that_is_not_there_is_1(capsys, verb):
    code, said = outcome(capsys, *verb.split(), *OTHERS[verb].split())
    assert code == 1, said
    assert said.startswith("fusedm: ")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_none_running_or_one_that_was_killed_is_1_and_several_are_2(capsys, monkeypatch, count):
    stacks = [RunningStack(f"/m{n}", 1, "/s.toml", is_alive=count == 2) for n in range(count)]
    monkeypatch.delenv("FUSEDM_STACK", raising=False)
    monkeypatch.setattr(client, "running_stacks", lambda: iter(stacks))
    code, said = outcome(capsys, "ls")
    assert code == (2 if count == 2 else 1)
    assert ("(that of /m0 was killed)" in said) == (count == 1)


@pytest.mark.parametrize("error", [UsageError("x", 2), StackError("x", 16), FusedmError("x", 22)])
def test_the_exit_code_is_the_same_whether_the_daemon_or_we_find_out(error):
    with pytest.raises(FusedmError) as told:
        decode_reply(encode_error(0, error))
    assert isinstance(told.value, UsageError) == isinstance(error, UsageError)
    assert (str(told.value), told.value.errno) == (str(error), error.errno)
