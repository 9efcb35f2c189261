"""dust: like linear, with blocks that cannot be read until they are written.  See dust.md."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, StackError, Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.arguments import Arguments
from fusedm.dm.bad_blocks import BadBlocks
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

#: For messages.
MESSAGES = (
    "addbadblock B [FAILS], removebadblock B, queryblock B, countbadblocks, clearbadblocks, "
    "listbadblocks, enable, disable, quiet"
)


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
    enabled: bool = field(default=False, compare=False)

    @classmethod
    def make(cls, line: Arguments) -> "Dust":
        return cls(line.sector_count, line.segment(), line.number("blksz") // SECTOR_SIZE)

    def __post_init__(self) -> None:
        self.max_io_sectors = self.block_sectors
        device = self.segment.device
        self.bad = BadBlocks(device.name, device.sector_count // self.block_sectors)

    def params(self) -> list[Word]:
        return [*self.segment.params(), str(self.block_sectors * SECTOR_SIZE)]

    def status(self) -> list[Word]:
        mode = "fail_read_on_bad_block" if self.enabled else "bypass"
        return [self.segment.device, mode, "quiet" if self.bad.quiet else "verbose"]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        fails = self.bad.fails(self._block(bio)) if self.enabled else None
        if fails is not None and (fails or bio.op is Op.READ):
            return Fail(Status.IOERR)
        return self.segment.remap(bio)

    def steady(self, sector: int) -> Steady:
        """Between two bad blocks all is as without any; a bad one looks at each bio."""
        if not self.enabled or not self.bad:
            return ALWAYS
        start, size = self.segment.start_sector, self.block_sectors
        block = (start + sector) // size
        run = self.bad.around(block)
        ops = ALWAYS.ops if self.bad.fails(block) is None else frozenset({Op.FLUSH})
        return Steady(max(run.start * size - start, 0), run.stop * size - start, ops)

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        """A write to a bad block has failed once less often to come, or has made it good."""
        block = self._block(bio)
        fails = self.bad.fails(block) if self.enabled and bio.op is not Op.READ else None
        if fails and error is not None:
            self.bad.failed(block)
        elif fails == 0 and error is None:
            self.bad.written(block)
            self.changed()
        return error

    def message(self, words: list[str]) -> str:
        verb = words[0].lower()
        if (verb, len(words)) not in _MESSAGES:
            raise StackError(f"dust: message {' '.join(words)!r} is not one of: {MESSAGES}")
        reply = _MESSAGES[verb, len(words)](self, *map(_number, words[1:]))
        if verb in _CHANGING:
            self.changed()
        return reply

    def _block(self, bio: Bio) -> int:
        """The block of the first sector, on the device below; a FLUSH has none."""
        if bio.op is Op.FLUSH:
            return -1
        return (self.segment.start_sector + bio.sector) // self.block_sectors

    def _set(self, enabled: bool) -> str:
        self.enabled = enabled
        return ""


def _number(word: str) -> int:
    number = whole_number(word)
    if number is None:
        raise StackError(f"dust: {word!r} is not a number")
    return number


#: What each message does, by its first word and how many it has.
_MESSAGES: dict[tuple[str, int], Callable[..., str]] = {
    ("addbadblock", 2): lambda dust, block: dust.bad.add(block),
    ("addbadblock", 3): lambda dust, block, fails: dust.bad.add(block, fails),
    ("removebadblock", 2): lambda dust, block: dust.bad.remove(block),
    ("queryblock", 2): lambda dust, block: dust.bad.query(block),
    ("countbadblocks", 1): lambda dust: dust.bad.count(),
    ("clearbadblocks", 1): lambda dust: dust.bad.clear(),
    ("listbadblocks", 1): lambda dust: dust.bad.list(),
    ("enable", 1): lambda dust: dust._set(True),
    ("disable", 1): lambda dust: dust._set(False),
    ("quiet", 1): lambda dust: dust.bad.toggle_quiet(),
}

#: After which bios may go another way.
_CHANGING = {"addbadblock", "removebadblock", "clearbadblocks", "enable", "disable"}
