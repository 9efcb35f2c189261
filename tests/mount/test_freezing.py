"""File systems on a mapped device are frozen while it is suspended, and by nobody else thawed."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.block.errors import FusedmError, StackError
from fusedm.control.client import Client
from fusedm.host import loop, mounts
from tests.helpers.mounted import MIB, Mounted, fusedm, mounted_stack, opened, write_stack
from tests.helpers.nightly import nightly_but

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

#: What mkfs.xfs asks for at least.
SIZE = 320 * MIB
SECTORS = SIZE // 512

STACK = f"""
version = 1
[disks.f0]
size = "{SIZE + 16 * MIB}"
store = "file:f0.img"
[mapper.low]
table = "0 {SECTORS} linear f0 0"
[mapper.vol]
table = "0 {SECTORS} linear low 0"
"""

CHECKS = {
    "ext4": ["e2fsck", "-fn"],
    "xfs": ["xfs_repair", "-n"],
    "btrfs": ["btrfs", "check", "--readonly"],
}

#: How long something is watched that must not happen.
WATCHED_SECONDS = 0.5


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


@contextmanager
def filesystem(stack: Mounted, directory: Path, kind: str) -> Iterator[Path]:
    """A new file system on the mapped device, mounted until the end; whatever is left is thawed."""
    where = make_filesystem(stack, directory, kind)
    try:
        yield where
    finally:
        while (mount := mounts.mount_at(str(where))) is not None:
            subprocess.run(["fsfreeze", "-u", where], capture_output=True, check=False)
            mounts.unmount(mount.mount_point)


def make_filesystem(stack: Mounted, directory: Path, kind: str) -> Path:
    """The same, left mounted."""
    device = loop.attach(str(stack.mapper("vol")), 512)
    where = directory / "fs"
    where.mkdir()
    mounts.run_tool(f"mkfs.{kind}", "-q", device.node)
    mounts.run_tool("mount", device.node, str(where))
    return where


def is_frozen(where: Path) -> bool:
    """Whether a file system is; it is thawed if so."""
    done = subprocess.run(["fsfreeze", "-u", where], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def writer(stack: Mounted, file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that writes a little to a file and ends; no signal ends it while it is blocked."""
    mode = "r+" if file.exists() else "w"
    code = f"open({str(file)!r}, {mode!r}).write('x')"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield process
        except BaseException:
            stack.call("dm.resumeall")
            raise


def is_blocked(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(WATCHED_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def check(kind: str, image: Path) -> None:
    done = subprocess.run([*CHECKS[kind], image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def mounted_copy(kind: str, image: Path, directory: Path) -> Iterator[Path]:
    """What is in an image that has been copied at rest."""
    if kind == "ext4":
        assert "needs_recovery" not in mounts.run_tool("dumpe2fs", "-h", str(image))
    if kind != "xfs":  # Its frozen log is never empty, for the sake of files that have no name.
        check(kind, image)
    inside = directory / "inside"
    inside.mkdir(exist_ok=True)
    options = {"ext4": "ro,noload", "xfs": "nouuid", "btrfs": "ro"}[kind]
    mounts.run_tool("mount", "-o", options, str(image), str(inside))
    try:
        yield inside
    finally:
        mounts.unmount(str(inside))
    check(kind, image)


def copy_of_store(directory: Path) -> Path:
    copy = directory / "copy.img"
    subprocess.run(["cp", "--sparse=always", directory / "f0.img", copy], check=True)
    os.truncate(copy, SIZE)
    return copy


@pytest.mark.parametrize("kind", nightly_but(["xfs"], ["ext4", "xfs", "btrfs"]))
def test_a_suspended_device_has_a_clean_file_system_that_does_not_change(
    stack: Mounted, tmp_path: Path, kind: str
) -> None:
    with filesystem(stack, tmp_path, kind) as where:
        (where / "dirty").write_bytes(b"d" * MIB)
        assert stack.fusedm("dm", "suspend", "vol").returncode == 0
        with writer(stack, where / "later") as process:
            assert is_blocked(process)
            copy = copy_of_store(tmp_path)
            digest = hashlib.sha256((tmp_path / "f0.img").read_bytes()).digest()
            with mounted_copy(kind, copy, tmp_path) as inside:
                assert (inside / "dirty").read_bytes() == b"d" * MIB
                assert not (inside / "later").exists()
            assert is_blocked(process)
            assert hashlib.sha256((tmp_path / "f0.img").read_bytes()).digest() == digest
            assert stack.fusedm("dm", "resume", "vol").returncode == 0
            assert process.wait(20) == 0
        assert not is_frozen(where)


def test_a_file_system_that_is_mounted_twice_is_frozen_and_thawed_once(
    stack: Mounted, tmp_path: Path
) -> None:
    with filesystem(stack, tmp_path, "btrfs") as where:
        mounts.run_tool("btrfs", "subvolume", "create", str(where / "sub"))
        other, upon = tmp_path / "other", tmp_path / "upon"
        other.mkdir()
        upon.mkdir()
        node = loop.attached(str(stack.mapper("vol")))[0].node
        mounts.run_tool("mount", "-o", "subvol=sub", node, str(other))
        # The first mount point leads to something else.
        mounts.run_tool("mount", "--bind", str(upon), str(where))
        try:
            stack.call("dm.suspend", name="vol")
            with writer(stack, other / "file") as process:
                assert is_blocked(process)
                stack.call("dm.resume", name="vol")
                assert process.wait(20) == 0
            assert not is_frozen(other)
        finally:
            mounts.unmount(str(where))
            mounts.unmount(str(other))


def test_what_somebody_else_has_frozen_stays_frozen(stack: Mounted, tmp_path: Path) -> None:
    with filesystem(stack, tmp_path, "ext4") as where:
        mounts.run_tool("fsfreeze", "-f", str(where))
        stack.call("dm.suspend", name="vol")
        stack.call("dm.resume", name="vol")
        assert is_frozen(where)


def test_a_second_suspend_changes_nothing_and_one_resume_thaws(
    stack: Mounted, tmp_path: Path
) -> None:
    with filesystem(stack, tmp_path, "ext4") as where:
        stack.call("dm.suspend", name="vol")
        stack.call("dm.suspend", name="vol")
        stack.call("dm.resume", name="vol")
        assert not is_frozen(where)


@pytest.mark.parametrize("option", ["--nolockfs", "--noflush"])
def test_without_lockfs_nothing_is_frozen(stack: Mounted, tmp_path: Path, option: str) -> None:
    with filesystem(stack, tmp_path, "ext4") as where:
        file = where / "file"
        file.write_bytes(bytes(4096))
        assert stack.fusedm("dm", "suspend", "vol", option).returncode == 0
        # What is in the page cache may be changed.
        with writer(stack, file) as process:
            assert not is_blocked(process)
        stack.call("dm.resume", name="vol")


def test_what_a_freeze_writes_is_not_delayed(stack: Mounted, tmp_path: Path) -> None:
    with filesystem(stack, tmp_path, "ext4") as where:
        # Longer than a command may take.
        stack.call("dm.load", name="vol", table=f"0 {SECTORS} delay low 0 0 low 0 120000")
        assert stack.fusedm("dm", "resume", "vol", "--nolockfs").returncode == 0
        (where / "file").write_bytes(bytes(MIB))
        assert stack.fusedm("dm", "suspend", "vol").returncode == 0
        stack.call("dm.load", name="vol", table=f"0 {SECTORS} linear low 0")
        stack.call("dm.resume", name="vol")


def test_a_frozen_file_system_cannot_be_unmounted_which_would_leave_it_behind(
    stack: Mounted, tmp_path: Path
) -> None:
    with filesystem(stack, tmp_path, "ext4") as where:
        stack.call("dm.suspend", name="vol")
        with pytest.raises(StackError, match="is busy"):
            mounts.unmount(str(where))
        stack.call("dm.resume", name="vol")


def test_a_device_that_is_not_mounted_is_synced(stack: Mounted, tmp_path: Path) -> None:
    device = loop.attach(str(stack.mapper("vol")), 512)
    with opened(Path(device.node)) as fd:
        os.pwrite(fd, b"dirty" * 1000, 8192)
        stack.call("dm.suspend", name="vol")
        assert (tmp_path / "f0.img").read_bytes()[8192:13192] == b"dirty" * 1000
        stack.call("dm.resume", name="vol")
    loop.detach(device)


def test_a_suspend_that_is_given_up_while_it_freezes_is_undone(
    stack: Mounted, tmp_path: Path
) -> None:
    with filesystem(stack, tmp_path, "ext4") as where:
        (where / "dirty").write_bytes(b"d" * MIB)
        stack.call("dm.suspend", name="low", nolockfs=True)
        with Client(str(stack.mount_point)) as client:
            # What is dirty has no way down, so freezing does not end.
            client.send("dm.suspend", name="vol")
            time.sleep(WATCHED_SECONDS)
            assert stack.call("dm.show", name="vol")["suspending"] is False
        stack.call("dm.resume", name="low")
        with writer(stack, where / "file") as process:
            assert process.wait(20) == 0
        assert not is_frozen(where)


def test_a_swap_of_tables_freezes_and_thaws_and_carries_the_size(
    stack: Mounted, tmp_path: Path
) -> None:
    with filesystem(stack, tmp_path, "ext4") as where:
        node = loop.attached(str(stack.mapper("vol")))[0].node
        size_file = loop.SYS_BLOCK / Path(node).name / "size"
        more = SECTORS + 16384
        stack.call("dm.load", name="vol", table=f"0 {more} linear f0 0")
        stack.call("dm.resume", name="vol")
        assert int(size_file.read_text()) == more
        with opened(Path(node), os.O_RDONLY) as fd:
            assert os.lseek(fd, 0, os.SEEK_END) == more * 512
        assert not is_frozen(where)


def test_an_ending_daemon_thaws_and_leaves_a_clean_file_system(tmp_path: Path) -> None:
    with mounted_stack(STACK, tmp_path) as stack:
        where = make_filesystem(stack, tmp_path, "ext4")
        (where / "file").write_bytes(b"d" * MIB)
        stack.call("dm.suspend", name="vol")
        with writer(stack, where / "blocked") as process:
            assert is_blocked(process)
            assert stack.end() == 0
            assert process.wait(20) == 0
    assert mounts.mount_at(str(where)) is None
    os.truncate(tmp_path / "f0.img", SIZE)
    check("ext4", tmp_path / "f0.img")


def test_a_forced_down_thaws_before_it_unmounts(tmp_path: Path) -> None:
    stack_file, mount_point = write_stack(tmp_path, STACK)
    assert fusedm("up", str(stack_file), str(mount_point)).returncode == 0
    device = loop.attach(str(mount_point / "mapper/vol"), 512)
    where = tmp_path / "fs"
    where.mkdir()
    mounts.run_tool("mkfs.ext4", "-q", device.node)
    mounts.run_tool("mount", device.node, str(where))
    # One frozen by the stack, and then one by somebody else.
    assert fusedm("dm", "suspend", "--stack", str(mount_point), "vol").returncode == 0
    assert fusedm("dm", "resume", "--stack", str(mount_point), "vol").returncode == 0
    mounts.run_tool("fsfreeze", "-f", str(where))
    done = fusedm("down", "--force", str(mount_point))
    assert done.returncode == 0, done.stderr
    assert f"thawed {where}" in done.stderr
    assert f"detached {device.node}" in done.stderr
    os.truncate(tmp_path / "f0.img", SIZE)
    check("ext4", tmp_path / "f0.img")


@pytest.mark.parametrize("kind", nightly_but(["xfs"], ["ext4", "xfs", "btrfs"]))
def test_what_a_daemon_leaves_frozen_that_is_killed_can_be_cleared(
    tmp_path: Path, kind: str
) -> None:
    with mounted_stack(STACK, tmp_path) as stack:
        where = make_filesystem(stack, tmp_path, kind)
        node = loop.attached(str(stack.mapper("vol")))[0].node
        (where / "file").write_bytes(b"d" * MIB)
        stack.call("dm.suspend", name="vol")
        stack.end(signal.SIGKILL)
        done = fusedm("down", str(stack.mount_point))
        assert done.returncode == 1
        assert f"{node} is mounted at {where}" in done.stderr
        done = fusedm("down", "--force", str(stack.mount_point))
        assert done.returncode == 0, done.stderr
        assert f"thawed {where}" in done.stderr
    assert mounts.mount_at(str(where)) is None
    assert loop.attached(str(tmp_path)) == []
    # All that was dirty had been written before.
    with mounted_copy(kind, copy_of_store(tmp_path), tmp_path) as inside:
        assert (inside / "file").read_bytes() == b"d" * MIB


def test_only_what_fails_now_fails_a_suspend_and_not_what_nobody_was_told_of_before(
    stack: Mounted,
) -> None:
    device = loop.attach(str(stack.mapper("vol")), 512)
    for table in (f"0 {SECTORS} error", f"0 {SECTORS} linear low 0"):
        stack.call("dm.load", name="vol", table=table)
        stack.call("dm.resume", name="vol")
        if table.endswith("error"):
            Path(device.node).write_bytes(b"lost" * 1024)
    stack.call("dm.suspend", name="vol")
    stack.call("dm.load", name="vol", table=f"0 {SECTORS} error")
    stack.call("dm.resume", name="vol")
    with open(device.node, "r+b", buffering=0) as file:
        file.write(b"lost" * 1024)
        with pytest.raises(FusedmError, match="cannot be frozen .*: Input/output error"):
            stack.call("dm.suspend", name="vol")
    stack.call("dm.suspend", name="vol")
    stack.call("dm.resume", name="vol")
