"""flakey, dust and log-writes under real programs: ext4 on a loop device, dd, and e2fsck."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from fusedm.host import mounts
from tests.helpers import write_log
from tests.helpers.mounted import Mounted, mounted_stack, opened

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

SECTORS = 32768
STACK = f"""
version = 1
[disks.d0]
size = "16MiB"
store = "memory:"
[disks.log]
size = "128MiB"
store = "memory:"
[mapper.m]
table = "0 {SECTORS} linear d0 0"
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


def verb(stack: Mounted, *words: str) -> str:
    done = stack.fusedm(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def swap(stack: Mounted, table: str) -> None:
    """Make another table the live one."""
    verb(stack, "dm", "load", "m", "--table", f"0 {SECTORS} {table}")
    verb(stack, "dm", "resume", "m", "--nolockfs")


@contextmanager
def attached(stack: Mounted) -> Iterator[str]:
    """A loop device over the mapped device, new, so that it has nothing cached."""
    node = verb(stack, "attach", "m")
    try:
        yield node
    finally:
        verb(stack, "detach", "m")


@contextmanager
def ext4(stack: Mounted, where: Path) -> Iterator[Path]:
    """The file system on the mapped device, mounted."""
    where.mkdir(exist_ok=True)
    with attached(stack) as node:
        mounts.run_tool("mount", "-t", "ext4", node, str(where))
        try:
            yield where
        finally:
            mounts.unmount(str(where))


def make_ext4(stack: Mounted) -> None:
    with attached(stack) as node:
        mounts.run_tool("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", node)


def write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with opened(path.parent, os.O_RDONLY) as folder:
        os.fsync(folder)


def recovered(image: Path) -> str:
    """What e2fsck finds wrong with an image once its journal has been replayed; empty: nothing."""
    subprocess.run(["e2fsck", "-y", "-E", "journal_only", str(image)], capture_output=True)
    done = subprocess.run(["e2fsck", "-f", "-n", str(image)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout


def test_what_ext4_wrote_to_a_disk_that_lies_is_gone_and_what_was_before_is_not(
    stack: Mounted, tmp_path: Path
) -> None:
    make_ext4(stack)
    with ext4(stack, tmp_path / "fs") as where:
        write_durably(where / "before", b"kept" * 3000)
        swap(stack, "flakey d0 0 0 3600 1 drop_writes")
        write_durably(where / "after", b"lost" * 3000)
        assert (where / "after").read_bytes() == b"lost" * 3000
    swap(stack, "linear d0 0")
    with ext4(stack, tmp_path / "fs") as where:
        assert (where / "before").read_bytes() == b"kept" * 3000
        assert not (where / "after").exists()
    assert recovered(stack.disk("d0")) == ""


def test_ext4_notices_that_a_disk_fails(stack: Mounted, tmp_path: Path) -> None:
    make_ext4(stack)
    with ext4(stack, tmp_path / "fs") as where:
        swap(stack, "flakey d0 0 0 3600 1 error_writes")
        with (where / "file").open("wb") as file:
            file.write(b"x" * 5000)
        done = subprocess.run(["sync", str(where / "file")], capture_output=True)
        assert done.returncode == 1
        swap(stack, "linear d0 0")
    assert recovered(stack.disk("d0")) == ""


def dd(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["dd", "status=none", *words], capture_output=True, text=True)


def test_dd_meets_bad_blocks_until_it_writes_them(stack: Mounted) -> None:
    swap(stack, "dust d0 0 512")
    for words in (["addbadblock", "60"], ["addbadblock", "67", "1"], ["enable"]):
        assert verb(stack, "dm", "message", "m", "0", *words) == ""
    assert verb(stack, "dm", "message", "m", "0", "listbadblocks") == "60\n67"
    with attached(stack) as node:
        for path in (node, str(stack.mapper("m"))):
            done = dd(f"if={path}", "of=/dev/null", "bs=512", "skip=60", "count=1", "iflag=direct")
            assert "Input/output error" in done.stderr
            good = dd(f"if={path}", "of=/dev/null", "bs=512", "skip=61", "count=6", "iflag=direct")
            assert good.stderr == ""
        write = ["if=/dev/zero", f"of={node}", "bs=512", "count=1", "oflag=direct", "conv=notrunc"]
        assert dd(*write, "seek=60").stderr == ""
        assert "Input/output error" in dd(*write, "seek=67").stderr
        assert dd(*write, "seek=67").stderr == ""
        assert dd(f"if={node}", "of=/dev/null", "bs=512", "count=100", "iflag=direct").stderr == ""
    status = verb(stack, "dm", "status", "m")
    assert status == f"0 {SECTORS} dust d0 fail_read_on_bad_block verbose"
    assert stack.fusedm("dm", "message", "m", "0", "addbadblock", "x").returncode == 1


def test_every_flush_of_ext4_in_a_log_can_be_recovered_to(stack: Mounted, tmp_path: Path) -> None:
    swap(stack, "log-writes d0 log")
    make_ext4(stack)
    verb(stack, "dm", "message", "m", "0", "mark", "mkfs")
    images, files = {}, {}
    with ext4(stack, tmp_path / "fs") as where:
        for number in range(4):
            files[f"file{number}"] = data = Random(number).randbytes(200_000)
            write_durably(where / f"file{number}", data)
            verb(stack, "dm", "message", "m", "0", "mark", f"mark{number}")
            images[f"mark{number}"] = sha256(stack.disk("d0").read_bytes()).digest()
            (where / f"gone{number}").write_bytes(b"x" * 30_000)
    swap(stack, "linear d0 0")
    image, file = bytearray(SECTORS * 512), tmp_path / "image"
    flushes, marks = 0, []
    for entry in write_log.entries(stack.disk("log").read_bytes()):
        write_log.apply(image, entry)
        if entry.kind == "mark":
            marks.append(entry.text)
        if entry.text in images:
            assert sha256(image).digest() == images[entry.text]
        if marks and (entry.kind == "flush" or entry.text in images):
            file.write_bytes(image)
            assert recovered(file) == "", f"after flush {flushes}, marks {marks}"
            flushes += 1
        if entry.text in images:
            name = f"file{len(marks) - 2}"
            subprocess.run(["debugfs", "-R", f"dump {name} {tmp_path / 'got'}", str(file)],
                           capture_output=True, check=True)  # fmt: skip
            assert (tmp_path / "got").read_bytes() == files[name]
    assert marks == ["mkfs", *images, "dm-log-writes-end"]
    assert flushes > 8
    assert image == stack.disk("d0").read_bytes()
