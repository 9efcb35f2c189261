"""Disks on images of a real cluster, through the mount and by the verbs."""

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from fusedm.host import mounts
from tests.ceph.conftest import MakeImage
from tests.helpers import reference_xts
from tests.helpers.ceph.cluster import Cluster
from tests.helpers.ceph.opened import SHORT, TIMEOUT, text_of
from tests.helpers.mounted import (
    KEY_TABLES,
    KEYS,
    MIB,
    Mounted,
    fusedm,
    mounted_stack,
    opened,
    read_at,
    write_at,
)

pytestmark = [pytest.mark.ceph, pytest.mark.fuse]

SIZE = 64 * MIB
SECTORS = SIZE // 512
UNIT = 4096

STACK = f"""
version = 1
[disks.far]
store = "STORE"
[disks.near]
size = "1MiB"
store = "memory:"
[mapper.vol]
table = "0 {SECTORS} linear far 0"
{KEY_TABLES}
[views.home]
device = "vol"
key = "alice"
"""


@pytest.fixture
def image(make_image: MakeImage) -> str:
    return make_image(SIZE)


@contextmanager
def stack_over(
    ceph: Cluster, image: str, folder: Path, seconds: int = TIMEOUT
) -> Iterator[Mounted]:
    """A stack with a disk far on an image, another near, vol over far, and home over vol."""
    text = STACK.replace("STORE", text_of(ceph, image, seconds))
    with mounted_stack(text, folder) as stack:
        yield stack


@pytest.mark.loop
def test_a_file_system_over_an_image_keeps_what_it_is_given(
    ceph: Cluster, image: str, tmp_path: Path
) -> None:
    where, random, sums = tmp_path / "fs", Random(0), {}
    where.mkdir()
    with stack_over(ceph, image, tmp_path) as stack:
        node = attached(stack)
        mounts.run_tool("mkfs.ext4", "-F", "-q", node)
        with file_system(node, where):
            for index in range(20):
                file = where / f"file{index}"
                file.write_bytes(random.randbytes(random.randrange(300_000)))
                sums[file] = sha256(file.read_bytes()).hexdigest()
        checked = subprocess.run(["e2fsck", "-fn", node], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
    with stack_over(ceph, image, tmp_path) as stack, file_system(attached(stack), where):
        assert {file: sha256(file.read_bytes()).hexdigest() for file in sums} == sums


def test_a_view_leaves_on_the_image_what_another_cipher_says(
    ceph: Cluster, image: str, tmp_path: Path
) -> None:
    data, first = Random(1).randbytes(64 * UNIT), 9 * 1024
    with stack_over(ceph, image, tmp_path) as stack:
        write_at(stack.view("home"), first * UNIT, data)
        assert read_at(stack.view("home"), first * UNIT, len(data)) == data
        assert stack.fusedm("verify", "home").returncode == 0
    medium = ceph.rbd_bytes("export", image, "-")
    offset = first * UNIT
    expected = reference_xts.encrypt(KEYS["alice"], UNIT, first, data)
    assert medium[offset : offset + len(data)] == expected
    assert medium[:offset].count(0) == offset


def test_disks_on_images_come_and_go_by_verbs(
    ceph: Cluster, image: str, make_image: MakeImage, tmp_path: Path
) -> None:
    more = make_image(4 * MIB)
    with stack_over(ceph, image, tmp_path) as stack:
        added = stack.fusedm("disk", "add", "more", "--store", text_of(ceph, more))
        assert added.returncode == 0, added.stderr
        assert stack.disk("more").stat().st_size == 4 * MIB
        assert stack.disk("more").stat().st_blocks == 0
        told = stack.fusedm("status").stdout
        assert "more: connected, writearound cache from the first flush on" in told
        write_at(stack.disk("more"), 0, b"!" * 512, os.O_DSYNC)
        refused = stack.fusedm("disk", "add", "again", "--store", text_of(ceph, more))
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "is in use: another client has its exclusive lock" in refused.stderr
        removed = stack.fusedm("disk", "remove", "more")
        assert removed.returncode == 0, removed.stderr
        assert "more" not in stack.fusedm("status").stdout
        assert ceph.rbd("lock", "ls", more).strip() == ""
        assert ceph.rbd_bytes("export", more, "-")[:512] == b"!" * 512


def test_a_snapshot_is_a_read_only_disk(ceph: Cluster, image: str, tmp_path: Path) -> None:
    with stack_over(ceph, image, tmp_path) as stack:
        write_at(stack.disk("far"), 0, b"then" * 128, os.O_DSYNC)
        ceph.rbd("snap", "create", f"{image}@then")
        write_at(stack.disk("far"), 0, b"now!" * 128, os.O_DSYNC)
        text = text_of(ceph, f"{image}@then")
        added = stack.fusedm("disk", "add", "then", "--store", text, "--read-only")
        assert added.returncode == 0, added.stderr
        assert read_at(stack.disk("then"), 0, 512) == b"then" * 128
        with pytest.raises(OSError, match="Read-only") as refused:
            write_at(stack.disk("then"), 0, bytes(512))
        assert refused.value.errno == errno.EROFS


def test_holes_of_an_image_are_holes_of_the_file(ceph: Cluster, image: str, tmp_path: Path) -> None:
    with (
        stack_over(ceph, image, tmp_path) as stack,
        opened(stack.disk("far")) as fd,
    ):
        os.pwrite(fd, b"x" * UNIT, 20 * MIB)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 20 * MIB
        assert os.lseek(fd, 20 * MIB, os.SEEK_HOLE) == 24 * MIB
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(fd, 24 * MIB, os.SEEK_DATA)


def test_a_hung_osd_holds_up_nobody_else_and_ends_in_timeouts(
    ceph: Cluster, image: str, tmp_path: Path
) -> None:
    with stack_over(ceph, image, tmp_path, seconds=SHORT) as stack:
        far, near = stack.disk("far"), stack.disk("near")
        write_at(far, 0, b"data" * 1024, os.O_DSYNC)
        forget(far)
        with ceph.hung(), ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_at, far, 0, UNIT)
            write_at(near, 0, b"near" * 1024, os.O_DSYNC)
            assert read_at(near, 0, UNIT) == b"near" * 1024
            with pytest.raises(OSError, match="timed out") as failed:
                reading.result()
            assert failed.value.errno == errno.ETIMEDOUT
            assert "far: the cluster does not answer in time" in stack.fusedm("status").stdout
        assert read_at(far, 0, UNIT) == b"data" * 1024
        assert "far: connected" in stack.fusedm("status").stdout


def test_a_suspend_waits_no_longer_than_a_hung_osd_takes_to_fail(
    ceph: Cluster, image: str, tmp_path: Path
) -> None:
    with stack_over(ceph, image, tmp_path, seconds=SHORT) as stack:
        vol = stack.mapper("vol")
        write_at(vol, 0, b"data" * 1024, os.O_DSYNC)
        forget(vol)
        with ceph.hung(), ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_at, vol, 0, UNIT)
            while stack.told("vol", "inflight").split() == ["0", "0"]:
                pass
            suspended = stack.fusedm("dm", "suspend", "vol")
            assert suspended.returncode == 0, suspended.stderr
            with pytest.raises(OSError, match="timed out"):
                reading.result()
        assert stack.fusedm("dm", "resume", "vol").returncode == 0
        assert read_at(vol, 0, UNIT) == b"data" * 1024


def test_a_daemon_ends_while_an_osd_hangs(ceph: Cluster, image: str, tmp_path: Path) -> None:
    with stack_over(ceph, image, tmp_path, seconds=SHORT) as stack:
        write_at(stack.disk("far"), 0, b"data" * 1024, os.O_DSYNC)
        with ceph.hung():
            assert stack.end() == 0
    assert mounts.mount_at(str(stack.mount_point)) is None


def test_a_daemon_that_could_not_flush_says_so_at_its_end(
    ceph: Cluster, image: str, tmp_path: Path
) -> None:
    # The helper minds that there are complaints, which are what is looked for.
    with suppress(AssertionError), stack_over(ceph, image, tmp_path, seconds=SHORT) as stack:
        write_at(stack.disk("far"), 0, b"data" * 1024, os.O_DSYNC)
        with ceph.hung():
            write_at(stack.disk("far"), 0, b"lost" * 1024)
            stack.end()
    assert stack.process.returncode == 1
    assert stack.complaints() == f"fusedm: {stack.mount_point}: Connection timed out\n"


def test_what_is_wrong_with_an_image_is_said_where_the_stack_file_names_it(
    ceph: Cluster, tmp_path: Path
) -> None:
    store = text_of(ceph, "rbd/nix")
    file, mount_point = tmp_path / "stack.toml", tmp_path / "mnt"
    file.write_text(f'version = 1\n[disks.far]\nstore = "{store}"\n')
    mount_point.mkdir()
    done = fusedm("up", str(file), str(mount_point))
    assert done.returncode == 1
    said = f"{file}:3: disks.far.store: rbd:rbd/nix: the image cannot be opened: No such file"
    assert said in done.stderr


def test_the_doctor_says_that_images_can_be_stores() -> None:
    told = fusedm("doctor").stdout.splitlines()
    assert [line for line in told if re.fullmatch(r"ok   librbd: .*: stores rbd:POOL/IMAGE", line)]


def attached(stack: Mounted) -> str:
    """The node of a loop device over the view."""
    done = stack.fusedm("attach", "home")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def file_system(node: str, where: Path) -> Iterator[None]:
    """A file system, mounted."""
    mounts.run_tool("mount", node, str(where))
    try:
        yield
    finally:
        mounts.unmount(str(where))


def forget(path: Path) -> None:
    """Have a file read from its device again."""
    with opened(path) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
