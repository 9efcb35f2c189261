"""What the README shows is what there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusedm import __version__
from fusedm.stack import check_stack

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "examples" / "stack.toml"


def block(language: str) -> str:
    """The only code block of a language in the README."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return text


def test_the_stack_file_is_the_example() -> None:
    assert block("toml") == EXAMPLE.read_text()


def test_the_example_can_be_brought_up() -> None:
    check_stack(EXAMPLE)


def test_the_python_runs(tmp_path: Path) -> None:
    key = tmp_path / "alice.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(64))
    (tmp_path / "stack.toml").write_text(EXAMPLE.read_text())
    program = block("python") + '\nprint("done")\n'
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_clone_named_fusedm_does_not_hide_the_package_from_a_script_beside_it(tmp_path: Path):
    (tmp_path / "fusedm").mkdir()
    program = "import fusedm.stack; print(fusedm.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("verb", re.findall(r"^\$ fusedm (\w+)", README, re.MULTILINE))
def test_every_verb_of_the_tour_exists(verb: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fusedm", verb, "--help"], capture_output=True, check=False
    )
    assert done.returncode == 0
