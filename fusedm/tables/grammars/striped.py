"""striped, unstriped and switch: several devices side by side."""

import errno

from fusedm.tables.finding import REFUSES_IT, TAKES, Kernel
from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import Device, Number, Offset, Repeat
from fusedm.tables.reader import Reader

#: A region takes fusedm 1 byte of memory with up to 256 paths: at most 128 MiB.
MAX_REGIONS = 1 << 27


class _StripeOffset:
    """A stripe is shorter than the target, so it may begin later."""

    def read(self, line: Reader) -> bool:
        """Take one word."""
        whole = line.sector_count
        line.sector_count //= max(line.number("stripes"), 1)
        try:
            return Offset().read(line)
        finally:
            line.sector_count = whole


def _length_fits(line: Reader) -> None:
    stripes, chunk = line.number("stripes"), line.number("chunk")
    if line.sector_count % (stripes * chunk):
        line.error(
            f"length {line.sector_count} is not a multiple of {stripes} stripes * {chunk} sectors"
        )
    elif chunk % 8:
        line.warn(
            f"chunk {chunk}: is not a multiple of 8 sectors, so data units of 4096 bytes are cut",
            line.get("chunk"),
        )


def _index_fits(line: Reader) -> None:
    stripes, chunk, index = (line.number(name) for name in ("stripes", "chunk", "index"))
    if line.sector_count % chunk:
        line.error(f"length {line.sector_count} is not a multiple of the chunk of {chunk} sectors")
    if index > stripes > 1:
        line.error(f"index {index}: is not below {stripes} stripes", line.get("index"))
    elif index >= stripes:
        # An off-by-one of the kernel's, and no look at all where there is one stripe.
        line.warn(
            f"index {index}: there is no such stripe, they are 0..{stripes - 1}",
            line.get("index"),
            Kernel(0, why="its check of the index is wrong"),
            REFUSES_IT,
        )


class _Reserved:
    """A word that must be 0."""

    def read(self, line: Reader) -> bool:
        """Take one word."""
        return Number("optional arguments", maximum=0).read(line)


def _regions(line: Reader) -> None:
    region, paths = line.number("region_size"), line.number("paths")
    regions = -(-line.sector_count // region)
    if regions > MAX_REGIONS:
        line.error(
            f"region_size {region}: {regions} regions, more than {MAX_REGIONS}",
            line.get("region_size"),
            Kernel(0, why="if there is memory for its table"),
            REFUSES_IT,
        )
    if region > line.sector_count and paths > 1:
        line.warn(
            f"region_size {region}: one region holds all {line.sector_count} sectors, so only the "
            "first path is used",
            line.get("region_size"),
            TAKES,
        )


GRAMMARS = [
    Grammar(
        "striped",
        "stripes chunk [dev offset]+",
        (
            Number("stripes", minimum=1),
            Number("chunk", "sectors", minimum=1),
            Repeat("stripes", (Device(), _StripeOffset()), words=2),
        ),
        (_length_fits,),
    ),
    Grammar(
        "unstriped",
        "stripes chunk index dev offset",
        (
            Number("stripes", minimum=1),
            Number("chunk", "sectors", minimum=1),
            Number("index"),
            Device(),
            Offset(),
        ),
        (_index_fits,),
        # As in the kernel, which device it is that is missing makes no difference.
        lookup_errno=errno.EINVAL,
    ),
    Grammar(
        "switch",
        "paths region_size 0 [dev offset]+",
        (
            Number("paths", minimum=1),
            Number("region_size", "sectors", minimum=1),
            _Reserved(),
            Repeat("paths", (Device(), Offset()), words=2),
        ),
        (_regions,),
    ),
]
