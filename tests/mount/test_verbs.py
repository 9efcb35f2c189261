"""The verbs of a device file are a block device's."""

import ctypes
import errno
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.mounted import MIB, USUAL, Mounted, mounted_stack, opened, read_at, write_at

pytestmark = pytest.mark.fuse

SIZE = 4 * MIB

READ_ONLY = """
[disks.fixed]
size = "1MiB"
store = "memory:"
read_only = true
[mapper.mfixed]
table = "0 2048 linear fixed 0"
[views.vfixed]
device = "mfixed"
key = "alice"
"""


@pytest.fixture(scope="module")
def stack(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(USUAL + READ_ONLY, tmp_path_factory.mktemp("verbs")) as mounted:
        yield mounted


def refusal(call: Callable[[], object]) -> int | None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        call()
    return caught.value.errno


def test_truncating_to_the_same_size_changes_nothing(stack: Mounted) -> None:
    write_at(stack.view("home"), 0, b"kept")
    os.truncate(stack.view("home"), SIZE)
    with opened(stack.view("home")) as fd:
        os.ftruncate(fd, SIZE)
    assert read_at(stack.view("home"), 0, 4) == b"kept"


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_truncating_to_another_size_is_einval(stack: Mounted, size: int) -> None:
    assert refusal(lambda: os.truncate(stack.view("home"), size)) == errno.EINVAL
    assert stack.view("home").stat().st_size == SIZE


def test_names_come_and_go_by_fusedms_verbs_only(stack: Mounted) -> None:
    home, new = stack.view("home"), stack.view("new")
    attempts: list[Callable[[], object]] = [
        home.unlink,
        lambda: home.rename(new),
        lambda: os.link(home, new),
        lambda: os.symlink("home", new),
        lambda: os.open(new, os.O_CREAT | os.O_RDWR),
        lambda: os.mknod(new),
        new.mkdir,
        (stack.mount_point / "views").rmdir,
        (stack.sys("ufs0") / "size").unlink,
    ]
    assert [refusal(attempt) for attempt in attempts] == [errno.EPERM] * len(attempts)
    assert home.exists()


def test_owner_and_mode_stay(stack: Mounted) -> None:
    assert refusal(lambda: os.chmod(stack.view("home"), 0o666)) == errno.EPERM
    assert refusal(lambda: os.chown(stack.view("home"), 1, 1)) == errno.EPERM


def test_touching_a_file_is_accepted(stack: Mounted) -> None:
    os.utime(stack.view("home"))


@pytest.mark.parametrize("path", ["disks/fixed", "mapper/mfixed", "views/vfixed"])
def test_a_read_only_device_refuses_to_be_opened_for_writing_to_root_as_well(
    stack: Mounted, path: str
) -> None:
    file = stack.mount_point / path
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC):
        assert refusal(lambda flags=flags: os.open(file, flags)) == errno.EROFS
    assert len(file.read_bytes()) == MIB


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("disks/ufs0", 0o100600),
        ("mapper/data", 0o100600),
        ("views/home", 0o100600),
        ("disks/fixed", 0o100400),
        ("views/vfixed", 0o100400),
        ("views", 0o040755),
        ("sys/block/ufs0/size", 0o100444),
    ],
)
def test_modes(stack: Mounted, path: str, mode: int) -> None:
    status = (stack.mount_point / path).stat()
    assert oct(status.st_mode) == oct(mode)
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


def test_seek_end_gives_the_size(stack: Mounted) -> None:
    with opened(stack.disk("ufs0"), os.O_RDONLY) as fd:
        assert os.lseek(fd, 0, os.SEEK_END) == SIZE == os.fstat(fd).st_size


def test_a_read_across_the_end_is_short_and_one_past_it_empty(stack: Mounted) -> None:
    assert len(read_at(stack.view("home"), SIZE - 10, 100)) == 10
    assert read_at(stack.view("home"), SIZE, 100) == b""
    assert read_at(stack.view("home"), SIZE + MIB, 100) == b""


@pytest.mark.parametrize("flags", [0, os.O_DIRECT], ids=["buffered", "O_DIRECT"])
@pytest.mark.parametrize("from_end", [-4096, -1, 0, 1, MIB])
def test_a_write_past_the_end_is_enospc_and_writes_nothing(
    stack: Mounted, from_end: int, flags: int
) -> None:
    write_at(stack.view("home"), SIZE - 8192, b"k" * 8192)
    refused = refusal(lambda: write_at(stack.view("home"), SIZE + from_end, b"x" * 8192, flags))
    assert refused == errno.ENOSPC
    assert read_at(stack.view("home"), SIZE - 8192, 8192) == b"k" * 8192
    assert stack.view("home").stat().st_size == SIZE


def test_appending_is_writing_past_the_end(stack: Mounted) -> None:
    with opened(stack.view("home"), os.O_WRONLY | os.O_APPEND) as fd:
        assert refusal(lambda: os.write(fd, b"x")) == errno.ENOSPC


def test_mtime_moves_on_a_write_and_only_there(stack: Mounted) -> None:
    before = stack.view("home").stat()
    read_at(stack.view("home"), 0, 1)
    assert stack.view("home").stat().st_mtime_ns == before.st_mtime_ns
    began = time.time()
    write_at(stack.view("home"), 0, b"x")
    after = stack.view("home").stat()
    assert began - 0.1 <= after.st_mtime <= time.time() + 0.1
    assert after.st_ctime_ns == before.st_ctime_ns
    assert stack.view("twin").stat().st_mtime < began


def test_statfs_tells_blocks_of_4096(stack: Mounted) -> None:
    told = os.statvfs(stack.view("home"))
    assert (told.f_bsize, told.f_frsize) == (4096, 4096)


def test_a_shared_writable_mapping_is_enodev(stack: Mounted) -> None:
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    with opened(stack.view("home")) as fd:
        assert refusal(lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, protection)) == errno.ENODEV


@pytest.mark.parametrize("name", ["size", "stat", "queue/logical_block_size"])
def test_text_files_are_not_written(stack: Mounted, name: str) -> None:
    assert refusal(lambda: os.open(stack.sys("ufs0") / name, os.O_WRONLY)) == errno.EACCES


def test_a_text_file_is_read_in_pieces_as_it_was_when_opened(stack: Mounted) -> None:
    with opened(stack.sys("data") / "stat", os.O_RDONLY) as fd:
        first = os.read(fd, 20)
        read_at(stack.mapper("data"), 0, 512)
        whole = first + os.read(fd, 4096)
    assert len(whole.split()) == 17
    assert whole.decode() != stack.told("data", "stat")


PUNCH, ZERO, ZERO_KEEP_SIZE = 0x03, 0x10, 0x11


def fallocate(path: Path, mode: int, offset: int, length: int) -> int:
    """The errno, 0 for success."""
    libc = ctypes.CDLL(None, use_errno=True)
    with opened(path) as fd:
        done = libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
    return ctypes.get_errno() if done else 0


@pytest.mark.parametrize("mode", [PUNCH, ZERO, ZERO_KEEP_SIZE], ids=["punch", "zero", "keep"])
@pytest.mark.parametrize("path", ["views/home", "views/small", "mapper/data", "disks/plain0"])
def test_fallocate_zeroes_its_bytes_only_and_with_the_lane_only(
    stack: Mounted, way: str, path: str, mode: int
) -> None:
    file = stack.mount_point / path
    # Across the two disks of the mapped device, and neither end on a block.
    begin, length = SIZE // 2 - 5000, 20_001
    write_at(file, begin - 8192, b"k" * (length + 16384))
    if way == "libfuse":
        assert fallocate(file, mode, begin, length) == errno.EOPNOTSUPP
        expected = b"k" * (length + 16384)
    else:
        assert fallocate(file, mode, begin, length) == 0
        expected = b"k" * 8192 + bytes(length) + b"k" * 8192
    assert read_at(file, begin - 8192, length + 16384) == expected


@pytest.mark.parametrize("mode", [0x00, 0x01, 0x08, 0x20], ids=["reserve", "keep", "cut", "insert"])
def test_fallocate_of_another_mode_is_refused_and_changes_nothing(
    stack: Mounted, mode: int
) -> None:
    write_at(stack.view("home"), 0, b"k" * 8192)
    assert fallocate(stack.view("home"), mode, 0, 4096) == errno.EOPNOTSUPP
    assert read_at(stack.view("home"), 0, 8192) == b"k" * 8192
    assert stack.view("home").stat().st_size == SIZE


def test_fallocate_past_the_end_is_as_on_a_block_device(stack: Mounted, way: str) -> None:
    lane = way == "lane"
    home = stack.view("home")
    write_at(home, SIZE - 4096, b"k" * 4096)
    beyond = errno.EINVAL if lane else errno.EOPNOTSUPP
    assert fallocate(home, ZERO, SIZE - 4096, 8192) == beyond
    assert fallocate(stack.mapper("data"), PUNCH, SIZE, 4096) == beyond
    assert read_at(home, SIZE - 4096, 4096) == b"k" * 4096
    assert fallocate(home, ZERO_KEEP_SIZE, SIZE - 2048, 8192) == (0 if lane else beyond)
    tail = bytes(2048) if lane else b"k" * 2048
    assert read_at(home, SIZE - 4096, 8192) == b"k" * 2048 + tail
    assert home.stat().st_size == SIZE


def test_punching_without_a_key_frees_space_of_a_file_store(
    stack: Mounted, way: str, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    stack.call("disk.add", name="sparse", store=f"file:{image}", size=SIZE)
    stack.call("dm.add", name="flat", table="0 8192 linear sparse 0")
    write_at(stack.mapper("flat"), 0, b"k" * SIZE)
    before = image.stat().st_blocks
    refused = fallocate(stack.mapper("flat"), PUNCH, 4096, SIZE - 8192)
    middle = bytes(SIZE - 8192) if way == "lane" else b"k" * (SIZE - 8192)
    assert refused == (0 if way == "lane" else errno.EOPNOTSUPP)
    assert (image.stat().st_blocks < before // 2) == (way == "lane")
    assert stack.mapper("flat").read_bytes() == b"k" * 4096 + middle + b"k" * 4096
    stack.call("dm.remove", name="flat")
    stack.call("disk.remove", name="sparse")


def tool_or_skip(*command: str | Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ["views/home", "disks/plain0"])
@pytest.mark.parametrize(
    "command",
    [
        ["cp", "IN", "OUT"],
        ["dd", "if=IN", "of=OUT", "bs=64k", "conv=fsync"],
        ["dd", "if=IN", "of=OUT", "bs=64k", "oflag=direct", "conv=notrunc"],
        ["dd", "if=IN", "of=OUT", "bs=1000", "count=500"],
        ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "IN", "OUT"],
        ["qemu-img", "convert", "-n", "-t", "none", "-f", "raw", "-O", "raw", "IN", "OUT"],
    ],
    ids=["cp", "dd fsync", "dd direct", "dd unaligned", "qemu-img", "qemu-img direct"],
)
def test_tools_copy_an_image_onto_a_file(
    stack: Mounted, path: str, command: list[str], tmp_path: Path
) -> None:
    image, file = tmp_path / "image", stack.mount_point / path
    # Half of it holes, which qemu-img makes zeros of.
    image.write_bytes(os.urandom(SIZE // 2))
    os.truncate(image, SIZE)
    write_at(file, 0, b"\xff" * SIZE)
    tool_or_skip(*(word.replace("IN", str(image)).replace("OUT", str(file)) for word in command))
    copied = 500_000 if "count=500" in command else SIZE
    assert read_at(file, 0, copied) == image.read_bytes()[:copied]
    assert read_at(file, copied, SIZE) == bytes(SIZE - copied)


def test_qemu_io_writes_and_verifies_a_pattern(stack: Mounted) -> None:
    steps = ["write -P 7 1000 5000", "flush", "read -P 7 1000 5000", "write -z 0 4096", "aio_flush"]
    words = [word for step in steps for word in ("-c", step)]
    tool_or_skip("qemu-io", "-f", "raw", *words, stack.view("small"))
    assert read_at(stack.view("small"), 0, 4097) == bytes(4096) + b"\7"


def test_a_file_that_was_closed_is_closed_for_the_next_command(stack: Mounted, way: str) -> None:
    """close() does not wait for the file system; what a script does next must not be refused."""
    for number in range(150):
        stack.call("dm.add", name="brief", table="0 8 linear plain0 0")
        with opened(stack.mapper("brief")) as fd:
            os.pread(fd, 4096, 0) if number % 2 else os.fsync(fd)
        stack.call("dm.remove", name="brief")
