"""Files and block devices of the host, and every way they can be unusable."""

import errno
import fcntl
import os
import resource
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fusedm.block import Op
from fusedm.block.errors import StoreError
from fusedm.stores import FileStore, file

MIB = 1 << 20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="MOUNT TEST SKIPPED: needs root")


@contextmanager
def mounted(path: Path, kind: str, options: str) -> Iterator[Path]:
    """A real file system of the host, for as long as the test runs."""
    path.mkdir()
    result = subprocess.run(
        ["mount", "-t", kind, "-o", options, kind, path], capture_output=True, text=True
    )
    if result.returncode:
        pytest.skip(f"MOUNT TEST SKIPPED: {kind} cannot be mounted: {result.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@contextmanager
def loop_device(file: Path, *options: str) -> Iterator[Path]:
    """A real block device over a file of the test."""
    result = subprocess.run(
        ["losetup", "--find", "--show", *options, file], capture_output=True, text=True
    )
    if result.returncode:
        pytest.skip(f"LOOP TEST SKIPPED: losetup: {result.stderr.strip()}")
    device = Path(result.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def refusal(call: Callable[[], FileStore]) -> StoreError:
    with pytest.raises(StoreError) as refused:
        call().close()
    assert "\n" not in str(refused.value)
    return refused.value


def contents(store: FileStore, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    store.pread_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_a_created_file_is_sparse_private_and_of_the_size(tmp_path: Path) -> None:
    FileStore.open(tmp_path / "d", MIB, create=True).close()
    info = (tmp_path / "d").stat()
    assert (info.st_size, info.st_blocks, stat.S_IMODE(info.st_mode)) == (MIB, 0, 0o600)


def test_an_existing_file_is_never_changed_by_opening(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"x" * 2048)
    with closing(FileStore.open(tmp_path / "d", 1024, create=True)) as store:
        assert store.size == 1024
    assert (tmp_path / "d").read_bytes() == b"x" * 2048


def test_without_a_size_the_whole_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(1536))
    with closing(FileStore.open(tmp_path / "d")) as store:
        assert store.size == 1536


def test_a_missing_file_is_refused_unless_it_may_be_created(tmp_path: Path) -> None:
    error = refusal(lambda: FileStore.open(tmp_path / "d", MIB))
    assert error.errno == errno.ENOENT
    assert str(error) == f"{tmp_path}/d: cannot be opened for writing: No such file or directory"


def test_a_missing_file_is_not_created_to_be_read(tmp_path: Path) -> None:
    error = refusal(lambda: FileStore.open(tmp_path / "d", MIB, create=True, read_only=True))
    assert error.errno == errno.ENOENT
    assert not (tmp_path / "d").exists()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    error = refusal(lambda: FileStore.open(tmp_path / "no" / "d", MIB, create=True))
    assert error.errno == errno.ENOENT
    assert f"directory {tmp_path}/no does not exist" in str(error)


def test_creating_needs_a_size(tmp_path: Path) -> None:
    error = refusal(lambda: FileStore.open(tmp_path / "d", create=True))
    assert "without a size it cannot be created" in str(error)
    assert not (tmp_path / "d").exists()


def test_a_link_that_leads_nowhere_is_not_followed_to_make_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    error = refusal(lambda: FileStore.open(tmp_path / "link", MIB, create=True))
    assert (error.errno, str(error)) == (
        errno.ENOENT,
        f"{tmp_path}/link: leads to nowhere, which is not there",
    )
    assert not (tmp_path / "nowhere").exists()


def test_a_size_the_file_system_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    # What that is depends on the file system; a limit of the process is one on each.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        error = refusal(lambda: FileStore.open(tmp_path / "d", 2 * MIB, create=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.errno == errno.EFBIG
    assert f"{tmp_path}/d: cannot be made {2 * MIB} bytes large: " in str(error)
    assert not (tmp_path / "d").exists()


def test_a_new_file_that_cannot_be_locked_is_removed(tmp_path: Path, monkeypatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(file, "lock_image", no_locks)
    error = refusal(lambda: FileStore.open(tmp_path / "d", MIB, create=True))
    assert error.errno == errno.ENOLCK
    assert not (tmp_path / "d").exists()


def test_removing_what_was_created_spares_what_came_in_its_place(tmp_path: Path) -> None:
    store = FileStore.open(tmp_path / "d", MIB, create=True)
    store.close()
    (tmp_path / "d").rename(tmp_path / "moved")
    (tmp_path / "d").write_bytes(b"another")
    store.remove_created()
    assert (tmp_path / "d").read_bytes() == b"another"
    (tmp_path / "moved").rename(tmp_path / "d")
    store.remove_created()
    store.remove_created()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_refused(tmp_path: Path) -> None:
    error = refusal(lambda: FileStore.open(tmp_path, MIB, create=True))
    assert error.errno == errno.EISDIR


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_what_is_neither_file_nor_block_device_is_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "d")
    error = refusal(lambda: FileStore.open(tmp_path / "d", MIB, create=True))
    assert "neither a regular file nor a block device" in str(error)


def test_a_file_that_is_too_small_is_refused_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(512))
    error = refusal(lambda: FileStore.open(tmp_path / "d", 1024, create=True))
    assert str(error) == f"{tmp_path}/d: too small: has 512 bytes, needs 1024"


@pytest.mark.parametrize("create", [True, False])
def test_a_size_of_broken_sectors_is_refused(tmp_path: Path, create: bool) -> None:
    if not create:
        (tmp_path / "d").write_bytes(bytes(1000))
    error = refusal(lambda: FileStore.open(tmp_path / "d", 1000 if create else None, create))
    assert "size 1000 is not a whole number of 512-byte blocks" in str(error)
    assert (tmp_path / "d").exists() is not create


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(512))
    (tmp_path / "d").chmod(0o400)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        error = refusal(lambda: FileStore.open(tmp_path / "d"))
    finally:
        os.seteuid(user)
    assert error.errno == errno.EACCES
    assert str(error).endswith("cannot be opened for writing: Permission denied")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_being_written_is_refused(tmp_path: Path, read_only: bool) -> None:
    with closing(FileStore.open(tmp_path / "d", MIB, create=True)):
        error = refusal(lambda: FileStore.open(tmp_path / "d", read_only=read_only))
    assert error.errno == errno.EBUSY
    assert "in use by another store" in str(error)


def test_closing_lets_the_next_one_in(tmp_path: Path) -> None:
    FileStore.open(tmp_path / "d", MIB, create=True).close()
    FileStore.open(tmp_path / "d", MIB).close()


def test_readers_share_a_file_and_keep_writers_out(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(512))
    with (
        closing(FileStore.open(tmp_path / "d", read_only=True)),
        closing(FileStore.open(tmp_path / "d", read_only=True)),
    ):
        assert refusal(lambda: FileStore.open(tmp_path / "d")).errno == errno.EBUSY


def test_a_refused_open_leaks_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(1000))
    before = os.listdir("/proc/self/fd")
    refusal(lambda: FileStore.open(tmp_path / "d"))
    assert os.listdir("/proc/self/fd") == before


def test_two_names_of_one_file_have_one_identity(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(512))
    os.link(tmp_path / "d", tmp_path / "e")
    (tmp_path / "f").write_bytes(bytes(512))
    stores = [FileStore.open(tmp_path / name, read_only=True) for name in "def"]
    for store in stores:
        store.close()
    assert stores[0].identity == stores[1].identity != stores[2].identity


def test_only_giving_up_pages_of_a_file_in_memory_may_block() -> None:
    with closing(FileStore(os.memfd_create("m"), Path("m"), MIB, read_only=False)) as store:
        assert [op for op in Op if store.may_block(op)] == [Op.DISCARD, Op.WRITE_ZEROES]


def test_a_file_on_a_medium_may_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fusedm.stores.file.is_in_memory", lambda fd: False)
    with closing(FileStore.open(tmp_path / "d", MIB, create=True)) as store:
        assert all(store.may_block(op) for op in Op)


def test_a_store_says_whether_its_file_was_made(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        with closing(FileStore.open(tmp_path / "d", MIB, create=True)) as store:
            made.append(store.created)
    assert made == [True, False]


def test_a_discard_gives_the_space_back(tmp_path: Path) -> None:
    with closing(FileStore.open(tmp_path / "d", MIB, create=True)) as store:
        store.pwrite(0, memoryview(b"x" * MIB))
        store.flush()
        full = (tmp_path / "d").stat().st_blocks
        store.discard(0, MIB)
        assert (tmp_path / "d").stat().st_blocks < full


def test_a_file_cut_short_by_someone_else_fails_reads_past_its_end(tmp_path: Path) -> None:
    with closing(FileStore.open(tmp_path / "d", MIB, create=True)) as store:
        os.truncate(tmp_path / "d", 512)
        assert contents(store, 0, 512) == bytes(512)
        with pytest.raises(OSError, match="ends at 512 of 1048576 bytes") as failed:
            contents(store, 0, 1024)
    assert failed.value.errno == errno.EIO


def test_a_hole_that_the_host_forbids_fails_with_its_errno() -> None:
    fd = os.memfd_create("store", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MIB)
    with closing(FileStore.open(f"/proc/self/fd/{fd}")) as store:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(OSError, match="not permitted") as failed:
            store.discard(0, MIB)
    os.close(fd)
    assert failed.value.errno == errno.EPERM


@needs_root
def test_a_full_file_system_gives_enospc_and_keeps_what_was_written(tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "full", "tmpfs", "size=1m") as directory,
        closing(FileStore.open(directory / "d", 4 * MIB, create=True)) as store,
    ):
        store.pwrite(0, memoryview(b"x" * (MIB // 2)))
        with pytest.raises(OSError, match="No space") as failed:
            store.pwrite(MIB // 2, memoryview(b"y" * (2 * MIB)))
        assert failed.value.errno == errno.ENOSPC
        assert contents(store, 0, MIB // 2) == b"x" * (MIB // 2)
        store.discard(0, 4 * MIB)
        store.pwrite(2 * MIB, memoryview(b"z" * 4096))
        assert contents(store, 2 * MIB, 4096) == b"z" * 4096


@needs_root
def test_a_host_without_holes_gets_zeros_written(tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "ram", "ramfs", "mode=700") as directory,
        closing(FileStore.open(directory / "d", 4 * MIB, create=True)) as store,
    ):
        store.pwrite(0, memoryview(b"x" * (4 * MIB)))
        store.discard(512, 2 * MIB + 512)
        kept = 4 * MIB - 2 * MIB - 1024
        assert contents(store, 0, 4 * MIB) == b"x" * 512 + bytes(2 * MIB + 512) + b"x" * kept


@needs_root
def test_a_read_only_file_system_is_refused_for_writing(tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "tmpfs", "size=1m") as directory:
        (directory / "d").write_bytes(bytes(512))
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        error = refusal(lambda: FileStore.open(directory / "d"))
        assert error.errno == errno.EROFS
        FileStore.open(directory / "d", read_only=True).close()


@pytest.mark.loop
@needs_root
def test_a_block_device_is_used_with_its_own_size_and_blocks(tmp_path: Path) -> None:
    (tmp_path / "back").write_bytes(b"x" * MIB)
    with (
        loop_device(tmp_path / "back", "--sector-size", "4096") as device,
        closing(FileStore.open(device)) as store,
    ):
        assert (store.size, store.logical_block_size) == (MIB, 4096)
        assert store.identity == (device.stat().st_rdev, 0)
        assert all(store.may_block(op) for op in Op)
        store.pwrite(4096, memoryview(b"y" * 4096))
        store.discard(8192, 8192)
        store.flush()
        expected = b"x" * 4096 + b"y" * 4096 + bytes(8192) + b"x" * 4096
        assert contents(store, 0, len(expected)) == expected


@pytest.mark.loop
@needs_root
def test_a_block_device_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "back").write_bytes(bytes(MIB))
    with loop_device(tmp_path / "back") as device, closing(FileStore.open(device)):
        assert refusal(lambda: FileStore.open(device)).errno == errno.EBUSY


@pytest.mark.loop
@needs_root
def test_a_block_device_that_is_too_small_is_refused(tmp_path: Path) -> None:
    (tmp_path / "back").write_bytes(bytes(MIB))
    with loop_device(tmp_path / "back") as device:
        error = refusal(lambda: FileStore.open(device, 2 * MIB))
    assert "too small: has 1048576 bytes, needs 2097152" in str(error)


@pytest.mark.loop
@needs_root
def test_what_is_written_to_the_image_below_a_block_device_is_seen_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    image = tmp_path / "back"
    image.write_bytes(b"old" * MIB)
    with loop_device(image) as device, closing(FileStore.open(device)) as store:
        assert b"oldold" in contents(store, 4096, 512)
        with image.open("r+b", buffering=0) as below:
            below.seek(4096)
            below.write(b"damaged")
        assert contents(store, 4096, 512).startswith(b"damaged")
        store.pwrite(8192, memoryview(b"n" * 512))
        assert image.read_bytes()[8192:8704] == b"n" * 512
        store.write_zeroes(8192, 512)
        assert image.read_bytes()[8192:8704] == bytes(512)


@pytest.mark.loop
@needs_root
def test_a_block_device_takes_buffers_of_any_size_that_begin_anywhere(tmp_path: Path) -> None:
    (tmp_path / "back").write_bytes(bytes(4 * MIB))
    data = os.urandom(2 * MIB + 512)
    with loop_device(tmp_path / "back") as device, closing(FileStore.open(device)) as store:
        store.pwrite(512, memoryview(b"x" + data)[1:])
        buffer = memoryview(bytearray(len(data) + 3))[3:]
        store.pread_into(512, buffer)
        assert buffer == data
        assert contents(store, len(data) + 512, 512) == bytes(512)
