"""Holes of files through a real mount: lseek finds them, copies skip them, fallocate makes them."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounted import MIB, Mounted, mounted_stack, opened, read_at, write_at

pytestmark = pytest.mark.fuse

SIZE = 8 * MIB

STACK = """
version = 1
[disks.m0]
size = "4MiB"
store = "memory:"
engine = { keyslots = 2, max_dun_bytes = 8, modes = { "AES-256-XTS" = [4096] } }
[disks.f0]
size = "4MiB"
store = "file:f0.img"
[mapper.data]
table = '''
0 8192 linear m0 0
8192 8192 linear f0 0
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


@pytest.fixture(scope="module")
def mounted(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path_factory.mktemp("holes")) as mounted:
        yield mounted


@pytest.fixture
def stack(mounted: Mounted, way: str) -> Mounted:
    """With disks of zeros, and of holes where that can be asked for."""
    for disk in (mounted.disk("m0"), mounted.disk("f0")):
        write_at(disk, 0, bytes(4 * MIB))
        if way == "lane":
            assert punch(disk, 0, 4 * MIB).returncode == 0
    return mounted


def punch(file: Path, offset: int, length: int) -> "subprocess.CompletedProcess[str]":
    """Give a range of a file up."""
    where = ["--offset", str(offset), "--length", str(length)]
    return subprocess.run(
        ["fallocate", "--punch-hole", *where, file], capture_output=True, text=True, check=False
    )


def outline(file: Path) -> list[tuple[int, int]]:
    """The data of a file, as the kernel tells."""
    found, at = [], 0
    with opened(file, os.O_RDONLY) as fd:
        while at < SIZE:
            try:
                begin = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            at = os.lseek(fd, begin, os.SEEK_HOLE)
            found.append((begin, at))
    return found


@pytest.mark.parametrize("path", ["mapper/data", "views/home"])
def test_holes_are_found_by_the_lane_and_without_it_all_is_data(
    stack: Mounted, path: str, way: str
) -> None:
    file = stack.mount_point / path
    assert outline(file) == ([] if way == "lane" else [(0, SIZE)])
    write_at(file, MIB, b"x" * MIB)
    write_at(file, 4 * MIB - 4096, b"y" * 8192)
    write_at(file, SIZE - 4096, b"z" * 4096)
    there = [(MIB, 2 * MIB), (4 * MIB - 4096, 4 * MIB + 4096), (SIZE - 4096, SIZE)]
    assert outline(file) == (there if way == "lane" else [(0, SIZE)])


@pytest.mark.parametrize("offset", [SIZE, SIZE + 1, 1 << 40])
@pytest.mark.parametrize("whence", [os.SEEK_DATA, os.SEEK_HOLE])
def test_seeking_at_the_end_and_beyond_is_enxio(stack: Mounted, offset: int, whence: int) -> None:
    with opened(stack.view("home")) as fd, pytest.raises(OSError, match="No such device") as caught:
        os.lseek(fd, offset, whence)
    assert caught.value.errno == errno.ENXIO


def test_seeking_in_a_text_file_does_not_end_it_for_devices(stack: Mounted, way: str) -> None:
    """Were it refused with ENOSYS, the kernel would call everything data from then on."""
    with opened(stack.sys("m0") / "size", os.O_RDONLY) as fd:
        assert seek_answer(fd) == (-errno.EOPNOTSUPP if way == "lane" else 0)
    assert outline(stack.disk("m0")) == ([] if way == "lane" else [(0, 4 * MIB)])


def seek_answer(fd: int) -> int:
    """Where data begin, or the negative errno."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        return -(error.errno or 0)


def test_a_sparse_copy_is_equal(stack: Mounted, tmp_path: Path) -> None:
    write_at(stack.view("home"), 3 * MIB, os.urandom(2 * MIB))
    copy = tmp_path / "copy"
    subprocess.run(["cp", "--sparse=always", stack.view("home"), copy], check=True)
    assert copy.read_bytes() == stack.view("home").read_bytes()
    assert copy.stat().st_blocks * 512 < 3 * MIB


@pytest.mark.parametrize("path", ["disks/m0", "disks/f0", "mapper/data", "views/home"])
def test_a_file_shows_the_blocks_that_are_taken_below(stack: Mounted, path: str, way: str) -> None:
    file = stack.mount_point / path
    write_at(file, 0, os.urandom(MIB))
    sync(file)
    info = file.stat()
    if way == "lane":
        assert MIB <= info.st_blocks * 512 < MIB + 65536
    write_at(file, 0, os.urandom(info.st_size))
    sync(file)
    assert file.stat().st_blocks * 512 == info.st_size


#: Each puts a copy of FILE into the folder OUT.
COPIES = {
    "cp": "cp FILE OUT",
    "cp --sparse=always": "cp --sparse=always FILE OUT",
    "tar": "tar -C / -Scf - .FILE | tar -C OUT --strip-components=DEPTH -xSf -",
    "rsync": "rsync -S FILE OUT",
}


@pytest.mark.parametrize("name", COPIES)
def test_tools_make_sparse_copies(stack: Mounted, name: str, way: str, tmp_path: Path) -> None:
    if name == "rsync" and shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    file = stack.view("home")
    write_at(file, 5 * MIB, os.urandom(MIB))
    words = {"FILE": str(file), "OUT": str(tmp_path), "DEPTH": str(len(file.parts) - 1)}
    command = COPIES[name]
    for word, value in words.items():
        command = command.replace(word, value)
    subprocess.run(["sh", "-c", command], check=True)
    assert (tmp_path / "home").read_bytes() == file.read_bytes()
    if way == "lane" or name in ("cp --sparse=always", "rsync"):
        assert (tmp_path / "home").stat().st_blocks * 512 < 2 * MIB


def test_a_hole_in_a_view_frees_the_blocks_of_the_file_below(stack: Mounted, way: str) -> None:
    """A part of a data unit at either end stays allocated, as zeros under the key."""
    below, view = stack.mount_point.parent / "f0.img", stack.view("home")
    data = os.urandom(SIZE)
    write_at(view, 0, data)
    sync(view)
    full = below.stat().st_blocks
    begin, length = 5 * MIB - 100, MIB + 200
    done = punch(view, begin, length)
    if way == "libfuse":
        assert done.returncode != 0
        assert read_at(view, 0, SIZE) == data
        return
    assert done.returncode == 0, done.stderr
    sync(view)
    assert read_at(view, 0, SIZE) == data[:begin] + bytes(length) + data[begin + length :]
    freed = (full - below.stat().st_blocks) * 512
    assert MIB - 65536 <= freed <= MIB, "but for what the file system needs to remember it"
    assert read_at(stack.disk("f0"), MIB, MIB) == bytes(MIB)
    assert outline(view) == [(0, 5 * MIB), (6 * MIB, SIZE)]


def sync(file: Path) -> None:
    """Have blocks allocated on the media."""
    with opened(file) as fd:
        os.fsync(fd)
