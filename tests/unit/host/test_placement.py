"""Stores on the mount they would be part of, found through symlinks, loop devices and mounts."""

import errno
import os
import stat
from pathlib import Path

import pytest

from fusedm.block.errors import StoreError
from fusedm.host.placement import check_creatable, check_not_on

MOUNTINFO = """\
27 1 254:0 / / rw,relatime - ext4 /dev/no-such-disk rw
28 27 7:0 / {root}/on\\040loop rw - ext4 /dev/no-such-loop0 rw
29 27 7:1 / {root}/twice rw shared:7 - xfs /dev/no-such-loop1 rw
30 27 259:3 / {root}/part rw - ext4 /dev/no-such-loop0p1 rw
31 27 253:0 / {root}/mapped rw - ext4 /dev/no-such-dm-0 rw
32 27 7:9 / {root}/elsewhere rw - ext4 /dev/no-such-loop9 rw
"""


class Host:
    """A picture of a host: sysfs and mountinfo below a directory of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mountpoint = root / "mnt"
        self.mountpoint.mkdir()
        self.sysfs = root / "sys"
        self.loop("7:0", f"{self.mountpoint}/views/a (deleted)")
        self.loop("7:1", f"{root}/on loop/image")
        self.loop("7:9", f"{root}/image")
        partition = self.sysfs / "dev/block/7:0/loop0p1"
        partition.mkdir()
        (partition / "partition").write_text("1\n")
        (self.sysfs / "dev/block/259:3").symlink_to(partition)
        slaves = self.sysfs / "dev/block/253:0/slaves"
        slaves.mkdir(parents=True)
        (slaves / "loop1").symlink_to(self.sysfs / "dev/block/7:1")

    def loop(self, number: str, backing_file: str) -> None:
        directory = self.sysfs / "dev/block" / number / "loop"
        directory.mkdir(parents=True)
        (directory / "backing_file").write_text(f"{backing_file}\n")

    def check(self, path: Path) -> None:
        check_not_on(path, self.mountpoint, self.sysfs, MOUNTINFO.format(root=self.root))

    def refusal(self, path: Path) -> StoreError:
        with pytest.raises(StoreError) as refused:
            self.check(path)
        assert refused.value.errno == errno.ELOOP
        return refused.value


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("path", ["image", "new/file", "mnt-2/file", "elsewhere/image"])
def test_a_path_elsewhere_is_accepted(host: Host, path: str) -> None:
    host.check(host.root / path)


@pytest.mark.parametrize("path", ["mnt", "mnt/disks/a", "new/../mnt/x"])
def test_a_path_inside_the_mount_point_is_refused(host: Host, path: str) -> None:
    error = host.refusal(host.root / path)
    assert str(error) == f"{host.root / path}: lies inside the mount point {host.mountpoint}"


def test_a_symlink_into_the_mount_point_is_refused(host: Host) -> None:
    (host.root / "link").symlink_to(host.mountpoint / "disks")
    host.refusal(host.root / "link/a")


def test_a_mount_point_given_by_a_symlink_is_found(host: Host) -> None:
    (host.root / "link").symlink_to(host.mountpoint)
    with pytest.raises(StoreError):
        check_not_on(host.mountpoint / "a", host.root / "link", host.sysfs, "")


def test_a_file_system_on_a_loop_over_the_mount_is_refused(host: Host) -> None:
    error = host.refusal(host.root / "on loop/image")
    assert f"through a loop device over {host.mountpoint}/views/a" in str(error)


@pytest.mark.parametrize("path", ["twice/image", "part/image", "mapped/image"])
def test_a_chain_of_loops_partitions_and_mapped_devices_is_followed(host: Host, path: str) -> None:
    host.refusal(host.root / path)


def test_loops_that_go_in_a_circle_end(host: Host) -> None:
    host.loop("7:2", f"{host.root}/circle/image")
    mountinfo = f"40 27 7:2 / {host.root}/circle rw - ext4 /dev/no-such-loop2 rw\n"
    check_not_on(host.root / "circle/image", host.mountpoint, host.sysfs, mountinfo)


def test_the_topmost_of_two_mounts_on_one_point_counts(host: Host) -> None:
    under = f"40 27 7:0 / {host.root}/p rw - ext4 /dev/no-such-loop0 rw\n"
    over = f"41 27 254:0 / {host.root}/p rw - ext4 /dev/no-such-disk rw\n"
    check_not_on(host.root / "p/image", host.mountpoint, host.sysfs, under + over)
    with pytest.raises(StoreError):
        check_not_on(host.root / "p/image", host.mountpoint, host.sysfs, over + under)


def test_the_mount_bound_elsewhere_is_refused(host: Host) -> None:
    own = f"40 27 0:50 / {host.mountpoint} rw - fuse.fusedm fusedm rw\n"
    bound = f"41 27 0:50 / {host.root}/bound rw - fuse.fusedm fusedm rw\n"
    check_not_on(host.root / "bound/image", host.mountpoint, host.sysfs, own)
    with pytest.raises(StoreError):
        check_not_on(host.root / "bound/image", host.mountpoint, host.sysfs, own + bound)


@pytest.fixture
def loop_node(tmp_path: Path) -> Path:
    """A node of the loop device over the mount, under another name; it is never opened."""
    try:
        os.mknod(tmp_path / "any-name", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    except PermissionError:
        pytest.skip("LOOP TEST SKIPPED: mknod is not permitted")
    return tmp_path / "any-name"


def test_a_loop_device_by_any_name_over_the_mount_is_refused(host: Host, loop_node: Path) -> None:
    host.refusal(loop_node)


def test_the_source_of_a_mount_with_an_anonymous_device_is_looked_at(
    host: Host, loop_node: Path
) -> None:
    mountinfo = f"40 27 0:99 / {host.root}/pool rw - btrfs {loop_node} rw\n"
    with pytest.raises(StoreError):
        check_not_on(host.root / "pool/image", host.mountpoint, host.sysfs, mountinfo)


def test_the_real_host_is_looked_at_when_none_is_given(tmp_path: Path) -> None:
    check_not_on(tmp_path / "image", tmp_path / "mnt")
    with pytest.raises(StoreError):
        check_not_on(tmp_path / "mnt/image", tmp_path / "mnt")


NODES = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
28 27 0:6 / {dev} rw - {fs_type} none rw
29 28 0:25 / {dev}/shm rw - tmpfs none rw
"""


@pytest.mark.parametrize("path", ["/dev/nope", "/dev/no/folder/nope", "/dev/mapper/nope"])
@pytest.mark.parametrize("fs_type", ["devtmpfs", "tmpfs"])
def test_no_file_is_made_among_the_nodes_of_devices(path: str, fs_type: str) -> None:
    with pytest.raises(StoreError, match="is not there, and no file is made among") as refused:
        check_creatable(path, NODES.format(dev="/dev", fs_type=fs_type))
    assert refused.value.errno == errno.ENOENT


def test_no_file_is_made_in_a_dev_that_is_a_plain_folder() -> None:
    with pytest.raises(StoreError, match="is not there"):
        check_creatable("/dev/nope", NODES.splitlines()[0])


def test_no_file_is_made_in_a_devtmpfs_of_any_place_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "link").symlink_to("dev")
    table = NODES.format(dev=tmp_path / "dev", fs_type="devtmpfs")
    for path in (tmp_path / "dev/nope", tmp_path / "link/nope"):
        with pytest.raises(StoreError, match="is not there"):
            check_creatable(path, table)
    check_creatable(tmp_path / "d.img", table)


def test_what_is_there_may_be_anywhere_and_new_files_on_dev_shm() -> None:
    for path in ("/dev/null", "/dev/shm/nope"):
        check_creatable(path, NODES.format(dev="/dev", fs_type="devtmpfs"))
    check_creatable("/dev/shm/nope")
