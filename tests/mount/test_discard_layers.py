"""What is given up goes down through every layer that lets it, and sparse stores shrink."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.host import loop, mounts
from tests.helpers.mounted import MIB, Mounted, mounted_stack, opened, read_at, write_at

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

SIZE = 16 * MIB
SECTORS = SIZE // 512

#: Each over two files, in which half of the device lies.
TABLES = {
    "linear": f"0 {SECTORS // 2} linear f0 0\n{SECTORS // 2} {SECTORS // 2} linear f1 0",
    "striped": f"0 {SECTORS} striped 2 128 f0 0 f1 0",
    "flakey": f"0 {SECTORS // 2} flakey f0 0 60 0\n{SECTORS // 2} {SECTORS // 2} flakey f1 0 60 0",
    "delay": f"0 {SECTORS // 2} delay f0 0 1\n{SECTORS // 2} {SECTORS // 2} delay f1 0 1",
}

STACK = """
version = 1
[disks.f0]
size = "8MiB"
store = "file:f0.img"
engine = {{ keyslots = 2, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [4096] }} }}
[disks.f1]
size = "8MiB"
store = "file:f1.img"
[mapper.below]
table = '''
{table}
'''
[mapper.vol]
table = "0 {sectors} linear below 0"
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
[views.home]
device = "vol"
key = "alice"
"""


@pytest.fixture(params=sorted(TABLES))
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounted]:
    text = STACK.format(table=TABLES[request.param], sectors=SECTORS)
    with mounted_stack(text, tmp_path) as mounted:
        yield mounted


def stored(directory: Path) -> int:
    """Bytes that both stores take on the medium they lie on."""
    return sum((directory / f"f{n}.img").stat().st_blocks << 9 for n in (0, 1))


def fill(file: Path) -> bytes:
    """Random data all over a file, on the media when this returns."""
    data = os.urandom(SIZE)
    write_at(file, 0, data, os.O_SYNC)
    return data


@pytest.mark.parametrize("path", ["mapper/vol", "views/home"])
def test_a_hole_in_a_file_is_one_in_the_stores(stack: Mounted, tmp_path: Path, path: str) -> None:
    file = stack.mount_point / path
    data = fill(file)
    before = stored(tmp_path)
    begin, length = SIZE // 4, SIZE // 2
    where = ["--offset", str(begin), "--length", str(length)]
    subprocess.run(["fallocate", "--punch-hole", *where, file], check=True)
    assert read_at(file, 0, SIZE) == data[:begin] + bytes(length) + data[begin + length :]
    assert before - stored(tmp_path) == length


@pytest.mark.parametrize("path", ["mapper/vol", "views/home"])
def test_a_discard_of_the_loop_device_empties_the_stores(
    stack: Mounted, tmp_path: Path, path: str
) -> None:
    file = stack.mount_point / path
    fill(file)
    assert stored(tmp_path) == SIZE
    device = loop.attach(str(file), 4096)
    mounts.run_tool("blkdiscard", device.node)
    with opened(Path(device.node), os.O_RDONLY) as fd:
        assert os.pread(fd, SIZE, 0) == bytes(SIZE)
    assert stored(tmp_path) == 0
    loop.detach(device)


@pytest.mark.parametrize("path", ["mapper/vol", "views/home"])
def test_fstrim_gives_the_stores_back_what_deleted_files_took(
    stack: Mounted, tmp_path: Path, path: str
) -> None:
    device = loop.attach(str(stack.mount_point / path), 4096)
    mounts.run_tool("mkfs.ext4", "-q", device.node)
    where = tmp_path / "fs"
    where.mkdir()
    mounts.run_tool("mount", device.node, str(where))
    try:
        kept = os.urandom(MIB)
        for name, data in (("gone", os.urandom(8 * MIB)), ("kept", kept)):
            (where / name).write_bytes(data)
        mounts.run_tool("sync", "--file-system", str(where))
        before = stored(tmp_path)
        (where / "gone").unlink()
        mounts.run_tool("sync", "--file-system", str(where))
        mounts.run_tool("fstrim", str(where))
        assert before - stored(tmp_path) > 7 * MIB
        assert (where / "kept").read_bytes() == kept
    finally:
        mounts.unmount(str(where))
