"""Discards of loop devices and of file systems on them, which reach us as FALLOCATE."""

import os
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from fusedm.host import mounts
from tests.helpers.mounted import MIB, Mounted, mounted_stack, read_at, write_at

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

SIZE = 64 * MIB

STACK = """
version = 1
[disks.f0]
size = "32MiB"
store = "file:f0.img"
engine = { keyslots = 2, max_dun_bytes = 8, modes = { "AES-256-XTS" = [4096] } }
[disks.m0]
size = "32MiB"
store = "memory:"
[mapper.data]
table = '''
0 65536 linear f0 0
65536 65536 linear m0 0
'''
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
[views.home]
device = "data"
key = "alice"
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


def attach(stack: Mounted, name: str) -> str:
    done = stack.fusedm("attach", name)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("path", "option"),
    [
        ("views/home", "--zeroout"),
        ("views/home", "--discard"),
        ("mapper/data", "--zeroout"),
        ("mapper/data", "--discard"),
    ],
)
def test_blkdiscard_zeroes_its_range_only(stack: Mounted, path: str, option: str) -> None:
    file = stack.mount_point / path
    write_at(file, 0, b"k" * SIZE)
    node = attach(stack, file.name)
    # Across the two disks.
    begin, length = SIZE // 2 - 8192, 3 * MIB
    words = [option] if option != "--discard" else []
    mounts.run_tool("blkdiscard", *words, "-o", str(begin), "-l", str(length), node)
    expected = b"k" * begin + bytes(length) + b"k" * (SIZE - begin - length)
    assert Path(node).read_bytes() == expected
    assert file.read_bytes() == expected


@pytest.mark.parametrize("path", ["mapper/data", "views/home"])
def test_mkfs_and_fstrim_discard_and_lose_no_file(
    stack: Mounted, path: str, tmp_path: Path
) -> None:
    file = stack.mount_point / path
    write_at(file, 0, os.urandom(SIZE))
    node = attach(stack, file.name)
    said = subprocess.run(
        ["mkfs.ext4", "-F", "-E", "discard", node], capture_output=True, text=True, check=True
    )
    assert "Discarding device blocks" in said.stdout
    assert "failed" not in said.stdout
    where = tmp_path / "fs"
    where.mkdir()
    mounts.run_tool("mount", node, str(where))
    try:
        kept, gone = os.urandom(5 * MIB), os.urandom(20 * MIB)
        (where / "gone").write_bytes(gone)
        (where / "kept").write_bytes(kept)
        os.sync()
        (where / "gone").unlink()
        os.sync()
        blocks = (tmp_path / "f0.img").stat().st_blocks
        trimmed = subprocess.run(
            ["fstrim", "-v", where], capture_output=True, text=True, check=True
        )
        assert "trimmed" in trimmed.stdout
        assert (tmp_path / "f0.img").stat().st_blocks < blocks
    finally:
        mounts.unmount(str(where))
    done = subprocess.run(["e2fsck", "-fn", node], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    mounts.run_tool("mount", node, str(where))
    try:
        assert sha256((where / "kept").read_bytes()).digest() == sha256(kept).digest()
    finally:
        mounts.unmount(str(where))
    assert gone[: 16 * MIB] not in read_at(file, 0, SIZE)
