"""How often each block is referred to, and which may be given out: a space map in memory. Pure.

Counts are kept as bitmaps on the device count: up to MANY in place, what is more beside it. Bytes,
not pairs of bits, so that a count is changed and a free block found in one step.

A block may be given out if nothing refers to it, nothing did at the last commit (or what a power
cut leaves would point to what has been overwritten), and whoever uses blocks has let go of it since
(`take_freed`, `recycle`).
"""

import errno
from array import array
from collections.abc import Iterable

from fusedm.block.errors import StackError
from fusedm.dm.thin.blocks import MANY, PER_BITMAP

#: Counts of all bitmaps that have not been needed yet; replaced before they are changed.
_ALL_FREE = bytearray(PER_BITMAP)


class Chunk:
    """The blocks of one bitmap, which lies in `block`.

    is_taken is not 0 for blocks that may not be given out. committed are counts and block of the
    last commit; None while nothing has changed.
    """

    __slots__ = ("block", "committed", "counts", "is_taken")

    def __init__(self, block: int = 0, counts: bytearray = _ALL_FREE) -> None:
        is_free = counts == _ALL_FREE
        self.block = block
        self.counts = _ALL_FREE if is_free else counts
        self.is_taken = _ALL_FREE if is_free else bytearray(counts)
        self.committed: tuple[bytearray, int] | None = None


class SpaceMap:
    """The counts of `blocks` blocks.

    many: those of MANY and more; changed_many: what was committed of those that have changed there.
    dirty: the bitmaps that are to be written anew, by their numbers.
    """

    def __init__(self, blocks: int, chunks: Iterable[Chunk], many: dict[int, int]) -> None:
        self.blocks = blocks
        self.chunks = list(chunks)
        self.many = many
        self.changed_many: dict[int, int] = {}
        self.dirty: dict[int, Chunk] = {}
        self.allocated = sum(PER_BITMAP - chunk.counts.count(0) for chunk in self.chunks)
        self._begin = 0
        self._given: list[int] = []
        self._freed = array("Q")
        self._released = array("Q")
        self._committed = (blocks, len(self.chunks), self.allocated)

    @property
    def free(self) -> int:
        """Blocks that nothing refers to."""
        return self.blocks - self.allocated

    @property
    def has_changes(self) -> bool:
        """Whether it differs from what has been committed."""
        return bool(self.dirty) or self.blocks != self._committed[0]

    def count(self, block: int) -> int:
        """How often a block is referred to."""
        chunk, at = divmod(block, PER_BITMAP)
        count = self.chunks[chunk].counts[at]
        return count if count < MANY else self.many[block]

    def add(self, block: int) -> None:
        """One more reference."""
        chunk, at = divmod(block, PER_BITMAP)
        of = self.dirty.get(chunk) or self.change(chunk)
        counts = of.counts
        count = counts[at]
        if count < MANY:
            counts[at] = count + 1
            if not count:
                self.allocated += 1
                if not of.is_taken[at]:
                    of.is_taken[at] = 1
                    self._given.append(block)
        if count + 1 >= MANY:
            self._set_many(block, self.many.get(block, MANY - 1) + 1)

    def drop(self, block: int) -> int:
        """One reference less; returns how many are left.

        Raises: StackError(EILSEQ) where there is none.
        """
        chunk, at = divmod(block, PER_BITMAP)
        of = self.dirty.get(chunk) or self.change(chunk)
        counts = of.counts
        count = counts[at]
        if not count:
            text = f"block {block} is referred to and counted as free"
            raise StackError(text, errno.EILSEQ)
        if count == MANY:
            left = self.many[block] - 1
            self._set_many(block, left)
            if left >= MANY:
                return left
        counts[at] = count - 1
        if count == 1:
            self.allocated -= 1
            self._freed.append(block)
        return count - 1

    def _set_many(self, block: int, count: int) -> None:
        self.changed_many.setdefault(block, self.many.get(block, 0))
        if count < MANY:
            del self.many[block]
        else:
            self.many[block] = count

    def find(self) -> int | None:
        """The block that would be given out next."""
        for begin, end in ((self._begin, self.blocks), (0, self._begin)):
            for number in range(begin // PER_BITMAP, -(-end // PER_BITMAP)):
                first = number * PER_BITMAP
                at = self.chunks[number].is_taken.find(0, max(begin - first, 0), end - first)
                if at >= 0:
                    self._begin = first + at
                    return first + at
        return None

    def allocate(self, what: str) -> int:
        """A block, now referred to once.

        Raises: StackError(ENOSPC) if none may be given out; what they are of is named.
        """
        block = self.find()
        if block is None:
            raise StackError(f"no {what} block is free (of {self.blocks})", errno.ENOSPC)
        self.add(block)
        self._begin = block + 1
        return block

    def resize(self, blocks: int) -> None:
        """Have more blocks, all of them free.

        Raises: StackError(EINVAL) for fewer.
        """
        if blocks < self.blocks:
            raise StackError(f"{blocks} blocks are fewer than before ({self.blocks})")
        self.blocks = blocks
        while len(self.chunks) * PER_BITMAP < blocks:
            self.chunks.append(Chunk())
            self.change(len(self.chunks) - 1)

    def change(self, number: int) -> Chunk:
        """A bitmap whose counts are about to change."""
        chunk = self.dirty[number] = self.chunks[number]
        chunk.committed = chunk.counts[:], chunk.block
        if chunk.counts is _ALL_FREE:
            chunk.counts = bytearray(PER_BITMAP)
            chunk.is_taken = bytearray(PER_BITMAP)
        return chunk

    def take_freed(self) -> "array[int]":
        """What commits have made free since this was called last; given out after recycle only."""
        freed, self._released = self._released, array("Q")
        return freed

    def recycle(self, freed: Iterable[int]) -> None:
        """Let blocks that were freed be given out."""
        for block in freed:
            number, at = divmod(block, PER_BITMAP)
            chunk = self.chunks[number]
            if not chunk.counts[at] and not (chunk.committed and chunk.committed[0][at]):
                chunk.is_taken[at] = 0

    def commit(self) -> None:
        """What is counted now has been committed."""
        for chunk in self.dirty.values():
            chunk.committed = None
        self.dirty.clear()
        self.changed_many.clear()
        self._given.clear()
        self._released.extend(array("Q", (b for b in self._freed if not self.count(b))))
        self._freed = array("Q")
        self._committed = (self.blocks, len(self.chunks), self.allocated)

    def abort(self) -> None:
        """Count as at the last commit."""
        self.blocks, count, self.allocated = self._committed
        for block in self._given:
            number, at = divmod(block, PER_BITMAP)
            self.chunks[number].is_taken[at] = 0
        for chunk in self.dirty.values():
            assert chunk.committed is not None, "what is dirty has been changed"
            chunk.counts[:], chunk.block = chunk.committed
            chunk.committed = None
        del self.chunks[count:]
        self.dirty.clear()
        for block, many in self.changed_many.items():
            self.many.pop(block, None)
            if many:
                self.many[block] = many
        self.changed_many.clear()
        self._given.clear()
        self._freed = array("Q")
        self._begin = 0

    def rewind(self) -> None:
        """Look for free blocks from the first one on again."""
        self._begin = 0
