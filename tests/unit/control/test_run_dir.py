"""Lock files: who is running, who was killed, and whose folder it is."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.block.errors import ControlError
from fusedm.control import run_dir
from fusedm.control.run_dir import RunFile, forget, log_path, running_stacks, socket_path


def told(mount_point: str):
    """What is told of a stack; None if nothing is."""
    return next((s for s in running_stacks() if s.mount_point == mount_point), None)


def lock_file(mount_point: str) -> Path:
    return socket_path(mount_point).with_suffix(".json")


@pytest.fixture
def mount_point(tmp_path) -> Iterator[str]:
    """A mount point of which nothing is told afterwards."""
    yield str(tmp_path)
    forget(str(tmp_path))
    log_path(str(tmp_path)).unlink(missing_ok=True)


def test_a_running_stack_is_told_of(mount_point):
    run_file = RunFile(mount_point, "/s.toml")
    stack = told(mount_point)
    assert (stack.pid, stack.stack_file, stack.is_alive) == (os.getpid(), "/s.toml", True)
    assert lock_file(mount_point).stat().st_mode & 0o777 == 0o600
    run_file.release()
    assert told(mount_point) is None


def test_a_second_daemon_on_a_mount_point_is_refused(mount_point):
    run_file = RunFile(mount_point, "/s.toml")
    with pytest.raises(ControlError, match="another fusedm daemon is there already"):
        RunFile(mount_point, "/t.toml")
    assert told(mount_point).stack_file == "/s.toml"
    run_file.release()


def test_what_a_killed_daemon_left_is_told_of_and_taken_over(mount_point):
    killed = "import os, sys; from fusedm.control.run_dir import RunFile;"
    killed += "RunFile(sys.argv[1], '/s.toml'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, mount_point], check=False)
    assert not told(mount_point).is_alive
    run_file = RunFile(mount_point, "/t.toml")
    assert told(mount_point).is_alive
    run_file.release()


@contextmanager
def looking() -> Iterator[None]:
    """Another process that looks all the time, as `fusedm ls` does once."""
    code = "from fusedm.control.run_dir import running_stacks\nprint(flush=True)\n"
    code += "while True: list(running_stacks())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as looker:
        assert looker.stdout is not None
        looker.stdout.readline()
        try:
            yield
        finally:
            looker.kill()


def test_looking_does_not_keep_a_daemon_from_starting(mount_point):
    stack = {"mount_point": mount_point, "pid": 1, "stack_file": "/s.toml"}
    with looking():
        for _ in range(1000):
            lock_file(mount_point).write_text(json.dumps(stack))
            RunFile(mount_point, "/s.toml").release()


def test_two_that_look_at_once_both_see_that_a_daemon_is_dead(mount_point):
    stack = {"mount_point": mount_point, "pid": 1, "stack_file": "/s.toml"}
    lock_file(mount_point).write_text(json.dumps(stack))
    with looking():
        assert not any(told(mount_point).is_alive for _ in range(2000))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"pid": 1}', "\0" * 9])
def test_a_file_that_says_nothing_is_passed_over(mount_point, text):
    lock_file(mount_point).write_text(text)
    assert told(mount_point) is None
    list(running_stacks())


def test_forgetting_keeps_a_log_with_something_in_it(mount_point):
    log_path(mount_point).touch()
    forget(mount_point)
    assert not log_path(mount_point).exists()
    log_path(mount_point).write_text("died")
    forget(mount_point)
    assert log_path(mount_point).read_text() == "died"


def test_forgetting_what_is_not_there_is_no_error(mount_point):
    forget(mount_point)


def test_a_stack_is_found_in_every_folder_of_the_user_and_a_living_one_first(
    mount_point, monkeypatch, tmp_path
):
    folders = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(run_dir, "run_folders", lambda: folders)
    monkeypatch.setattr(run_dir, "run_folder", lambda: folders[1])
    run_file = RunFile(mount_point, "/two.toml")
    (folders[0] / lock_file(mount_point).name).write_text(
        json.dumps({"mount_point": mount_point, "pid": 1, "stack_file": "/killed.toml"})
    )
    monkeypatch.setattr(run_dir, "run_folder", lambda: folders[2])
    assert run_dir.stack_at(mount_point).stack_file == "/two.toml"
    assert run_dir.find_socket(mount_point).parent == folders[1]
    assert [stack.is_alive for stack in running_stacks()] == [False, True]
    run_file.release()
    assert not run_dir.stack_at(mount_point).is_alive
    forget(mount_point)
    assert run_dir.stack_at(mount_point) is None
    assert [list(folder.iterdir()) for folder in folders] == [[], [], []]


def test_what_is_in_a_folder_that_can_no_longer_be_written_to_is_found(mount_point, monkeypatch):
    run_file = RunFile(mount_point, "/s.toml")
    opened = os.open

    def open_read_only(path, flags, *rest):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, flags, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_read_only)
        assert told(mount_point).is_alive
    run_file.release()
