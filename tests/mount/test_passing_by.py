"""Who has a loop device open for a moment only does not keep it from going."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from fusedm.block.errors import StackError
from fusedm.host import loop, loop_users, mounts
from fusedm.host.loop_control import is_being_cleared
from fusedm.host.loop_finding import LoopDevice, is_attached
from tests.helpers.cli import place, wait_until
from tests.helpers.mounted import MIB
from tests.helpers.namespaces import unshare_mounts

#: They watch nodes that others may take next, and hold what others have mounted.
pytestmark = [pytest.mark.loop, pytest.mark.alone]

#: Opens and closes a node for as long as it lives, or now and then for a moment.
PASSERS = (
    "while True:\n try: os.close(os.open(node, os.O_RDONLY))\n except OSError: time.sleep(0.001)",
    "while True:\n time.sleep(random.random() / 20)\n try:\n  with open(node, 'rb'):"
    " time.sleep(random.random() / 20)\n except OSError: pass",
)


@contextmanager
def passers_by(node: str) -> Iterator[None]:
    """Processes that come and go, as udev and `btrfs device scan` do."""
    begin = f"import os, random, time; node = {node!r}; print(flush=True)\n"
    started = [
        subprocess.Popen([sys.executable, "-c", begin + passer], stdout=subprocess.PIPE)
        for passer in PASSERS
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LoopDevice]:
    """A loop device over a sparse file."""
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 64 * MIB)
    yield loop.attach(str(image), 4096)
    loop.release_all(str(tmp_path), force=True)


@contextmanager
def copy_of_the_mounts(seconds: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another namespace, which has what is mounted now until it ends."""
    ours = os.readlink("/proc/self/ns/mnt")
    with subprocess.Popen([*unshare_mounts(), "sleep", seconds]) as process:
        wait_until(lambda: os.readlink(f"/proc/{process.pid}/ns/mnt") != ours)
        yield process


@pytest.mark.parametrize("force", [False, True])
def test_a_device_that_others_look_at_is_free_when_detach_returns(
    device: LoopDevice, force: bool
) -> None:
    for _ in range(8):
        with passers_by(device.node):
            loop.detach(device, force)
            assert not is_attached(device)
            assert not is_being_cleared(device.node)
        device = loop.attach(device.backing_file, 4096, partscan=random.random() < 0.5)


def test_a_copy_of_the_mount_that_ends_is_waited_for(device: LoopDevice, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    for force in (False, True):
        mounts.run_tool("mkfs.ext4", "-q", "-F", device.node)
        mounts.run_tool("mount", device.node, str(tmp_path / "mnt"))
        with copy_of_the_mounts("1.5"):
            mounts.unmount(str(tmp_path / "mnt"))
            begin = time.monotonic()
            assert loop.release([device], force) == [
                f"detached {device.node} from {device.backing_file}"
            ]
            assert time.monotonic() - begin > loop.GRACE_SECONDS
        assert not is_attached(device)
        device = loop.attach(device.backing_file, 4096)


def test_a_copy_of_the_mount_that_stays_is_told_of(
    device: LoopDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_users, "PASSING_SECONDS", 0.2)
    (tmp_path / "mnt").mkdir()
    mounts.run_tool("mkfs.ext4", "-q", device.node)
    mounts.run_tool("mount", device.node, str(tmp_path / "mnt"))
    with copy_of_the_mounts("60") as copy:
        mounts.unmount(str(tmp_path / "mnt"))
        with pytest.raises(StackError, match="perhaps mounted in another namespace$"):
            loop.detach(device)
        copy.kill()
    assert is_attached(device)


@pytest.mark.fuse
def test_a_device_over_a_dead_daemon_stays_while_somebody_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_users, "PASSING_SECONDS", 0.2)
    with place(tmp_path) as here:
        here.up()
        device = loop.loop_device(here.ok("attach", "home").strip())
        assert device is not None
        os.kill(here.pid() or 0, signal.SIGKILL)
        wait_until(lambda: mounts.is_stale(str(here.mount_point)))
        # Only the kernel knows of this one: it is our own.
        with FileIO(device.node, "r"), pytest.raises(StackError, match="is in use$"):
            loop.detach(device)
        assert is_attached(device)
        told = loop.SYS_BLOCK / os.path.basename(device.node) / "loop"
        assert [(told / name).read_text() for name in ("autoclear", "partscan")] == ["0\n", "1\n"]
        loop.detach(device)
        assert not is_attached(device)
