"""From a byte range to whole blocks: what a write replaces, and what it only patches. Pure."""

from fusedm.block.value import value


@value
class BlockRange:
    """Adjacent blocks that a write touches, and the part of its payload that goes there.

    Units:  bytes; begin and end are multiples of the block size.
    Shapes: payload[first:last] goes to begin + offset; offset is 0 and the length end - begin where
            the blocks are replaced entirely; else it is one block, to be read first.
    """

    begin: int
    end: int
    offset: int
    first: int
    last: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the blocks' old content remains."""
        return self.last - self.first == self.end - self.begin


def cover(offset: int, length: int, block_size: int) -> tuple[int, int]:
    """Begin and end of the whole blocks that hold a byte range."""
    end = offset + length
    return offset - offset % block_size, end + -end % block_size


def split_write(offset: int, length: int, block_size: int) -> list[BlockRange]:
    """A write as head, body and tail: at most one patched block at each end, the rest whole.

    Shapes: the ranges are adjacent and cover the write; none for an empty one.
    """
    ranges = []
    done = 0
    while done < length:
        at = offset + done
        begin = at - at % block_size
        whole = (length - done) // block_size * block_size
        if begin < at or not whole:
            size = min(begin + block_size - at, length - done)
            ranges.append(BlockRange(begin, begin + block_size, at - begin, done, done + size))
        else:
            size = whole
            ranges.append(BlockRange(begin, begin + size, 0, done, done + size))
        done += size
    return ranges
