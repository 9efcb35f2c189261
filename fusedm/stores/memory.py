"""A sparse store in memory: a file of the kernel's memory that has no name."""

import os
import weakref
from threading import Lock

from fusedm.block import Op
from fusedm.block.units import SECTOR_SIZE
from fusedm.stores.descriptor import DescriptorStore
from fusedm.stores.geometry import check_size


class MemoryStore(DescriptorStore):
    """Only pages that something was written to take memory; what is given up is freed.

    The file is made when it is first needed, so that thousands of disks that nobody opens take no
    descriptor each. Lives: until it is closed or forgotten.
    """

    def __init__(
        self, size: int, logical_block_size: int = SECTOR_SIZE, read_only: bool = False
    ) -> None:
        check_size("memory", size, logical_block_size)
        self.size = size
        self.logical_block_size = logical_block_size
        self.read_only = read_only
        self._making = Lock()
        self._fd: int | None = None
        self._release: weakref.finalize[[int], MemoryStore] | None = None

    @property
    def allocated_bytes(self) -> int:
        """Memory taken by pages."""
        return super().allocated_bytes if self._fd is not None else 0

    def may_block(self, op: Op) -> bool:
        """Never."""
        return False

    def direct_fd(self) -> int:
        """The file's descriptor."""
        return self._descriptor()

    def close(self) -> None:
        """Free everything."""
        if self._release is not None:
            self._release()
            self._fd = self._release = None

    def _descriptor(self) -> int:
        if self._fd is None:
            with self._making:  # Two threads must not make a file each.
                if self._fd is None:
                    fd = os.memfd_create("fusedm", os.MFD_CLOEXEC)
                    self._release = weakref.finalize(self, os.close, fd)
                    os.ftruncate(fd, self.size)
                    self._fd = fd
        return self._fd
