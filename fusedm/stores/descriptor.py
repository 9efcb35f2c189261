"""What the stores behind a file descriptor share: reading, writing, holes."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable

from fusedm.stores.geometry import check_writable
from fusedm.stores.host import allocated_bytes, punch_hole

#: Zeros are written in pieces of this size where the host cannot make holes.
_ZEROS = memoryview(bytes(1 << 20))


class DescriptorStore(ABC):
    """Bytes behind a descriptor. Calls keep no position there: threads may call at once."""

    size: int
    logical_block_size: int
    read_only: bool

    @abstractmethod
    def _descriptor(self) -> int:
        """The descriptor, open until close."""

    @property
    def allocated_bytes(self) -> int:
        """What the file takes at the host, which may be more than the part that is used."""
        return min(allocated_bytes(self._descriptor(), self.size), self.size)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; EIO if the file has become shorter meanwhile."""
        self._transfer(os.preadv, offset, buffer)

    def pwrite(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Write all of data; what the host took before an error stays written."""
        check_writable(self.read_only)
        self._transfer(_pwritev_durably if durably else os.pwritev, offset, data)

    def flush(self) -> None:
        """Make everything durable.

        The size never changes, so fdatasync is enough: it leaves out nothing but the times.
        """
        os.fdatasync(self._descriptor())

    def discard(self, offset: int, length: int) -> None:
        """Punch a hole, or write zeros where the host cannot."""
        self.write_zeroes(offset, length)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Punch a hole, or write zeros where the host cannot."""
        check_writable(self.read_only)
        try:
            punch_hole(self._descriptor(), offset, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            for done in range(0, length, len(_ZEROS)):
                self.pwrite(offset + done, _ZEROS[: length - done])

    def seek_data(self, offset: int) -> int:
        """Where data begin, at offset or after it; the size if there are none."""
        try:
            return min(os.lseek(self._descriptor(), offset, os.SEEK_DATA), self.size)
        except OSError as error:
            # ENXIO: nothing but a hole from there on. EINVAL: the host does not know holes.
            if error.errno not in (errno.ENXIO, errno.EINVAL):
                raise
            return self.size if error.errno == errno.ENXIO else offset

    def seek_hole(self, offset: int) -> int:
        """Where a hole begins, at offset or after it; the size if there is none."""
        try:
            return min(os.lseek(self._descriptor(), offset, os.SEEK_HOLE), self.size)
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.EINVAL):
                raise
            return self.size

    def _transfer(
        self, call: Callable[[int, list[memoryview], int], int], offset: int, buffer: memoryview
    ) -> None:
        """Call until the whole buffer is done: the host may do less at a time."""
        descriptor = self._descriptor()
        while buffer:
            count = call(descriptor, [buffer], offset)
            if count == len(buffer):
                return
            if not count:
                raise OSError(errno.EIO, f"the medium ends at {offset} of {self.size} bytes")
            buffer = buffer[count:]
            offset += count


def _pwritev_durably(descriptor: int, buffers: list[memoryview], offset: int) -> int:
    return os.pwritev(descriptor, buffers, offset, os.RWF_DSYNC)
