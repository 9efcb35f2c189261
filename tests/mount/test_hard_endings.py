"""Ends that something stands in the way of: a suspended device, a holder, a client that gave up."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from fusedm.block.errors import ControlError
from fusedm.control.client import Client
from fusedm.control.run_dir import socket_path
from fusedm.host.run_folder import run_folder
from tests.helpers.cli import PROGRAM, Place, place, refused, run, wait_until
from tests.helpers.load import connections, fio_running
from tests.helpers.mounted import END_SECONDS, USUAL, mounted_stack
from tests.helpers.tiers import left_behind

pytestmark = pytest.mark.fuse

TOML = """\
version = 1
[disks.d0]
size = "64MiB"
store = "memory:"
[mapper.data]
table = "0 131072 linear d0 0"
[mapper.slow]
table = "0 8 delay d0 0 3600000"
[mapper.over]
table = "0 8 linear slow 0"
"""


@pytest.fixture
def stack(tmp_path):
    """A stack that is up, of which nothing is left when the test is over."""
    with place(tmp_path, TOML) as it:
        it.up()
        yield it
    wait_until(lambda: left_behind(os.path.realpath(tmp_path)) == [])


def mounted_and_suspended(stack: Place) -> Path:
    """A file system with dirty data on a device that has then been suspended."""
    node = stack.ok("attach", "data").strip()
    subprocess.run(["mkfs.ext4", "-q", "-F", node], check=True)
    files = stack.folder / "files"
    files.mkdir()
    subprocess.run(["mount", node, str(files)], check=True)
    (files / "dirty").write_bytes(b"x" * 100_000)
    stack.ok("dm", "suspend", "data")
    return files


@pytest.mark.loop
def test_forcing_it_down_resumes_what_is_suspended(stack: Place):
    files = mounted_and_suspended(stack)
    assert run("down", stack.mount_point, "--force").returncode == 0
    assert not os.path.ismount(files)
    assert stack.is_gone()


@pytest.mark.loop
def test_a_signal_resumes_what_is_suspended(stack: Place):
    mounted_and_suspended(stack)
    pid = stack.pid()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(stack.is_gone)


@pytest.mark.loop
def test_forcing_it_down_ends_the_daemon_although_a_loop_device_is_held(stack: Place):
    node = stack.ok("attach", "data").strip()
    with open(node, "rb"):
        said = refused(1, "down", stack.mount_point, "--force")
        assert said.startswith(f"{node} is held by ")
        assert stack.is_gone()


@pytest.mark.loop
def test_a_refused_down_has_detached_nothing(stack: Place):
    node = stack.ok("attach", "data").strip()
    with open(stack.mount_point / "disks/d0", "rb"):
        assert "is held by" in stack.refused(1, "down", stack.mount_point)
        assert os.path.exists(f"/sys/block/{os.path.basename(node)}/loop/backing_file")
    assert run("down", stack.mount_point).returncode == 0


@pytest.mark.alone
@pytest.mark.loop
def test_a_held_loop_device_leaves_the_exit_code_of_a_run(tmp_path: Path):
    logs = set(run_folder().glob("*.log"))
    with place(tmp_path, TOML) as here:
        script = f"n=$({PROGRAM} attach data); sleep 3 <$n & exit 7"
        done = run("run", here.toml, "--", "sh", "-c", script)
        assert done.returncode == 7
        assert "is held by sleep" in done.stderr
        assert "Traceback" not in done.stderr
        assert set(run_folder().glob("*.log")) == logs


def test_a_suspend_that_was_given_up_is_undone(stack: Place):
    with subprocess.Popen(
        [
            "dd",
            "if=/dev/zero",
            f"of={stack.mount_point}/mapper/over",
            "bs=512",
            "count=1",
            "conv=notrunc",
        ],
        stderr=subprocess.DEVNULL,
    ) as writer:
        wait_until(lambda: stack.call("status")["in_flight"])
        client = Client(str(stack.mount_point))
        client.send("dm.suspend", name="over")
        wait_until(lambda: stack.call("dm.show", name="over")["suspending"])
        client.close()
        wait_until(lambda: not stack.call("dm.show", name="over")["suspending"])
        stack.ok("dm", "resume", "over")
        stack.ok("dm", "suspend", "slow")
        stack.ok("dm", "resume", "slow")
        assert writer.wait(10) == 0


def test_an_inherited_descriptor_is_not_kept(tmp_path: Path):
    reader, writer = os.pipe()
    with place(tmp_path, TOML) as here:
        subprocess.run([PROGRAM, "up", here.toml, here.mount_point], pass_fds=(writer,), check=True)
        os.close(writer)
        assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_key_may_come_from_standard_input(tmp_path: Path):
    keys = '[keys.k]\nmode = "AES-256-XTS"\ndata_unit_size = 512\ndun_bytes = 8\nsource = "fd:0"\n'
    with place(tmp_path, TOML + keys) as here:
        subprocess.run(
            [PROGRAM, "up", here.toml, here.mount_point], input=os.urandom(64), check=True
        )
        assert [key["name"] for key in here.call("key.list")] == ["k"]


def test_a_daemon_whose_socket_is_gone_is_ended_by_force(stack: Place):
    socket_path(str(stack.mount_point)).unlink()
    with pytest.raises(ControlError):
        stack.call("ls")
    assert "no fusedm daemon can be reached" in refused(1, "down", stack.mount_point)
    assert run("down", stack.mount_point, "--force").returncode == 0
    assert stack.is_gone()


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts fusectl")
@pytest.mark.parametrize("store", ["memory:", "file:ufs0.img"])
def test_a_connection_aborted_under_load_ends_the_daemon_without_a_word(
    tmp_path: Path, store: str
) -> None:
    with (
        mounted_stack(USUAL.replace("memory:", store, 1), tmp_path) as mounted,
        connections(tmp_path / "control") as control,
        fio_running(mounted.view("home")) as fio,
    ):
        number = os.minor(mounted.mount_point.stat().st_dev)
        (control / str(number) / "abort").write_text("1")
        assert mounted.process.wait(END_SECONDS) == 0
        assert fio.wait(20) != 0
