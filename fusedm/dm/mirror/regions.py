"""A set of regions as bits, the lowest bit of a byte first, as the kernel's mirror log has them."""

from collections.abc import Iterator

#: The kernel's sets are of whole words of 64 bits.
WORD_BYTES = 8


class Regions:
    """Some of so many regions; bits after the last are 0.

    bits may be a part of a larger buffer, which then holds the set.
    """

    __slots__ = ("bits", "count")

    def __init__(self, count: int, bits: memoryview | None = None) -> None:
        self.count = count
        self.bits = memoryview(bytearray(set_bytes(count))) if bits is None else bits

    def __contains__(self, region: int) -> bool:
        return bool(self.bits[region >> 3] >> (region & 7) & 1)

    def __len__(self) -> int:
        return int.from_bytes(self.bits).bit_count()

    def add(self, region: int) -> None:
        """Put one in."""
        self.bits[region >> 3] |= 1 << (region & 7)

    def discard(self, region: int) -> None:
        """Take one out."""
        self.bits[region >> 3] &= ~(1 << (region & 7))

    def take(self, other: "Regions") -> None:
        """Hold what another set of as many holds."""
        self.bits[:] = other.bits

    def fill(self, begin: int, is_in: bool) -> None:
        """Put all from one on in, or take them out."""
        for region in range(begin, min(-(-begin // 8) * 8, self.count)):
            (self.add if is_in else self.discard)(region)
        first, end = -(-begin // 8), len(self.bits)
        if first < end:
            self.bits[first:] = (b"\xff" if is_in else b"\0") * (end - first)
        self.cut()

    def cut(self) -> None:
        """Clear the bits after the last region."""
        whole, rest = divmod(self.count, 8)
        if rest:
            self.bits[whole] &= (1 << rest) - 1
            whole += 1
        self.bits[whole:] = bytes(len(self.bits) - whole)

    def missing(self) -> Iterator[int]:
        """Those that are not in it now, in order."""
        return _missing(self.bits.tobytes(), self.count)


def _missing(bits: bytes, count: int) -> Iterator[int]:
    for at, byte in enumerate(bits):
        if byte != 0xFF:
            for region in range(at * 8, min(at * 8 + 8, count)):
                if not byte >> (region & 7) & 1:
                    yield region


def set_bytes(count: int) -> int:
    """How many bytes a set of so many regions takes."""
    return -(-count // (8 * WORD_BYTES)) * WORD_BYTES
