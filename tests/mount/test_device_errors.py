"""What the kernel says once when a request is taken or a reply is sent does not end the mount."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.mounted import USUAL, Mounted, mounted_stack
from tests.helpers.nightly import nightly_but
from tests.helpers.preload import compiled

pytestmark = pytest.mark.fuse

ROUNDS = 60
#: Above what the lane answers on the spot and what libfuse copies as a small request.
SIZES = (512, 4096, 65536)

#: A writer and reader that a timer interrupts all the time, over a store that takes a thread.
INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
fd = os.open(sys.argv[1], os.O_RDWR)
for number in range(300):
    data = number.to_bytes(2, "little") * 32500
    assert os.pwrite(fd, data, number * 512) == 65000
    assert os.pread(fd, 65000, number * 512) == data
print("done")
"""

FILE_STORE = """
version = 1
[disks.ufs0]
size = "4MiB"
store = "file:d.img"
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of faults, compiled."""
    return compiled("device_faults.c", tmp_path_factory.mktemp("faults"))


@pytest.fixture(params=["memory", "file"])
def text(request: pytest.FixtureRequest) -> str:
    """A stack file; the stores are such that take a thread, or none."""
    if request.param == "memory":
        return USUAL
    return USUAL.replace("memory:", "file:ufs0.img", 1).replace("memory:", "file:plain0.img")


@contextmanager
def failing(
    faults: Path, tmp_path: Path, text: str, told: str, *options: str
) -> Iterator[tuple[Mounted, Path]]:
    """A stack whose calls on the device fail as told, and the log of its daemon."""
    log = tmp_path / "daemon.log"
    environ = {"LD_PRELOAD": str(faults), "DEVICE_FAULTS": told}
    serving = mounted_stack(text, tmp_path, *options, environ=environ)
    mounted = serving.__enter__()
    try:
        yield mounted, log
        assert mounted.end() == 0
    finally:
        # What it has complained of is the test's to look at.
        said = log.read_text()
        log.write_text("")
        serving.__exit__(None, None, None)
        log.write_text(said)


def use(mounted: Mounted) -> int:
    """Write and read back in pieces of all sizes, with names looked up between; how many failed."""
    failed = 0
    for number in range(ROUNDS):
        data = os.urandom(SIZES[number % len(SIZES)])
        path = mounted.view("home") if number % 2 else mounted.disk("plain0")
        try:
            fd = os.open(path, os.O_RDWR)
        except OSError:
            failed += 1
            continue
        try:
            os.pwrite(fd, data, 0)
            os.fsync(fd)
            assert os.pread(fd, len(data), 0) == data
        except OSError:
            failed += 1
        finally:
            os.close(fd)
    return failed


@pytest.mark.parametrize("told", nightly_but(["3 2 rw"], ["1 1 r", "3 2 rw"]))
def test_the_lane_goes_on_after_every_error_and_nobody_sees_one(
    faults: Path, tmp_path: Path, text: str, told: str
) -> None:
    with failing(faults, tmp_path, text, told) as (mounted, _):
        assert use(mounted) == 0


def test_a_reply_that_is_never_taken_fails_its_request_and_no_other(
    faults: Path, tmp_path: Path, text: str
) -> None:
    """Three tries fail in a row; the error that is sent instead gets through."""
    with failing(faults, tmp_path, text, "20 3 w") as (mounted, log):
        failed = use(mounted)
    assert 0 < failed == log.read_text().count("a reply of ")


@pytest.mark.parametrize("told", nightly_but(["1 3 r"], ["1 1 r", "1 3 r"]))
def test_libfuse_goes_on_after_every_error_and_nobody_sees_one(
    faults: Path, tmp_path: Path, text: str, told: str
) -> None:
    with failing(faults, tmp_path, text, told, "--no-lane") as (mounted, _):
        assert use(mounted) == 0


@pytest.mark.parametrize("options", [(), ("--no-lane",)])
def test_a_client_interrupted_by_a_timer_is_served(tmp_path: Path, options: tuple[str]) -> None:
    with mounted_stack(FILE_STORE, tmp_path, *options) as mounted:
        command = [sys.executable, "-c", INTERRUPTED, str(mounted.disk("ufs0"))]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (told.stdout, told.stderr) == ("done\n", "")


@pytest.mark.parametrize("options", [(), ("--no-lane",)])
def test_clients_that_are_killed_in_their_requests_harm_nobody(
    tmp_path: Path, options: tuple[str]
) -> None:
    with mounted_stack(FILE_STORE, tmp_path, *options) as mounted:
        endless = INTERRUPTED.replace("range(300)", "iter(lambda: 7, 0)")
        command = [sys.executable, "-c", endless, str(mounted.disk("ufs0"))]
        clients = [subprocess.Popen(command) for _ in range(2)]
        for _ in range(10):
            clients.append(subprocess.Popen(command))
            os.pread(os.open(mounted.disk("ufs0"), os.O_RDONLY), 4096, 0)
            client = clients.pop(0)
            client.send_signal(signal.SIGKILL)
            client.wait()
        for client in clients:
            client.kill()
            client.wait()
        assert mounted.process.poll() is None
