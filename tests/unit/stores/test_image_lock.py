"""Who keeps whom out of an image, and who is in nobody's way."""

import errno
import fcntl
import os
import struct
from contextlib import closing
from pathlib import Path

import pytest

from fusedm.block.errors import StoreError
from fusedm.stores import FileStore
from fusedm.stores.image_lock import check_image

#: What QEMU's locks say, by their bytes in the file.
READS, WRITES = 100, 101
NO_READERS, NO_WRITERS, NO_RESIZING = 200, 201, 203


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    return path


def opened(image: Path, read_only: bool) -> FileStore:
    return FileStore.open(image, read_only=read_only)


def told(call: int, fd: int, kind: int, byte: int) -> int:
    answer = fcntl.fcntl(fd, call, struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))
    return int(struct.unpack_from("h", answer)[0])


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_locks_the_bytes_that_qemu_would(image: Path, read_only: bool):
    with closing(opened(image, read_only)), image.open("r+b") as other:
        held = [
            byte
            for byte in range(512)
            if told(fcntl.F_OFD_GETLK, other.fileno(), fcntl.F_WRLCK, byte) != fcntl.F_UNLCK
        ]
    doing = [READS] if read_only else [READS, WRITES]
    assert held == [*doing, NO_WRITERS, NO_RESIZING]


@pytest.mark.parametrize(
    ("held", "read_only", "is_refused"),
    [
        (WRITES, False, True),
        (WRITES, True, True),
        (NO_WRITERS, False, True),
        (NO_WRITERS, True, False),
        (NO_READERS, True, True),
        (READS, False, False),
    ],
)
def test_a_store_minds_what_qemu_has_locked(
    image: Path, held: int, read_only: bool, is_refused: bool
):
    with image.open("r+b") as other:
        told(fcntl.F_OFD_SETLK, other.fileno(), fcntl.F_RDLCK, held)
        if is_refused:
            with pytest.raises(StoreError, match="in use by another store or by QEMU") as caught:
                opened(image, read_only)
            assert caught.value.errno == errno.EBUSY
        else:
            opened(image, read_only).close()
    opened(image, read_only).close()


def test_a_lock_on_the_whole_file_is_neither_taken_nor_minded(image: Path):
    with image.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with closing(opened(image, False)):
            fcntl.flock(other, fcntl.LOCK_UN)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_looking_whether_an_image_is_free_takes_no_lock(image: Path):
    with image.open("rb") as one, image.open("rb") as other:
        check_image(one.fileno(), read_only=False)
        check_image(other.fileno(), read_only=False)
        with closing(opened(image, True)):
            check_image(one.fileno(), read_only=True)
            with pytest.raises(OSError, match="in use"):
                check_image(one.fileno(), read_only=False)


def test_a_folder_that_somebody_else_keeps_locked_hinders_nobody(image: Path):
    folder = os.open(image.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        opened(image, False).close()
        FileStore.open(image.with_name("new"), 4096, create=True).close()
    finally:
        os.close(folder)
