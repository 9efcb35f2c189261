"""`fusedm run`: a stack that lives exactly as long as its command, whatever ends either."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.host.run_folder import run_folder
from tests.helpers.cli import PROGRAM, Place, ok, place, refused, run, wait_until
from tests.helpers.tiers import left_behind

pytestmark = pytest.mark.fuse

#: A command that says where its stack is and then waits; it has become the sleep, so it is killed.
SLEEP = ["sh", "-c", 'echo "$FUSEDM_MOUNT $$"; exec sleep 60']


@pytest.fixture
def here(tmp_path):
    """A place for a stack, where nothing is left when the test is over."""
    with place(tmp_path) as it:
        yield it
    wait_until(lambda: left_behind(os.path.realpath(tmp_path)) == [])


def nothing_is_left(mount_point: str) -> bool:
    """Whether a mount point is gone, and all that was mounted on it."""
    return left_behind(mount_point) == [] and not os.path.lexists(mount_point)


@contextmanager
def running(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A run of SLEEP: its process, its mount point and the pid of its command."""
    with subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        mount_point, pid = process.stdout.readline().split()
        try:
            yield process, mount_point, int(pid)
        finally:
            process.kill()
            wait_until(lambda: nothing_is_left(mount_point))


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_command_finds_its_stack_in_the_environment(here: Place):
    script = "import os, sys; print(*(os.environ[n] for n in sys.argv[1:]), sep='\\n')"
    names = ["MOUNT", "STACK", "DISK_UFS0", "DISK_PLAIN0", "MAPPER_DATA", "VIEW_HOME"]
    words = [sys.executable, "-c", script, *(f"FUSEDM_{name}" for name in names)]
    mount_point, stack, *paths = ok("run", here.toml, "--", *words).splitlines()
    assert mount_point == stack
    files = ["disks/ufs0", "disks/plain0", "mapper/data", "views/home"]
    assert paths == [f"{mount_point}/{file}" for file in files]
    assert nothing_is_left(mount_point)


def test_the_files_are_there_and_verbs_mean_this_stack(here: Place):
    script = 'set -e; stat -c %s "$FUSEDM_VIEW_HOME"; "$0" dm list; echo kept > "$FUSEDM_DISK_UFS0"'
    out = ok("run", here.toml, "sh", "-c", script, PROGRAM)
    assert out.split() == [str(4 << 20), "data"]
    assert (here.folder / "ufs0.img").read_bytes()[:5] == b"kept\n"


def test_standard_input_and_output_are_the_commands(here: Place):
    assert ok("run", here.toml, "--", "cat", stdin="through\n") == "through\n"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_the_exit_code_is_the_commands(here: Place, script, code):
    done = run("run", here.toml, "--", "sh", "-c", f'echo "$FUSEDM_MOUNT"; {script}')
    assert (done.returncode, done.stderr) == (code, "")
    assert nothing_is_left(done.stdout.strip())


def test_a_file_left_open_by_a_child_does_not_keep_the_stack(here: Place):
    script = 'exec 3< "$FUSEDM_VIEW_HOME"; sleep 60 > /dev/null 2>&1 & echo "$! $FUSEDM_MOUNT"'
    done = run("run", here.toml, "--", "sh", "-c", script)
    pid, mount_point = done.stdout.split()
    try:
        assert (done.returncode, done.stderr) == (0, "")
        assert not os.path.lexists(mount_point)
    finally:
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no-such-command"], "no-such-command: command not found"),
        (["/dev/null"], "/dev/null: Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run_is_exit_code_2(here: Place, words, text):
    before = set(run_folder().glob("run-*"))
    assert refused(2, "run", here.toml, "--", *words) == text
    assert set(run_folder().glob("run-*")) <= before


def test_a_stack_that_cannot_be_brought_up_runs_nothing(here: Place):
    (here.folder / "alice.key").unlink()
    before = set(run_folder().glob("run-*"))
    assert "No such file" in refused(1, "run", here.toml, "--", "touch", here.folder / "ran")
    assert not (here.folder / "ran").exists()
    assert set(run_folder().glob("run-*")) <= before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_handed_to_the_command(here: Place, number):
    with running(PROGRAM, "run", here.toml, "--", *SLEEP) as (process, mount_point, pid):
        process.send_signal(number)
        assert process.wait(20) == 128 + number
        assert not is_running(pid)
        assert nothing_is_left(mount_point)


def test_killing_the_run_ends_command_and_stack(here: Place):
    with running(PROGRAM, "run", here.toml, "--", *SLEEP) as (process, mount_point, pid):
        process.kill()
        process.wait()
        wait_until(lambda: not is_running(pid))
        wait_until(lambda: nothing_is_left(mount_point))


def test_the_death_of_its_parent_ends_a_run(here: Place):
    words = ["sh", "-c", '"$@" & wait', "sh", PROGRAM, "run", here.toml, "--", *SLEEP]
    with running(*words) as (parent, mount_point, pid):
        parent.kill()
        parent.wait()
        wait_until(lambda: not is_running(pid))
        wait_until(lambda: nothing_is_left(mount_point))


def test_a_signal_at_any_time_leaves_nothing(here: Place):
    before = set(run_folder().glob("run-*"))
    for step in range(8):
        for number in (signal.SIGTERM, signal.SIGINT):
            words = [PROGRAM, "run", str(here.toml), "--", "sleep", "60"]
            with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
                # The time is what varies: it falls before, into and after the bringing up.
                time.sleep(0.15 + step * 0.03)
                process.send_signal(number)
                assert process.wait(20) in (1, -number, 128 + number)
    wait_until(lambda: set(run_folder().glob("run-*")) <= before)
    assert [path.name for path in here.folder.iterdir() if path.is_mount()] == []
