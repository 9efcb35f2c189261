"""What a killed daemon leaves: up clears what is provably its own and unused, down all of it."""

import os
import signal
import subprocess

import pytest

from fusedm.control import run_dir
from fusedm.host import loop, mounts
from fusedm.host.loop_finding import is_attached
from tests.helpers.cli import Place, place, refused, run, wait_until
from tests.helpers.tiers import left_behind

pytestmark = pytest.mark.fuse


@pytest.fixture
def here(tmp_path):
    """A place for a stack, where nothing is left when the test is over."""
    with place(tmp_path) as it:
        yield it
    assert left_behind(os.path.realpath(tmp_path)) == []


def kill_the_daemon(it: Place) -> None:
    """End the daemon so that it can undo nothing."""
    pid = it.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: it.pid() is None)


def test_up_clears_what_a_killed_daemon_has_left(here: Place):
    for _ in range(3):  # As a service manager restarts it.
        here.up()
        assert here.ok("dm", "list") == "data\n"
        kill_the_daemon(here)
    assert run("down", here.mount_point).stderr == f"cleared the stale mount {here.mount_point}\n"
    assert here.is_gone()


@pytest.mark.loop
def test_up_detaches_loop_devices_of_a_killed_daemon_that_nobody_uses(here: Place):
    here.up()
    node = here.ok("attach", "home").strip()
    device = loop.loop_device(node)
    assert device is not None
    kill_the_daemon(here)
    with open(node, "rb"):
        said = refused(1, "up", here.toml, here.mount_point)
        assert said.startswith(f"{node} is held by ")
        assert f"(pid {os.getpid()})" in said
        assert here.is_mounted()
    here.up()
    assert not is_attached(device)


def test_up_refuses_while_somebody_is_in_the_mount_of_a_killed_daemon(here: Place):
    here.up()
    with subprocess.Popen(["sleep", "60"], cwd=here.mount_point) as sleeper:
        kill_the_daemon(here)
        said = refused(1, "up", here.toml, here.mount_point)
        assert f"is busy: held by sleep (pid {sleeper.pid})" in said
        sleeper.kill()
    here.up()


def test_up_leaves_a_stale_mount_alone_that_no_record_tells_of(here: Place):
    here.up()
    pid = here.pid()
    assert pid is not None
    run_dir.forget(str(here.mount_point))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: mounts.is_stale(str(here.mount_point)))
    said = refused(1, "up", here.toml, here.mount_point)
    assert "is the stale mount of a killed daemon: clear it with: fusedm down" in said
    assert run("down", here.mount_point).stderr == f"cleared the stale mount {here.mount_point}\n"


def test_what_is_mounted_where_a_killed_daemon_was_is_left_alone(here: Place):
    here.up()
    kill_the_daemon(here)
    point = str(here.mount_point)
    mounts.unmount(point, lazy=True)
    mounts.run_tool("mount", "-t", "tmpfs", "other", point)
    try:
        said = refused(1, "up", here.toml, here.mount_point)
        assert said == f"{point} is already mounted: tmpfs from other"
    finally:
        mounts.unmount(point)
    here.up()
