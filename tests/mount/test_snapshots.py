"""Snapshots under a file system that is in use, over files that outlive the daemon."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounted import MIB, Mounted, mounted_stack, read_at

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

SIZE = 32 * MIB
STACK = """
version = 1
[disks.base]
size = "32MiB"
store = "file:base.img"
[disks.cow]
size = "24MiB"
store = "file:cow.img"
[mapper.origin]
table = "0 65536 snapshot-origin base"
"""
SNAPSHOT = "0 65536 snapshot base cow P 16"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def attach(stack: Mounted, name: str) -> str:
    done = stack.fusedm("attach", name)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_snapshot_of_a_mounted_file_system_keeps_what_was_there(
    stack: Mounted, tmp_path: Path
) -> None:
    origin, where = attach(stack, "origin"), tmp_path / "fs"
    where.mkdir()
    run("mkfs.ext4", "-q", origin)
    run("mount", origin, where)
    try:
        (where / "old").write_bytes(b"old" * 100_000)
        run("sync", "-f", where)
        stack.call("dm.suspend", name="origin")
        before = read_at(stack.disk("base"), 0, SIZE)
        stack.call("dm.add", name="snap", table=SNAPSHOT)
        stack.call("dm.resume", name="origin")
        (where / "old").write_bytes(b"new" * 200_000)
        (where / "more").write_bytes(bytes(4 * MIB))
        run("sync", "-f", where)
        assert read_at(stack.mapper("snap"), 0, SIZE) == before
    finally:
        run("umount", where)
    # The snapshot is a device of its own: its journal is replayed there, and the origin stays.
    after = read_at(stack.mapper("origin"), 0, SIZE)
    snap = attach(stack, "snap")
    assert subprocess.run(["e2fsck", "-fp", snap], capture_output=True).returncode in (0, 1)
    run("mount", snap, where)
    try:
        assert (where / "old").read_bytes() == b"old" * 100_000
        assert not (where / "more").exists()
    finally:
        run("umount", where)
    assert read_at(stack.mapper("origin"), 0, SIZE) == after


def test_a_persistent_snapshot_is_there_again_after_the_daemon_was(tmp_path: Path) -> None:
    with mounted_stack(STACK, tmp_path) as stack:
        stack.call("dm.add", name="snap", table=SNAPSHOT)
        stack.mapper("origin").write_bytes(b"changed" * 1000)
        stack.mapper("snap").write_bytes(b"own")
        want = read_at(stack.mapper("snap"), 0, 65536)
        told = stack.call("dm.status", name="snap")
        stack.call("dm.remove", name="snap")
    with mounted_stack(STACK, tmp_path) as stack:
        stack.call("dm.add", name="snap", table=SNAPSHOT)
        assert read_at(stack.mapper("snap"), 0, 65536) == want
        assert stack.call("dm.status", name="snap") == told
