"""Real file systems on loop devices over views."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import product
from pathlib import Path
from random import Random

import pytest

from fusedm.host import loop, mounts
from tests.helpers.mounted import (
    KEY_TABLES,
    Mounted,
    fusedm,
    mounted_stack,
    opened,
    read_at,
    write_at,
)
from tests.helpers.nightly import nightly_but

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

#: Big enough for mkfs.xfs; the memory stores are sparse.
STACK = (
    """
version = 1
[disks.ufs0]
size = "200MiB"
store = "memory:"
engine = { keyslots = 4, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }
[disks.plain0]
size = "200MiB"
store = "memory:"
[mapper.data]
table = '''
0 16384 linear ufs0 0
16384 409600 linear plain0 0
425984 393216 linear ufs0 16384
'''
"""
    + KEY_TABLES
    + """
[views.home]
device = "data"
key = "alice"
[views.small]
device = "data"
key = "small"
"""
)

MARK = b"this sentence must be found in no medium "


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


def attach(stack: Mounted, name: str) -> str:
    done = stack.fusedm("attach", name)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def file_system(stack: Mounted, name: str, kind: str, where: Path) -> Iterator[str]:
    """A new file system on a view, mounted; the node of its loop device."""
    node = attach(stack, name)
    options = {"xfs": ["-f"], "ext4": ["-F", "-q"]}[kind]
    mounts.run_tool(f"mkfs.{kind}", *options, node)
    where.mkdir(exist_ok=True)
    mounts.run_tool("mount", node, str(where))
    try:
        yield node
    finally:
        if mounts.mount_at(str(where)):
            mounts.unmount(str(where))


def fill(where: Path) -> dict[Path, str]:
    """Files of many sizes, fsynced; the checksum of each."""
    random = Random(0)
    sums = {}
    for index in range(60):
        file = where / f"{index % 7}" / f"file{index}"
        file.parent.mkdir(exist_ok=True)
        data = MARK * random.choice([1, 100, 10000, 40000]) + random.randbytes(index)
        with file.open("wb") as writer:
            writer.write(data)
            writer.flush()
            os.fsync(writer.fileno())
        sums[file] = sha256(data).hexdigest()
    return sums


def forget_pages(where: Path) -> None:
    """Have every file read from the medium again."""
    subprocess.run(["sync", "-f", where], check=True)
    for file in where.rglob("file*"):
        with opened(file, os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def check(kind: str, node: str) -> None:
    command = {"ext4": ["e2fsck", "-fn", node], "xfs": ["xfs_repair", "-n", node]}[kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("view", "unit"), [("home", 4096), ("small", 512)])
def test_attach_hands_on_the_block_size_of_the_view(stack: Mounted, view: str, unit: int) -> None:
    device = loop.loop_device(attach(stack, view))
    assert device is not None
    assert device.logical_block_size == unit
    assert device.direct_io
    assert device.backing_file == str(stack.view(view))


@pytest.mark.parametrize(
    ("view", "kind"),
    nightly_but([("home", "ext4"), ("small", "xfs")], product(["home", "small"], ["ext4", "xfs"])),
)
def test_a_file_system_on_a_view_keeps_what_it_is_given(
    stack: Mounted, view: str, kind: str, tmp_path: Path
) -> None:
    where = tmp_path / "fs"
    with file_system(stack, view, kind, where) as node:
        sums = fill(where)
        forget_pages(where)
        assert {file: sha256(file.read_bytes()).hexdigest() for file in sums} == sums
        mounts.unmount(str(where))
        check(kind, node)
        mounts.run_tool("mount", node, str(where))
        assert {file: sha256(file.read_bytes()).hexdigest() for file in sums} == sums
        mounts.unmount(str(where))
        assert MARK in stack.view(view).read_bytes()
        for disk in ("ufs0", "plain0"):
            assert MARK not in stack.disk(disk).read_bytes()
        counts = [line.split() for line in stack.told("data", "fusedm/crypto_extents").splitlines()]
        assert [int(words[6]) for words in counts][::2] == [0, 0]
        assert int(counts[0][4]) > 0
        assert (int(counts[1][4]), int(counts[1][6]) > 0) == (0, True)
        done = stack.fusedm("detach", view)
        assert done.returncode == 0, done.stderr
        assert loop.attached(str(stack.mount_point)) == []


def test_a_mounted_file_system_refuses_detach_and_down_and_force_clears_all(
    stack: Mounted, tmp_path: Path
) -> None:
    where = tmp_path / "fs"
    with file_system(stack, "home", "ext4", where) as node:
        for refused in (stack.fusedm("detach", "home"), fusedm("down", str(stack.mount_point))):
            assert refused.returncode == 1
            assert refused.stderr == f"fusedm: {node} is mounted at {where}\n"
        assert mounts.mount_at(str(where))
        done = fusedm("down", "--force", str(stack.mount_point))
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines() == [
            f"unmounted {where}",
            f"detached {node} from {stack.view('home')}",
            f"ended daemon {stack.process.pid}",
        ]
        assert mounts.mount_at(str(where)) is None
        assert loop.attached(str(stack.mount_point)) == []
        assert stack.process.wait(15) == 0


def test_a_signal_unmounts_and_detaches_what_lies_over_the_mount(tmp_path: Path) -> None:
    text = STACK.replace('store = "memory:"', 'store = "file:ufs0.img"', 1)
    text = text.replace('store = "memory:"', 'store = "file:plain0.img"')
    where = tmp_path / "fs"
    with mounted_stack(text, tmp_path) as stack, file_system(stack, "home", "ext4", where):
        (where / "file").write_bytes(MARK * 1000)
        assert stack.end() == 0
        assert mounts.mount_at(str(where)) is None
        assert loop.attached(str(stack.mount_point)) == []
    # Nothing was synced but by the unmount.
    with mounted_stack(text, tmp_path) as stack:
        node = attach(stack, "home")
        check("ext4", node)
        mounts.run_tool("mount", node, str(where))
        try:
            assert (where / "file").read_bytes() == MARK * 1000
        finally:
            mounts.unmount(str(where))


def test_a_read_only_view_is_attached_read_only(stack: Mounted) -> None:
    stack.call("disk.add", name="fixed", store="memory:", size=1 << 20, read_only=True)
    stack.call("view.add", name="vfixed", device="fixed", key="alice")
    device = loop.loop_device(attach(stack, "vfixed"))
    assert device is not None
    assert device.read_only


def test_unaligned_writes_of_the_loop_device_reach_the_view(stack: Mounted) -> None:
    write_at(stack.view("small"), 0, b"o" * 8192)
    node = attach(stack, "small")
    with opened(Path(node)) as fd:
        os.pwrite(fd, b"x" * 700, 300)
        os.fsync(fd)
    assert read_at(stack.view("small"), 0, 1100) == b"o" * 300 + b"x" * 700 + b"o" * 100
