"""dust: like linear, with blocks that cannot be read until they are written.  See dust.md."""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, StackError, Status
from fusedm.block.units import MAX_SECTORS, SECTOR_SIZE
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import (
    ALWAYS,
    Action,
    Fail,
    Segment,
    Steady,
    Target,
    Word,
)
from fusedm.tables import whole_number

#: How often writing to a bad block may be told to fail.
MAX_FAILS = 255

#: For messages.
MESSAGES = (
    "addbadblock B [FAILS], removebadblock B, queryblock B, countbadblocks, clearbadblocks, "
    "listbadblocks, enable, disable, quiet"
)

log = logging.getLogger(__name__)


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 0 1024", "d1 2048 4096"]


@dataclass
class Dust(Target):
    """A list of bad blocks, minded while enabled.

    It reads no data, but which blocks are bad is about the medium, and the kernel's does not pass.
    """

    name = "dust"
    version = (1, 0, 0)
    passes_crypto = False

    sector_count: int
    segment: Segment
    block_sectors: int
    #: Bad blocks of the device below, and how many more writes to each fail.
    bad: dict[int, int] = field(default_factory=dict, compare=False)
    enabled: bool = field(default=False, compare=False)
    quiet: bool = field(default=False, compare=False)
    #: The bad blocks in order, if they are known.
    in_order: list[int] | None = field(default=None, compare=False)

    @classmethod
    def make(cls, line: Arguments) -> "Dust":
        return cls(line.sector_count, line.segment(), line.number("blksz") // SECTOR_SIZE)

    def __post_init__(self) -> None:
        self.max_io_sectors = self.block_sectors

    def params(self) -> list[Word]:
        return [*self.segment.params(), str(self.block_sectors * SECTOR_SIZE)]

    def status(self) -> list[Word]:
        mode = "fail_read_on_bad_block" if self.enabled else "bypass"
        return [self.segment.device, mode, "quiet" if self.quiet else "verbose"]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        fails = self.bad.get(self._block(bio)) if self.enabled else None
        if fails is not None and (fails or bio.op is Op.READ):
            return Fail(Status.IOERR)
        return self.segment.remap(bio)

    def steady(self, sector: int) -> Steady:
        """Between two bad blocks all is as without any; a bad one looks at each bio."""
        if not self.enabled or not self.bad:
            return ALWAYS
        if self.in_order is None:
            self.in_order = sorted(self.bad)
        start, size = self.segment.start_sector, self.block_sectors
        block = (start + sector) // size
        index = bisect_left(self.in_order, block)
        begin = self.in_order[index - 1] + 1 if index else 0
        end = self.in_order[index] if index < len(self.in_order) else MAX_SECTORS // size
        ops = ALWAYS.ops
        if end == block:
            begin, end, ops = block, block + 1, frozenset({Op.FLUSH})
        return Steady(max(begin * size - start, 0), end * size - start, ops)

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        """A write to a bad block has failed once less often to come, or has made it good."""
        block = self._block(bio)
        fails = self.bad.get(block) if self.enabled and bio.op is not Op.READ else None
        if fails and error is not None:
            self.bad[block] = fails - 1
        elif fails == 0 and error is None:
            del self.bad[block]
            self.changed()
            self._log(f"block {block} is good again, it was written")
        return error

    def message(self, words: list[str]) -> str:
        verb = words[0].lower()
        if (verb, len(words)) not in _MESSAGES:
            raise StackError(f"dust: message {' '.join(words)!r} is not one of: {MESSAGES}")
        return _MESSAGES[verb, len(words)](self, *map(self._number, words[1:]))

    def _number(self, word: str) -> int:
        number = whole_number(word)
        if number is None:
            raise StackError(f"dust: {word!r} is not a number")
        return number

    def _check_block(self, block: int) -> None:
        """The block after the last is let pass, as in the kernel; no bio ever gets there."""
        count = self.segment.device.sector_count // self.block_sectors
        if block > count:
            raise StackError(f"dust: block {block} is past {self.segment.device.name} ({count})")

    def _block(self, bio: Bio) -> int:
        """The block of the first sector, on the device below; a FLUSH has none."""
        if bio.op is Op.FLUSH:
            return -1
        return (self.segment.start_sector + bio.sector) // self.block_sectors

    def _log(self, text: str) -> None:
        if not self.quiet:
            log.info("dust over %s: %s", self.segment.device.name, text)

    def _add(self, block: int, fails: int = 0) -> str:
        self._check_block(block)
        if fails > MAX_FAILS:
            raise StackError(f"dust: {fails} failures of writes is not in 0..{MAX_FAILS}")
        if block in self.bad:
            raise StackError(f"dust: block {block} is bad already")
        self.bad[block] = fails
        self.changed()
        self._log(f"block {block} is bad, {fails} writes to it fail")
        return ""

    def _remove(self, block: int) -> str:
        self._check_block(block)
        if self.bad.pop(block, None) is None:
            raise StackError(f"dust: block {block} is not bad")
        self.changed()
        self._log(f"block {block} is good again")
        return ""

    def _query(self, block: int) -> str:
        self._check_block(block)
        found = "found" if block in self.bad else "not found"
        return f"dust_query_block: block {block} {found} in badblocklist"

    def _count(self) -> str:
        return f"countbadblocks: {len(self.bad)} badblock(s) found"

    def _clear(self) -> str:
        what = "badblocks cleared" if self.bad else "no badblocks found"
        self.bad.clear()
        self.changed()
        return f"dust_clear_badblocks: {what}"

    def _list(self) -> str:
        return "".join(f"{block}\n" for block in sorted(self.bad)) or "No blocks in badblocklist"

    def _set(self, enabled: bool) -> str:
        self.enabled = enabled
        self.changed()
        return ""

    def changed(self) -> None:
        self.in_order = None
        super().changed()

    def _toggle_quiet(self) -> str:
        self.quiet = not self.quiet
        return ""


#: What each message does, by its first word and how many it has.
_MESSAGES: dict[tuple[str, int], Callable[..., str]] = {
    ("addbadblock", 2): Dust._add,
    ("addbadblock", 3): Dust._add,
    ("removebadblock", 2): Dust._remove,
    ("queryblock", 2): Dust._query,
    ("countbadblocks", 1): Dust._count,
    ("clearbadblocks", 1): Dust._clear,
    ("listbadblocks", 1): Dust._list,
    ("enable", 1): lambda dust: dust._set(True),
    ("disable", 1): lambda dust: dust._set(False),
    ("quiet", 1): Dust._toggle_quiet,
}
