"""Ctrl-C before a command has begun, while it runs, and at its end: an exit code, nothing said."""

import signal
import subprocess
import sys

import pytest

#: The command, interrupted by itself when Python comes to import a module.
INTERRUPTED_AT = """
import os, signal, sys
import fusedm.__main__
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
module, sys.argv = sys.argv[1], ["fusedm", *sys.argv[2:]]
fusedm.__main__.main()
"""


def run(*words: str) -> tuple[int, str]:
    """How a command ends, and what it says."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def run_interrupted_at(module: str, *words: str) -> tuple[int, str]:
    return run(sys.executable, "-c", INTERRUPTED_AT, module, *words)


@pytest.mark.parametrize("module", ["fusedm.cli", "click", "fusedm.cli.verbs"])
@pytest.mark.parametrize("words", [("doctor",), ("stack.toml", "mnt")])
def test_an_interrupt_while_it_is_loaded_just_ends_it(module, words):
    assert run_interrupted_at(module, *words) == (-signal.SIGINT, "")


def test_an_interrupt_while_dmsetup_is_loaded_just_ends_it():
    assert run_interrupted_at("fusedm.dmsetup.run", "dmsetup", "version") == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("fusedm.cli.running", ("doctor",)),
        ("fusedm.cli.stacks", ("stack.toml", "mnt")),
    ],
)
def test_an_interrupt_of_a_verb_is_130_and_nothing_said(module, words):
    assert run_interrupted_at(module, *words) == (130, "")


def test_an_interrupt_that_was_held_while_python_started_is_not_lost():
    held = ["env", "--block-signal=INT", "sh", "-c", 'kill -INT $$; exec "$@"', "sh"]
    assert run(*held, sys.executable, "-m", "fusedm", "--version") == (-signal.SIGINT, "")


def test_an_ignored_interrupt_stays_ignored():
    ignoring = ["env", "--ignore-signal=INT", sys.executable, "-c", INTERRUPTED_AT]
    code, said = run(*ignoring, "click", "--version")
    assert (code, said.startswith("fusedm, version")) == (0, True)
