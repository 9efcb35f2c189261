"""Partitions of loop devices over a stack: shown, frozen, named, unmounted, and gone in the end."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.host import loop, mounts
from fusedm.host.loop_finding import LoopDevice
from fusedm.host.partitions import Partition, partitions
from tests.helpers.mounted import MIB, Mounted, fusedm, mounted_stack

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

STACK = """
version = 1
[disks.d]
size = "64MiB"
store = "memory:"
[mapper.m]
table = "0 131072 linear d 0"
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    """A stack with a partition of the last 63 MiB on its disk."""
    with mounted_stack(STACK, tmp_path) as mounted:
        table = b"start=2048, type=83\n"
        subprocess.run(["sfdisk", "-q", "-X", "dos", mounted.disk("d")], input=table, check=True)
        yield mounted


def attached(stack: Mounted, *options: str) -> LoopDevice:
    done = stack.fusedm("attach", *options, "m")
    assert done.returncode == 0, done
    device = loop.loop_device(done.stdout.strip())
    assert device is not None
    return device


@pytest.fixture
def part(stack: Mounted) -> Partition:
    found = partitions(attached(stack).node)
    assert [one.index for one in found] == [1]
    return found[0]


@pytest.fixture
def mounted(part: Partition, tmp_path: Path) -> Iterator[Path]:
    """A file system on the partition."""
    where = tmp_path / "fs"
    where.mkdir()
    mounts.run_tool("mkfs.ext4", "-q", part.node)
    mounts.run_tool("mount", part.node, str(where))
    yield where
    if mounts.mount_at(str(where)):
        mounts.unmount(str(where))


def can_be_frozen(where: Path) -> bool:
    """Whether nobody has frozen a file system; it is thawed again."""
    if subprocess.run(["fsfreeze", "-f", where], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["fsfreeze", "-u", where], check=True)
    return True


def test_attach_shows_partitions_and_detach_leaves_none_behind(
    stack: Mounted, part: Partition
) -> None:
    assert mounts.device_of_node(part.node) == part.number
    assert stack.fusedm("detach", "m").returncode == 0
    assert not Path(f"/sys/dev/block/{part.number}").exists()
    assert mounts.device_of_node(part.node) != part.number


def test_those_that_were_added_by_hand_go_too(stack: Mounted) -> None:
    device = attached(stack, "--no-partscan")
    assert partitions(device.node) == []
    mounts.run_tool("partx", "--add", device.node)
    (part,) = partitions(device.node)
    assert stack.fusedm("detach", "m").returncode == 0
    assert not Path(f"/sys/dev/block/{part.number}").exists()


def test_a_suspended_device_is_not_attached_rather_than_waited_for(stack: Mounted) -> None:
    stack.call("dm.suspend", name="m")
    done = stack.fusedm("attach", "m")
    stack.call("dm.resume", name="m")
    assert (done.returncode, loop.attached(str(stack.mount_point))) == (1, [])
    assert "is suspended" in done.stderr


def test_suspend_freezes_the_file_system_on_a_partition_and_resume_thaws_it(
    stack: Mounted, mounted: Path
) -> None:
    (mounted / "data").write_bytes(b"d" * MIB)
    stack.call("dm.suspend", name="m")
    assert not can_be_frozen(mounted)
    copy = mounted.with_name("copy.img")
    copy.write_bytes(stack.disk("d").read_bytes()[MIB:])
    stack.call("dm.resume", name="m")
    assert can_be_frozen(mounted)
    assert "needs_recovery" not in mounts.run_tool("dumpe2fs", "-h", str(copy))


def test_suspend_writes_what_a_partition_has_cached(stack: Mounted, part: Partition) -> None:
    with open(part.node, "r+b", buffering=0) as file:
        file.write(b"cached" * 1024)
        stack.call("dm.suspend", name="m")
        assert stack.disk("d").read_bytes()[MIB:].startswith(b"cached" * 1024)
        stack.call("dm.resume", name="m")


def test_who_has_a_partition_mounted_is_named_and_is_not_disturbed(
    stack: Mounted, part: Partition, mounted: Path
) -> None:
    text = f"partition 1 is mounted at {mounted}"
    for words in (["detach", "m"], ["down", str(stack.mount_point)]):
        done = stack.fusedm(*words)
        assert done.returncode == 1
        assert text in done.stderr
    (mounted / "still").write_text("there")
    done = fusedm("down", "--force", str(stack.mount_point))
    assert f"unmounted {mounted}" in done.stderr
    assert mounts.mount_at(str(mounted)) is None
    assert not Path(f"/sys/dev/block/{part.number}").exists()
