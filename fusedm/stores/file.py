"""A store in a regular file or on a block device of the host."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fusedm.block import Op
from fusedm.block.errors import StoreError
from fusedm.block.units import SECTOR_SIZE
from fusedm.stores.aligned import read_in_pieces, write_in_pieces
from fusedm.stores.descriptor import DescriptorStore
from fusedm.stores.geometry import check_size
from fusedm.stores.host import is_in_memory, logical_block_size
from fusedm.stores.image_lock import lock_image

#: How long a store waits for another one that is being made in its folder, which takes far less.
_FOLDER_SECONDS = 1.0


class FileStore(DescriptorStore):
    """A regular file, locked against a second user, or a block device.

    A block device is read and written past the page cache: what lies below it may have other ways
    to it, as the file of a loop device has, and what others write that way is to be seen here.
    Owns: the descriptor, from open until close. Calls keep no position: threads may call at once.
    """

    def __init__(self, fd: int, path: Path, size: int, read_only: bool) -> None:
        info = os.fstat(fd)
        self._is_device = is_device = stat.S_ISBLK(info.st_mode)
        self.path = path
        self.size = size
        self.logical_block_size = logical_block_size(fd) if is_device else SECTOR_SIZE
        self.read_only = read_only
        #: Equal for two stores on one medium: (st_dev, st_ino), or (st_rdev, 0) of a block device.
        self.identity = (info.st_rdev, 0) if is_device else (info.st_dev, info.st_ino)
        self._fd = fd
        #: Whether open() made the file.
        self.created = False
        # Anything else may wait: for a medium, a journal, a frozen file system, dirty pages.
        self._has_slow_data = is_device or not is_in_memory(fd)

    @classmethod
    def open(
        cls,
        path: str | Path,
        size: int | None = None,
        create: bool = False,
        read_only: bool = False,
    ) -> "FileStore":
        """Open the first size bytes of a file or block device, or all of it.

        A missing file is created with holes and mode 0600 if create is set and it may be written.

        Raises: StoreError with the host's errno where it had one; EBUSY if it is in use.
        """
        path = Path(path)
        try:
            with _alone_in(path.parent):
                fd, created = _open(path, size, create, read_only)
                try:
                    _lock(fd, read_only)
                    store = cls(fd, path, _usable_size(fd, path, size), read_only)
                    store.created = created
                    check_size(str(path), store.size, store.logical_block_size)
                except BaseException:
                    os.close(fd)
                    if created:
                        path.unlink()
                    raise
        except OSError as error:
            purpose = "reading" if read_only else "writing"
            text = f"{path}: cannot be opened for {purpose}: {error.strerror}"
            raise StoreError(text, error.errno) from None
        return store

    @property
    def allocated_bytes(self) -> int:
        """What the file takes, never nothing but in memory: other hosts tell of writes late.

        tar reads none of a file that takes nothing.
        """
        return max(super().allocated_bytes, SECTOR_SIZE if self._has_slow_data else 0)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; EIO if the file has become shorter meanwhile."""
        if self._is_device:
            read_in_pieces(super().pread_into, offset, buffer)
        else:
            super().pread_into(offset, buffer)

    def pwrite(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Write all of data; what the host took before an error stays written."""
        write = partial(super().pwrite, durably=durably)
        if self._is_device:
            write_in_pieces(write, offset, data)
        else:
            write(offset, data)

    def may_block(self, op: Op) -> bool:
        """Whether the host may take long: a file in memory (tmpfs) only for what frees pages."""
        return self._has_slow_data or op in (Op.DISCARD, Op.WRITE_ZEROES)

    def direct_fd(self) -> int:
        """The descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor, which also unlocks the file."""
        os.close(self._fd)

    def remove_created(self) -> None:
        """Remove the file if open() made it, and nobody has put another in its place since."""
        with suppress(FileNotFoundError):
            now = self.path.lstat()
            if self.created and (now.st_dev, now.st_ino) == self.identity:
                self.path.unlink()

    def _descriptor(self) -> int:
        return self._fd


def check_kind(path: Path, mode: int) -> None:
    """Refuse what is no medium, before it is opened: opening it might wait for ever.

    Raises: StoreError.
    """
    if stat.S_ISDIR(mode):
        raise StoreError(f"{path}: is a directory, not a file or block device", errno.EISDIR)
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise StoreError(f"{path}: is neither a regular file nor a block device")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no other store be made or locked in a folder, so that a new file is its maker's.

    A folder that cannot be locked is passed over: opening the file says what is wrong with it. So
    is one that stays locked: that is no store, but a script that takes turns by it.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        give_up = time.monotonic() + _FOLDER_SECONDS
        while not _is_locked_now(fd) and time.monotonic() < give_up:
            time.sleep(_FOLDER_SECONDS / 100)
        yield
    finally:
        os.close(fd)


def _is_locked_now(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path, size: int | None, create: bool, read_only: bool) -> tuple[int, bool]:
    """A descriptor of an existing node of the right kind, or of a new file, and whether it is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not create or read_only:
            raise
        return _create(path, size), True
    check_kind(path, mode)
    direct = os.O_DIRECT if stat.S_ISBLK(mode) else 0
    if read_only:
        return os.open(path, os.O_RDONLY | direct), False
    # O_EXCL without O_CREAT refuses a block device that is mounted or held by another such opener.
    return os.open(path, os.O_RDWR | direct | (os.O_EXCL if direct else 0)), False


def _create(path: Path, size: int | None) -> int:
    """A new file of holes; nothing is left behind if it cannot be made."""
    if size is None:
        raise StoreError(f"{path}: does not exist, and without a size it cannot be created")
    check_size(str(path), size)
    if path.is_symlink():
        raise StoreError(f"{path}: leads to {path.readlink()}, which is not there", errno.ENOENT)
    if not path.parent.is_dir():
        raise StoreError(f"{path}: directory {path.parent} does not exist", errno.ENOENT)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            text = f"{path}: cannot be made {size} bytes large: {error.strerror}"
            raise StoreError(text, error.errno) from None
        _sync_directory(path.parent)
    except BaseException:
        os.close(fd)
        path.unlink()
        raise
    return fd


def _sync_directory(path: Path) -> None:
    """Make a new name durable, without which flushing the file would promise too much."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(fd: int, read_only: bool) -> None:
    """Lock a regular file, so that no other daemon uses it while it changes."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        lock_image(fd, read_only)


def _usable_size(fd: int, path: Path, size: int | None) -> int:
    """The size asked for if the file is large enough, or its own."""
    own_size = os.lseek(fd, 0, os.SEEK_END)
    if size is not None and own_size < size:
        raise StoreError(f"{path}: too small: has {own_size} bytes, needs {size}")
    return own_size if size is None else size
