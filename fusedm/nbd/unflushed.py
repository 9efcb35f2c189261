"""Writes that a server has acknowledged and not made durable: kept, so that none is ever lost.

A server that died may have lost them; whether it did, nobody can ask. So they are sent again on the
next connection, before anything else: in the order of their acknowledgement where they overlap, and
many at once where they do not.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from fusedm.nbd.transmission import Request
from fusedm.nbd.words import Command

#: Kept writes sent again together.
MAX_BATCH = 64

#: What a kept write counts as beside its data.
_EACH_BYTES = 256


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int
    command: int
    flags: int
    offset: int
    length: int
    data: bytes


class Unflushed:
    """The acknowledged changes since the last flush.

    size: bytes that they take here.
    """

    def __init__(self) -> None:
        self.size = 0
        self._kept: deque[_Kept] = deque()
        self._number = 0

    def add(self, request: Request) -> None:
        """Keep a change that has been acknowledged; its data are copied if they may change."""
        self._number += 1
        whole = request.data.obj
        if isinstance(whole, bytes) and len(whole) == len(request.data):
            data = whole
        else:
            data = bytes(request.data)
        self._kept.append(
            _Kept(
                self._number, request.command, request.flags, request.offset, request.length, data
            )
        )
        self.size += _EACH_BYTES + len(data)

    def mark(self) -> int:
        """What a flush that begins now will make durable, for flushed."""
        return self._number

    def flushed(self, mark: int) -> None:
        """A flush that began at the mark has succeeded."""
        while self._kept and self._kept[0].number <= mark:
            self.size -= _EACH_BYTES + len(self._kept.popleft().data)

    def batches(self) -> Iterator[list[Request]]:
        """All that is kept, as requests; each batch may be sent once the one before has ended."""
        batch: list[Request] = []
        for kept in tuple(self._kept):
            end = kept.offset + kept.length
            overlaps = any(
                kept.offset < other.offset + other.length and other.offset < end for other in batch
            )
            if overlaps or len(batch) == MAX_BATCH:
                yield batch
                batch = []
            data = memoryview(kept.data)
            again = Request(kept.command, kept.flags, kept.offset, kept.length, data)
            again.is_kept = True
            batch.append(again)
        if batch:
            yield batch


def is_change(command: int) -> bool:
    """Whether a command leaves something that a flush makes durable."""
    return command in (Command.WRITE, Command.WRITE_ZEROES)
