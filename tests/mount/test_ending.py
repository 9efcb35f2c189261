"""However a daemon is told to end, nothing of it is left and it exits with 0."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fusedm.control import run_dir
from fusedm.host import mounts
from tests.helpers.load import connections, fio_running
from tests.helpers.mounted import (
    END_SECONDS,
    USUAL,
    Mounted,
    fusedm,
    mounted_stack,
    opened,
    write_at,
)

pytestmark = pytest.mark.fuse


def nothing_is_left(stack: Mounted) -> bool:
    mount_point = str(stack.mount_point)
    return (
        mounts.mount_at(mount_point) is None
        and os.listdir(mount_point) == []
        and not run_dir.socket_path(mount_point).exists()
        and mount_point not in {running.mount_point for running in run_dir.running_stacks()}
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        write_at(stack.view("home"), 0, b"x")
        assert stack.end(number) == 0
        assert nothing_is_left(stack)


@pytest.mark.parametrize(
    "unmount",
    [
        lambda path: mounts.run_tool("umount", path),
        lambda path: mounts.run_tool("fusermount3", "-u", path),
        lambda path: mounts.unmount(path, lazy=True),
    ],
    ids=["umount", "fusermount3", "lazy"],
)
def test_an_unmount_from_outside_ends_it(tmp_path: Path, unmount: Callable[[str], object]) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        unmount(str(stack.mount_point))
        assert stack.process.wait(END_SECONDS) == 0
        assert nothing_is_left(stack)


def test_what_was_mounted_in_its_place_is_left_alone(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        point = str(stack.mount_point)
        subprocess.run(f"umount {point} && mount -t tmpfs other {point}", shell=True, check=True)
        try:
            assert stack.process.wait(END_SECONDS) == 0
            there = mounts.mount_at(point)
            assert there is not None
            assert there.source == "other"
        finally:
            mounts.unmount(point)


def test_down_ends_it_and_says_what_it_did(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        done = fusedm("down", str(stack.mount_point))
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"ended daemon {stack.process.pid}\n"
        assert stack.process.wait(END_SECONDS) == 0
        assert nothing_is_left(stack)


def test_an_open_file_refuses_down_and_is_named(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        with opened(stack.view("home"), os.O_RDONLY):
            refused = fusedm("down", str(stack.mount_point))
            assert refused.returncode == 1
            assert f"{stack.view('home')} is held by " in refused.stderr
            assert f"(pid {os.getpid()})" in refused.stderr
            assert stack.view("home").exists()
        assert fusedm("down", str(stack.mount_point)).returncode == 0


def test_a_signal_ends_it_although_a_file_is_open(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        fd = os.open(stack.view("home"), os.O_RDWR)
        assert stack.end() == 0
        assert nothing_is_left(stack)
        with pytest.raises(OSError, match="Transport endpoint is not connected"):
            os.pread(fd, 1, 0)
        # The descriptor goes although there is nobody left to be told.
        with pytest.raises(OSError, match="Transport endpoint is not connected"):
            os.close(fd)


def test_file_stores_are_free_for_the_next_one_at_once(tmp_path: Path) -> None:
    text = USUAL.replace("memory:", "file:ufs0.img", 1)
    for round_ in range(3):
        with mounted_stack(text, tmp_path) as stack:
            write_at(stack.disk("ufs0"), 0, bytes([round_]) * 512)
            assert stack.end() == 0
        assert (tmp_path / "ufs0.img").read_bytes()[:512] == bytes([round_]) * 512


@pytest.mark.parametrize("store", ["memory:", "file:ufs0.img"])
def test_a_signal_under_load_ends_it(tmp_path: Path, store: str) -> None:
    text = USUAL.replace("memory:", store, 1)
    with mounted_stack(text, tmp_path) as stack, fio_running(stack.view("home")) as fio:
        assert stack.end() == 0
        assert nothing_is_left(stack)
        assert fio.wait(20) != 0


def test_a_kill_under_load_leaves_a_mount_that_down_clears(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        with fio_running(stack.view("home")) as fio:
            assert stack.end(signal.SIGKILL) == -signal.SIGKILL
            assert fio.wait(20) != 0
        assert fusedm("down", str(stack.mount_point)).returncode == 0
        assert nothing_is_left(stack)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts fusectl")
def test_an_aborted_connection_ends_it(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path) as stack, connections(tmp_path / "control") as control:
        number = os.minor(stack.mount_point.stat().st_dev)
        (control / str(number) / "abort").write_text("1")
        assert stack.process.wait(END_SECONDS) == 0
        assert nothing_is_left(stack)


SERVE_TWICE = """
import os, sys
from pathlib import Path
import trio
from fusedm.disk import Disk
from fusedm.fuse import serve
from fusedm.host.kernel_mount import MountOptions
from fusedm.stores import MemoryStore
from fusedm.system import System

async def main(mount_point, options):
    descriptors = []
    for _ in range(3):
        system = System()
        system.add_disk(Disk("d0", MemoryStore(4096)))
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, system, mount_point, options, stopping)
            data = await trio.to_thread.run_sync((mount_point / "disks/d0").read_bytes)
            assert data == bytes(4096)
            stopping.set()
        await system.close()
        descriptors.append(len(os.listdir("/proc/self/fd")))
    assert len(set(descriptors)) == 1, descriptors

trio.run(main, Path(sys.argv[1]), MountOptions(lane=sys.argv[2] == "lane"))
"""


def test_a_process_may_serve_again_and_leaves_no_descriptor_open(tmp_path: Path, way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE_TWICE, str(tmp_path), way],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert mounts.mount_at(str(tmp_path)) is None
