"""Real device nodes over loop devices, in a folder of the test's own, and sizes that change."""

import errno
import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.block.errors import StackError
from fusedm.host import loop, mounts, nodes
from fusedm.host.loop import LoopDevice
from tests.helpers.mounted import MIB, Mounted, mounted_stack, opened

pytestmark = pytest.mark.loop

STACK = """
version = 1
[disks.m0]
size = "64MiB"
store = "memory:"
[mapper.vol]
table = "0 65536 linear m0 0"
"""


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "disk.img"
    file.touch()
    os.truncate(file, 64 * MIB)
    yield file
    loop.release_all(str(tmp_path), force=True)


@pytest.fixture
def device(image: Path) -> LoopDevice:
    return loop.attach(str(image), 512)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    return folder


@pytest.fixture
def dev(tmp_path: Path) -> str:
    folder = tmp_path / "dev"
    folder.mkdir()
    return str(folder)


def test_a_node_is_a_block_device_of_its_own_for_the_group_disk(
    device: LoopDevice, records: Path, dev: str
) -> None:
    node = nodes.make("two words", device, records, dev)
    assert node.path == rf"{dev}/mapper/two\x20words"
    info = os.lstat(node.path)
    assert stat.S_ISBLK(info.st_mode)
    assert info.st_rdev == os.stat(device.node).st_rdev
    assert stat.S_IMODE(info.st_mode) == 0o660
    assert info.st_gid == grp.getgrnam("disk").gr_gid
    assert nodes.ours(records) == [node]
    with opened(Path(node.path)) as fd:
        assert os.pread(fd, 512, 0) == bytes(512)


def test_making_a_node_again_changes_nothing(device: LoopDevice, records: Path, dev: str) -> None:
    node = nodes.make("vol", device, records, dev)
    inode = os.stat(node.path).st_ino
    assert nodes.make("vol", device, records, dev) == node
    assert os.stat(node.path).st_ino == inode


def test_a_node_of_ours_for_another_device_is_replaced(
    image: Path, device: LoopDevice, records: Path, dev: str
) -> None:
    nodes.make("vol", device, records, dev)
    other = loop.attach(str(image), 512)
    node = nodes.make("vol", other, records, dev)
    assert mounts.device_of_node(node.path) == mounts.device_of_node(other.node)
    assert nodes.ours(records) == [node]


def test_what_others_have_at_the_path_is_never_replaced(
    device: LoopDevice, records: Path, dev: str
) -> None:
    os.mkdir(f"{dev}/mapper")
    foreign = f"{dev}/mapper/vol"
    os.mknod(foreign, stat.S_IFBLK | 0o600, os.makedev(7, 999))
    with pytest.raises(StackError, match="is there already and not ours") as caught:
        nodes.make("vol", device, records, dev)
    assert caught.value.errno == errno.EEXIST
    mine = nodes.make("mine", device, records, dev)
    with pytest.raises(StackError, match="vol: is there already"):
        nodes.rename(mine, "vol", records)
    assert nodes.ours(records) == [mine]
    assert mounts.device_of_node(foreign) == "7:999"


def test_a_node_is_renamed_and_removed(device: LoopDevice, records: Path, dev: str) -> None:
    node = nodes.rename(nodes.make("old", device, records, dev), "new", records)
    assert os.listdir(f"{dev}/mapper") == ["new"]
    assert nodes.ours(records) == [node]
    nodes.remove(node, records)
    assert os.listdir(f"{dev}/mapper") == []
    assert nodes.ours(records) == []


def test_a_node_is_stale_when_its_loop_device_has_gone_and_not_before(
    device: LoopDevice, records: Path, dev: str
) -> None:
    node = nodes.make("vol", device, records, dev)
    os.mknod(f"{dev}/mapper/foreign", stat.S_IFBLK | 0o600, os.stat(device.node).st_rdev)
    assert nodes.clear_stale(records) == []
    loop.detach(device)
    assert nodes.clear_stale(records) == [f"removed the stale node {node.path}"]
    assert os.listdir(f"{dev}/mapper") == ["foreign"]


def test_a_device_that_is_open_by_its_other_node_is_busy(
    device: LoopDevice, records: Path, dev: str
) -> None:
    node = nodes.make("vol", device, records, dev)
    with opened(Path(node.path)):
        pid = os.fork()
        if pid == 0:  # Somebody else: our own descriptors are not looked at.
            os.read(os.pipe()[0], 1)
            os._exit(0)
    try:
        with pytest.raises(StackError, match=rf"is held by \S+ \(pid {pid}\)"):
            loop.refuse_busy(device)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    loop.refuse_busy(device)


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_a_device_that_is_mounted_by_its_other_node_is_busy(
    image: Path, records: Path, dev: str, tmp_path: Path, kind: str
) -> None:
    os.truncate(image, 128 * MIB)
    device = loop.attach(str(image), 4096)
    node = nodes.make("vol", device, records, dev)
    mounts.run_tool(f"mkfs.{kind}", "-q", node.path)
    where = tmp_path / "fs"
    where.mkdir()
    mounts.run_tool("mount", node.path, str(where))
    try:
        assert mounts.mounts_of_source(device.node)[0].source == node.path
        with pytest.raises(StackError, match=f"{device.node} is mounted at {where}"):
            loop.refuse_busy(device)
    finally:
        mounts.unmount(str(where))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


def sectors(device: LoopDevice) -> int:
    return int((loop.SYS_BLOCK / Path(device.node).name / "size").read_text())


@pytest.mark.fuse
def test_a_loop_device_takes_the_size_its_file_has_grown_or_shrunk_to(stack: Mounted) -> None:
    path = str(stack.mapper("vol"))
    device = loop.attach(path, 512)
    for count in (131072, 8192):
        stack.call("dm.load", name="vol", table=f"0 {count} linear m0 0")
        stack.call("dm.resume", name="vol")
        assert loop.set_capacity(device, path) == count * 512
        assert sectors(device) == count
    loop.detach(device)
    with pytest.raises(StackError):
        loop.set_capacity(device, path)
