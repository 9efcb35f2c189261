"""Targets over one origin: how they find each other, and how one takes another's copy over.

Nothing is kept for that. The origin knows the mapped devices that hold it, their tables have the
targets, and those of snapshots have the copies. A copy is in a table's target from preresume on,
so while one table takes the place of another there is no moment in which it is not found.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from fusedm.block import BlockDevice
from fusedm.block.errors import StackError
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.arguments import Arguments
from fusedm.dm.snapshot.copy import Copy
from fusedm.dm.snapshot.exception_store import ExceptionStore, PersistentStore
from fusedm.dm.target import Segment, Target, Word
from fusedm.dm.turns import Steps

#: Chunks that may be told of as one: looking at so many takes as long as planning a bio.
WINDOW = 64

FEATURES = ("discard_zeroes_cow", "discard_passdown_origin")


class OverOrigin(Target):
    """A target over a device that has snapshots, or may have some."""

    origin: BlockDevice

    def kin(self) -> "list[OverOrigin]":
        """The other targets over the origin, in whatever tables."""
        found = _targets_over(self.origin)
        return [other for other in found if other is not self and other.origin is self.origin]

    def copies(self) -> list[Copy]:
        """What is to be kept in before the origin changes, each once; but what is its own."""
        snapshots = [one for one in self.kin() if isinstance(one, OnCow) and not one.is_taken]
        copies = dict.fromkeys(one.copy for one in snapshots if one.keeps_changes)
        return [copy for copy in copies if copy.is_active and copy.is_valid]

    def announce(self) -> None:
        """What was known of bios of the origin and its snapshots is out of date."""
        self.changed()
        for other in self.kin():
            other.changed()


def _targets_over(device: BlockDevice) -> Iterator[OverOrigin]:
    """Those of all tables of the mapped devices that hold a device."""
    for holder in device.holders:
        for table in holder.tables():  # type: ignore[attr-defined]  # it is a mapped device
            for entry in table.entries:
                if isinstance(entry.target, OverOrigin):
                    yield entry.target


def lacking(copies: Iterable[Copy], sector: int, sector_count: int) -> list[Copy]:
    """Those in which some chunk of a range of the origin is not kept yet."""
    return [copy for copy in copies if not copy.holds(sector, sector_count)]


@dataclass
class OnCow(OverOrigin):
    """A target with a copy of its own: snapshot and snapshot-merge.

    is_running: bios come, or may. is_taken: another target has taken its copy over, and there is
    nothing to be had of it here.
    """

    discards_end_here = True
    #: Whether it is to keep what is about to change in the origin.
    keeps_changes = True

    sector_count: int
    origin: BlockDevice
    cow: BlockDevice
    kind: str
    chunk_sectors: int
    features: tuple[str, ...] = ()
    copy: Copy = field(init=False, compare=False)
    is_running: bool = field(default=False, compare=False)
    is_taken: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        make = ExceptionStore if self.kind == "N" else PersistentStore
        store = make(max(self.chunk_sectors, 1), self.cow.sector_count)
        self.copy = Copy(self.origin, self.cow, self.sector_count, store)
        self.takes_discards = bool(self.features)

    @classmethod
    def make(cls, line: Arguments) -> Self:
        origin, cow, chunk = line.device("origin"), line.device("cow"), line.number("chunk")
        if origin is cow:
            line.refuse("cow", f"{cow.name} is the origin as well")
        for device in (origin, cow):
            block = device.limits.logical_block_size // SECTOR_SIZE
            if chunk % block:
                text = f"{chunk} is not a multiple of {block} sectors, the block of {device.name}"
                line.refuse("chunk", text)
        features = tuple(filter(line.has, FEATURES))
        return cls(line.sector_count, origin, cow, line.text("persistent"), chunk, features)

    def params(self) -> list[Word]:
        chunk = self.copy.chunk_sectors if self.copy.is_open else self.chunk_sectors
        if self.is_taken:
            chunk = 0  # The kernel's has none any more.
        words: list[Word] = [self.origin, self.cow, self.kind, str(chunk)]
        return [*words, str(len(self.features)), *self.features] if self.features else words

    def devices(self) -> Iterable[Segment]:
        return [
            Segment(self.origin, 0, self.sector_count),
            Segment(self.cow, 0, self.cow.sector_count),
        ]

    def status(self) -> list[Word]:
        if self.is_lost:
            return ["Invalid"]
        return ["Overflow"] if self.copy.is_full else [*self.copy.store.usage()]

    @property
    def is_lost(self) -> bool:
        """Whether there is nothing to be had of its copy."""
        return self.is_taken or not self.copy.is_valid

    # Turns.

    def source(self) -> "OnCow | None":
        """Who else has a copy on the COW device that is in use."""
        others = [one for one in self.kin() if isinstance(one, OnCow) and one.cow is self.cow]
        return next((one for one in others if one.copy.is_active and not one.is_taken), None)

    def opening(self) -> Steps[None]:
        """A COW device that a snapshot uses now is taken over from it, when that is suspended."""
        if self.source() is None:
            yield from self.copy.open(self.chunk_sectors)

    def preresume(self) -> Steps[None]:
        source = self.source()
        if self.is_taken:
            return
        if source is not None:
            if source.is_running:
                text = f"{self.cow.name} is in use by a snapshot that is not suspended"
                raise StackError(text)
            self.copy = source.copy
        elif not self.copy.is_open:
            yield from self.copy.open(self.chunk_sectors)

    def postsuspend(self) -> Steps[None]:
        self.is_running = False
        yield from ()

    def resumed(self) -> None:
        self.is_running = True
        if self.is_taken:
            return
        for other in self.kin():
            if isinstance(other, OnCow) and other.copy is self.copy:
                other.is_taken = True
        copy = self.copy
        copy.is_active, copy.sector_count = True, self.sector_count
        copy.on_change, copy.on_lost = self.announce, self.raise_event
        self.announce()

    def stop(self) -> None:
        self.announce()


def alike(chunk: int, told: Callable[[int], object]) -> range:
    """The chunks around one of which the same is told, within the WINDOW it lies in.

    So it is the same range for each of them, and no long way to its ends.
    """
    first, wanted = chunk - chunk % WINDOW, told(chunk)
    begin, end = chunk, chunk + 1
    while begin > first and told(begin - 1) == wanted:
        begin -= 1
    while end < first + WINDOW and told(end) == wanted:
        end += 1
    return range(begin, end)
