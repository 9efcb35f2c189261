"""Tables are swapped under a file system that is written to: what was acknowledged is there."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from fusedm.host import loop, mounts
from tests.helpers.mounted import MIB, Mounted, mounted_stack

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

SIZE = 64 * MIB
SECTORS = SIZE // 512
BLOCK = 4096
SWAPS = 6

STACK = f"""
version = 1
[disks.f0]
size = "{SIZE}"
store = "file:f0.img"
[mapper.vol]
table = "0 {SECTORS} linear f0 0"
"""

#: The same data, by other ways.
TABLES = [
    f"0 40960 linear f0 0\n40960 {SECTORS - 40960} linear f0 40960",
    f"0 {SECTORS} delay f0 0 1",
    f"0 {SECTORS} linear f0 0",
]

#: Appends numbered blocks, and says each number when it is on the disk.
WRITER = f"""
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for number in range(1 << 12):
    os.pwrite(file, number.to_bytes(8, "little") * {BLOCK // 8}, number * {BLOCK})
    os.fdatasync(file)
    os.write(1, b"%d\\n" % number)
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


@contextmanager
def writing(stack: Mounted, file: Path, told: Path) -> Iterator[None]:
    """The writer, killed in the end."""
    command = [sys.executable, "-c", WRITER, str(file)]
    with told.open("wb") as out, subprocess.Popen(command, stdout=out) as process:
        try:
            yield
        finally:
            # What is blocked in the kernel does not heed a signal.
            stack.call("dm.resumeall")
            process.kill()


def acknowledged(told: Path) -> int:
    """How many blocks the writer has been told are on the disk."""
    return told.read_bytes().count(b"\n")


def check_numbers(data: bytes, count: int) -> None:
    """Every acknowledged block is there, and of what followed a beginning: none was overtaken."""
    assert len(data) >= count * BLOCK
    numbers = [
        int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) & -BLOCK, BLOCK)
    ]
    assert numbers[:count] == list(range(count))
    later = [bool(number) for number in numbers[max(count, 1) :]]
    assert all(before or not after for before, after in pairwise(later))


def test_no_acknowledged_write_is_lost_or_overtaken_by_swaps_of_tables(
    stack: Mounted, tmp_path: Path
) -> None:
    device = loop.attach(str(stack.mapper("vol")), 512)
    where, inside, told = tmp_path / "fs", tmp_path / "inside", tmp_path / "told"
    where.mkdir()
    inside.mkdir()
    mounts.run_tool("mkfs.ext4", "-q", device.node)
    mounts.run_tool("mount", device.node, str(where))
    try:
        with writing(stack, where / "log", told):
            before = 0
            for swap in range(SWAPS):
                while acknowledged(told) < before + 20:
                    time.sleep(0.02)
                stack.call("dm.load", name="vol", table=TABLES[swap % len(TABLES)])
                if swap % 2:
                    stack.call("dm.resume", name="vol")
                    before = acknowledged(told)
                    continue
                stack.call("dm.suspend", name="vol")
                before = acknowledged(told)
                copy = tmp_path / "copy.img"
                mounts.run_tool("cp", "--sparse=always", str(tmp_path / "f0.img"), str(copy))
                mounts.run_tool("e2fsck", "-fn", str(copy))
                mounts.run_tool("mount", "-o", "ro,noload", str(copy), str(inside))
                try:
                    check_numbers((inside / "log").read_bytes(), before)
                finally:
                    mounts.unmount(str(inside))
                # One may have been on the disk by then and not yet been told.
                assert acknowledged(told) <= before + 1
                stack.call("dm.resume", name="vol")
        check_numbers((where / "log").read_bytes(), acknowledged(told))
    finally:
        mounts.unmount(str(where))
    assert acknowledged(told) >= 20 * SWAPS
