"""The kernel's asynchronous I/O (io_submit), as qemu, fio and loop devices send it."""

import ctypes
import errno
import mmap
import os
import platform
import struct
from types import TracebackType
from typing import Self

#: io_setup, io_destroy, io_submit, io_getevents: no C library has functions for them.
_CALLS = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4), "riscv64": (0, 1, 2, 4)}

#: Source: struct iocb and struct io_event in include/uapi/linux/aio_abi.h (little-endian).
_IOCB = struct.Struct("<QIIHhIQQqQII")
_EVENT = struct.Struct("<QQqq")

_IOCB_CMD_PREAD = 0
_IOCB_CMD_PWRITE = 1

_libc = ctypes.CDLL(None, use_errno=True)


class AsyncReads:
    """Reads of 4096 bytes of a file opened with O_DIRECT, sent all together.

    Owns: the descriptor and the buffers; on exit it waits for the reads it has sent.
    """

    SIZE = 4096
    _COMMAND = _IOCB_CMD_PREAD
    _FLAGS = os.O_RDONLY

    def __init__(self, path: os.PathLike[str], offsets: list[int]) -> None:
        self._setup, self._destroy, self._submit, self._getevents = _CALLS[platform.machine()]
        self._offsets = offsets
        self._buffer = mmap.mmap(-1, self.SIZE * len(offsets))
        self._fd = os.open(path, self._FLAGS | os.O_DIRECT)
        self._context = ctypes.c_ulong(0)
        self._call(self._setup, len(offsets), ctypes.byref(self._context))

    def send(self) -> None:
        """Send them; the kernel may hold this up if it has too many already."""
        pinned = ctypes.c_char.from_buffer(self._buffer)
        address = ctypes.addressof(pinned)
        del pinned
        # The kernel copies the control blocks, the buffer is ours for as long as the object lives.
        blocks = [
            ctypes.create_string_buffer(
                _IOCB.pack(
                    index, 0, 0, self._COMMAND, 0, self._fd,
                    address + index * self.SIZE, self.SIZE, offset, 0, 0, 0,
                )
            )
            for index, offset in enumerate(self._offsets)
        ]  # fmt: skip
        pointers = (ctypes.c_void_p * len(blocks))(*map(ctypes.addressof, blocks))
        sent = self._call(self._submit, self._context, len(blocks), pointers)
        assert sent == len(blocks), f"{sent} of {len(blocks)} were taken"

    def done_count(self, at_least: int = 0) -> int:
        """Take those that have ended, waiting for so many; each must have been whole."""
        events = ctypes.create_string_buffer(_EVENT.size * len(self._offsets))
        count = self._call(
            self._getevents, self._context, ctypes.c_long(at_least),
            ctypes.c_long(len(self._offsets)), events, None if at_least else bytes(16),
        )  # fmt: skip
        results = [event[2] for event in _EVENT.iter_unpack(events.raw[: count * _EVENT.size])]
        assert set(results) <= {self.SIZE}, f"they ended with {results}"
        return count

    def data(self) -> bytes:
        """What was read, in the order of the offsets."""
        return self._buffer[:]

    def _call(self, number: int, *arguments: object) -> int:
        result: int = _libc.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), errno.errorcode[ctypes.get_errno()])
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._destroy, self._context)
        os.close(self._fd)
        self._buffer.close()


class AsyncWrites(AsyncReads):
    """The same for writes, each of its part of data."""

    _COMMAND = _IOCB_CMD_PWRITE
    _FLAGS = os.O_RDWR

    def __init__(self, path: os.PathLike[str], offsets: list[int], data: bytes) -> None:
        super().__init__(path, offsets)
        self._buffer[:] = data
