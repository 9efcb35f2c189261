"""Stacks served for real: a daemon in a process of its own, always torn down in order."""

import hashlib
import mmap
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusedm.control.bring import bring_down
from fusedm.control.client import Client
from fusedm.host import mounts

READY_SECONDS = 20.0
END_SECONDS = 15.0

MIB = 1 << 20

#: Bytes of the keys that every stack here can name as file:alice.key and so on.
KEYS = {name: hashlib.sha512(name.encode()).digest() for name in ("alice", "small")}

#: The tables of these keys in a stack file.
KEY_TABLES = """
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
[keys.small]
mode = "AES-256-XTS"
data_unit_size = 512
dun_bytes = 8
source = "file:small.key"
"""

#: Two disks of 4 MiB, one of them with an engine; a linear device over half of each, and views of
#: it: home and twin are the same, small has units of 512 bytes, later begins at DUN 1000.
USUAL = (
    """
version = 1
[disks.ufs0]
size = "4MiB"
store = "memory:"
engine = { keyslots = 4, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }
[disks.plain0]
size = "4MiB"
store = "memory:"
[mapper.data]
uuid = "UUID-data"
table = '''
0 4096 linear ufs0 0
4096 4096 linear plain0 0
'''
"""
    + KEY_TABLES
    + """
[views.home]
device = "data"
key = "alice"
[views.twin]
device = "data"
key = "alice"
[views.small]
device = "data"
key = "small"
[views.later]
device = "data"
key = "alice"
dun_base = 1000
"""
)


#: Options of every `up` here; a test module that runs both ways sets them.
every_up: tuple[str, ...] = ()


class Mounted:
    """A mount that a process of its own answers."""

    def __init__(self, process: "subprocess.Popen[str]", mount_point: Path, log: Path) -> None:
        self.process = process
        self.mount_point = mount_point
        self._log = log

    def disk(self, name: str) -> Path:
        """The medium of a disk."""
        return self.mount_point / "disks" / name

    def mapper(self, name: str) -> Path:
        """A mapped device."""
        return self.mount_point / "mapper" / name

    def view(self, name: str) -> Path:
        """A view."""
        return self.mount_point / "views" / name

    def sys(self, name: str) -> Path:
        """What is told about a device."""
        return self.mount_point / "sys/block" / name

    def told(self, name: str, file: str) -> str:
        """What a text file about a device says."""
        return (self.sys(name) / file).read_text()

    def call(self, verb: str, **args: object) -> Any:
        """Ask the daemon over its control socket."""
        with Client(str(self.mount_point)) as client:
            return client.call(verb, **args)

    def fusedm(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line on this stack."""
        environ = {**os.environ, "FUSEDM_STACK": str(self.mount_point)}
        return fusedm(*words, environ=environ)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_SECONDS)

    def complaints(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text()


def fusedm(
    *words: str, environ: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command line; it must end within a minute."""
    command = [sys.executable, "-m", "fusedm", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environ, timeout=60, check=False
    )


def write_stack(directory: Path, text: str) -> tuple[Path, Path]:
    """A stack file with its keys, and an empty mount point beside it."""
    directory.mkdir(exist_ok=True)
    for name, raw in KEYS.items():
        key_file = directory / f"{name}.key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(raw)
    stack_file, mount_point = directory / "stack.toml", directory / "mnt"
    stack_file.write_text(text)
    mount_point.mkdir(exist_ok=True)
    return stack_file, mount_point


@contextmanager
def mounted_stack(
    text: str, directory: Path, *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[Mounted]:
    """The stack of a stack file, from `fusedm up --foreground` until it has ended.

    environ is added to the daemon's environment.
    """
    stack_file, mount_point = write_stack(directory, text)
    words = ["fusedm", "up", str(stack_file), str(mount_point), "--foreground", *every_up, *options]
    with served(words, mount_point, directory / "daemon.log", environ) as mounted:
        yield mounted


@contextmanager
def served(
    words: list[str], mount_point: Path, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Mounted]:
    """A module run with words, from its READY line until it has ended; it must not complain.

    Its standard input is a pipe from us, so that it can be told more.
    """
    command = [sys.executable, "-m", *words]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, **(environ or {})},
        )  # fmt: skip
    mounted = Mounted(process, mount_point, log)
    try:
        _wait_until_ready(mounted)
        yield mounted
    finally:
        killed = _tear_down(mounted)
    assert not killed, f"it has not ended within {END_SECONDS} seconds: {mounted.complaints()}"
    assert mounted.complaints() == ""


def _wait_until_ready(mounted: Mounted) -> None:
    stdout = mounted.process.stdout
    assert stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        told = stdout.readline() if selector.select(READY_SECONDS) else "nothing in time"
    expected = f"READY {mounted.mount_point}\n"
    assert told == expected, f"it said {told!r}: {mounted.complaints()}"


def _tear_down(mounted: Mounted) -> bool:
    """End the process and clear its mount; whether it had to be killed."""
    process = mounted.process
    killed = False
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            killed = True
            process.kill()
            process.wait()
    if mounts.mount_at(str(mounted.mount_point)) is not None:
        bring_down(str(mounted.mount_point), force=True)
    return killed


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    """A descriptor for the time of a with block."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def page_aligned(data: bytes) -> mmap.mmap:
    """The same bytes in memory that begins on a page, as O_DIRECT wants it."""
    buffer = mmap.mmap(-1, len(data))
    buffer[:] = data
    return buffer


def read_at(path: Path, offset: int, length: int) -> bytes:
    """Bytes of a file, opened for this only."""
    with opened(path, os.O_RDONLY) as fd:
        return os.pread(fd, length, offset)


def write_at(path: Path, offset: int, data: bytes, flags: int = 0) -> int:
    """Write to a file, opened for this only; how many bytes it took."""
    with opened(path, os.O_RDWR | flags) as fd:
        return os.pwrite(fd, data, offset)
