"""`fusedm demo` for real: whole, and interrupted at every step."""

import os
import re
import signal
import subprocess
import sys

import pytest

from fusedm.bench import FIO_JOBS
from tests.helpers.cli import PROGRAM, refused
from tests.helpers.tiers import left_behind

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

#: The demo with less to copy and to measure.
SMALL = """
from fusedm.cli import demo_files, demo_fio
from fusedm.cli import main
demo_files.MIN_TREE_BYTES, demo_files.MAX_TREE_BYTES = 1 << 18, 1 << 19
demo_fio.RUN_SECONDS = 1
main(["demo"])
"""


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch, tmp_path):
    """Where demos are at work is this test's own, and empty in the end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    left = [str(folder) for folder in tmp_path.glob("fusedm-demo-*")]
    assert left == [], list(map(left_behind, left))


def test_the_demo_shows_its_five_steps_and_leaves_nothing():
    done = subprocess.run([PROGRAM, "demo"], capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^== (\d)\.", done.stdout, re.MULTILINE) == list("12345")
    for text in (
        "daemon",
        "every SHA-256 is the same",
        "clean",
        "known plaintext: at byte",
        "known plaintext: nowhere on disks/ufs0",
        "known plaintext: nowhere on disks/plain0",
        "disks/plain0 at byte",
        "alone, the same 4096 bytes as views/home",
        "(through the engine's keyslots)",
        "(by the leaf's fallback)",
        *(job.title for job in FIO_JOBS),
        "conditions: ",
    ):
        assert text in done.stdout
    assert done.stdout.endswith("everything worked, and nothing is left.\n")


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("1", signal.SIGINT),
        ("2", signal.SIGINT),
        ("2", signal.SIGTERM),
        ("3", signal.SIGINT),
        ("4", signal.SIGINT),
    ],
)
def test_an_interrupted_demo_leaves_nothing(step, number):
    command = [sys.executable, "-c", SMALL]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        out = ""
        while not out.rpartition("\n== ")[2].startswith(f"{step}."):
            line = demo.stdout.readline()
            assert line, out + demo.stderr.read()
            out += line
        # As a terminal does: to the demo and to the tools it has started.
        os.killpg(demo.pid, number)
        out, errors = out + demo.stdout.read(), demo.stderr.read()
    assert demo.returncode == 1, errors
    assert "Traceback" not in errors
    assert errors == "fusedm: the demo was interrupted\n"
    assert "== 5. tearing down" in out
    assert "nothing is left" not in out


def test_an_interrupt_does_not_stop_the_teardown_and_what_is_to_be_kept_is(tmp_path):
    folder = tmp_path / "kept"
    code = SMALL.replace('["demo"]', f'["demo", "--keep", {str(folder)!r}]')
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        while "== 5." not in (line := demo.stdout.readline()):
            assert line
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.stdout.read().endswith("everything worked, and nothing is left.\n")
    assert demo.returncode == 0
    assert {path.name for path in folder.iterdir()} >= {"stack.toml", "alice.key", "ufs0.img"}
    assert list((folder / "mnt").iterdir()) == []
    assert refused(1, "demo", "--keep", folder) == f"--keep {folder}: File exists"
