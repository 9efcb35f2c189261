"""Requests that are held (a suspended device, a hung store) hold up nothing else of the mount."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import mounted
from tests.helpers.aio import AsyncReads
from tests.helpers.crowd import Crowd, promptly, wait_until
from tests.helpers.load import connections
from tests.helpers.mounted import (
    USUAL,
    Mounted,
    mounted_stack,
    opened,
    page_aligned,
    read_at,
    served,
    write_at,
)

pytestmark = pytest.mark.fuse

HELD = 64


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(USUAL, tmp_path) as stack:
        yield stack


def direct_read(path: Path, offset: int) -> bytes:
    with opened(path, os.O_RDONLY | os.O_DIRECT) as fd, page_aligned(bytes(4096)) as buffer:
        assert os.preadv(fd, [buffer], offset) == 4096
        return buffer[:]


@contextmanager
def suspended(stack: Mounted, name: str) -> Iterator[None]:
    """A mapped device that holds what it is sent; resumed in every case, or nothing would end."""
    done = stack.fusedm("dm", "suspend", name)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        stack.call("dm.resume", name=name)


def test_64_reads_held_by_a_suspended_device_hold_up_no_other_file(stack: Mounted) -> None:
    """Asynchronous ones: only of those the kernel lets just so many wait on one mount."""
    data = os.urandom(HELD * 4096)
    write_at(stack.view("home"), 0, data)
    with AsyncReads(stack.view("home"), [index * 4096 for index in range(HELD)]) as held:
        with suspended(stack, "data"):
            promptly(held.send)
            assert promptly(lambda: read_asynchronously(stack.disk("ufs0"))) != data[:4096]
            assert promptly(lambda: write_at(stack.disk("plain0"), 8192, b"x" * 4096)) == 4096
            assert promptly(lambda: stack.told("data", "dm/suspended")) == "1\n"
            assert promptly(lambda: len(os.listdir(stack.mount_point / "views"))) == 4
            assert held.done_count() == 0
        assert promptly(lambda: held.done_count(HELD)) == HELD
        assert held.data() == data


def read_asynchronously(path: Path) -> bytes:
    with AsyncReads(path, [0]) as read:
        read.send()
        read.done_count(1)
        return read.data()


def test_64_readers_held_by_a_suspended_device_hold_up_no_other_file(stack: Mounted) -> None:
    data = os.urandom(HELD * 4096)
    write_at(stack.view("home"), 0, data)
    with suspended(stack, "data"):
        crowd = Crowd(HELD, lambda index: direct_read(stack.view("home"), index * 4096))
        wait_until(lambda: stack.call("view.show", name="home")["open"] == HELD)
        assert promptly(lambda: len(direct_read(stack.disk("plain0"), 0))) == 4096
        assert crowd.results == {}
    results = crowd.join()
    assert b"".join(results[index] for index in range(HELD)) == data


def test_held_writes_are_all_done_after_resume_and_none_before(stack: Mounted) -> None:
    with suspended(stack, "data"):
        crowd = Crowd(8, lambda i: write_at(stack.mapper("data"), i * 512, bytes([i + 1]) * 512))
        wait_until(lambda: stack.call("dm.show", name="data")["open"] == 8)
        assert read_at(stack.disk("ufs0"), 0, 4096) == bytes(4096)
        assert crowd.results == {}
    assert set(crowd.join().values()) == {512}
    assert read_at(stack.disk("ufs0"), 0, 4096) == b"".join(bytes([i]) * 512 for i in range(1, 9))


def test_held_reads_see_the_table_that_was_loaded_meanwhile(stack: Mounted) -> None:
    write_at(stack.disk("plain0"), 0, b"p" * 4096)
    with suspended(stack, "data"):
        crowd = Crowd(4, lambda _: read_at(stack.mapper("data"), 0, 4096))
        wait_until(lambda: stack.call("dm.show", name="data")["open"] == 4)
        stack.call("dm.load", name="data", table="0 8192 linear plain0 0")
    assert set(crowd.join().values()) == {b"p" * 4096}


def test_a_killed_reader_of_a_suspended_device_is_gone_once_it_is_resumed(stack: Mounted) -> None:
    with suspended(stack, "data"):
        reader = subprocess.Popen(["cat", stack.mapper("data")], stdout=subprocess.DEVNULL)
        wait_until(lambda: stack.call("dm.show", name="data")["open"] == 1)
        reader.kill()
    assert reader.wait(20) == -signal.SIGKILL
    wait_until(lambda: stack.call("dm.show", name="data")["open"] == 0)
    stack.call("view.remove", name="home")


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts fusectl")
def test_a_daemon_told_to_end_does_not_wait_for_a_suspended_device(
    stack: Mounted, tmp_path: Path
) -> None:
    stack.call("dm.suspend", name="data")
    with connections(tmp_path / "control") as control:
        waiting = control / str(os.minor(stack.mount_point.stat().st_dev)) / "waiting"
        crowd = Crowd(2, lambda _: read_at(stack.mapper("data"), 0, 4096))
        wait_until(lambda: stack.call("dm.show", name="data")["open"] == 2)
        # Not the end of an open: the daemon has answered that by the second look.
        for _ in range(2):
            stack.call("status")
            wait_until(lambda: int(waiting.read_text()) == 2)
    stack.call("status")  # By now the daemon has taken both reads.
    assert stack.end() == 0
    # It has resumed the device first, so that nobody gets an error for nothing.
    assert set(crowd.join().values()) == {bytes(4096)}


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Mounted]:
    mount_point = tmp_path / "mnt"
    mount_point.mkdir()
    words = ["tests.helpers.hanging_stack", str(mount_point), *mounted.every_up]
    with served(words, mount_point, tmp_path / "log") as stack:
        yield stack


def order(stack: Mounted, word: str) -> None:
    stdin, stdout = stack.process.stdin, stack.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(f"{word}\n")
    stdin.flush()
    assert stdout.readline() == "done\n"


def test_a_hung_store_holds_up_no_other_device_of_the_mount(hanging: Mounted) -> None:
    write_at(hanging.disk("hanging"), 0, b"h" * 4096)
    order(hanging, "hold")
    try:
        with opened(hanging.disk("hanging")) as fd:
            crowd = Crowd(
                HELD, lambda i: os.fsync(fd) if i % 2 else direct_read(hanging.disk("hanging"), 0)
            )
            wait_until(lambda: "0" not in hanging.told("hanging", "inflight").split())
            assert promptly(lambda: write_at(hanging.disk("sound"), 0, b"s" * 4096)) == 4096
            with opened(hanging.disk("sound")) as sound:
                assert promptly(lambda: os.fsync(sound)) is None
            assert promptly(lambda: direct_read(hanging.disk("sound"), 0)) == b"s" * 4096
            assert crowd.results == {}
            order(hanging, "release")
            assert set(crowd.join().values()) == {None, b"h" * 4096}
    finally:
        order(hanging, "release")


@pytest.mark.alone
def test_the_control_socket_answers_under_load(stack: Mounted) -> None:
    """Requests that never end leave time for all else."""
    done = threading.Event()

    def keep_reading(_: int) -> None:
        with opened(stack.disk("plain0"), os.O_RDONLY) as fd:
            while not done.is_set():
                os.pread(fd, 4096, 0)

    crowd = Crowd(16, keep_reading)
    try:
        took = []
        for _ in range(20):
            began = time.monotonic()
            stack.call("status")
            stack.told("data", "size")
            took.append(time.monotonic() - began)
    finally:
        done.set()
        crowd.join()
    assert sorted(took)[10] < 0.4
