"""snapshot: a device as its origin was, and what has been written to it since.  See snapshot.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fusedm.block import Bio, BlockDevice, Op
from fusedm.block.errors import BlockIOError, StackError, Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.cow import Copy, Origin, alike, locks_for, origin_of
from fusedm.dm.exception_store import MAX_CHUNK_SECTORS, ExceptionStore, PersistentStore
from fusedm.dm.target import (
    ALWAYS,
    Action,
    Fail,
    Params,
    Remap,
    Script,
    Segment,
    Steady,
    Target,
    Word,
)
from fusedm.dm.turns import Steps

FEATURES = ("discard_zeroes_cow", "discard_passdown_origin")


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 d1 P 8", "d0 d1 N 16", "d2 d1 PO 0 1 discard_zeroes_cow"]


@dataclass
class Snapshot(Target):
    """Reads what has been copied from the copy, the rest from the origin; writes to copies only.

    It stores data and reads them back under other numbers, so it must not see them in clear.
    """

    name = "snapshot"
    version = (1, 16, 0)
    passes_crypto = False
    discards_end_here = True
    usage = "origin cow P|PO|N chunk [n feature...]"

    sector_count: int
    origin: BlockDevice
    cow: BlockDevice
    kind: str
    chunk_sectors: int
    features: tuple[str, ...] = ()
    copy: Copy = field(init=False, compare=False)
    is_suspended: bool = field(default=False, compare=False)
    _before: "Snapshot | None" = field(default=None, compare=False)

    def __post_init__(self) -> None:
        make = ExceptionStore if self.kind == "N" else PersistentStore
        store = make(max(self.chunk_sectors, 1), self.cow.sector_count)
        self.copy = Copy(self.origin, self.cow, self.sector_count, store)
        self.takes_discards = bool(self.features)

    @classmethod
    def parse(cls, params: Params) -> "Snapshot":
        origin, cow = params.device("origin"), params.device("cow")
        if origin is cow:
            raise params.argument_error("cow", f"{cow.name} is the origin as well")
        kind = params.word().upper()
        if kind not in ("P", "PO", "N"):
            raise params.argument_error("P|PO|N", f"{kind!r} is none of P, PO, N")
        chunk = params.integer("chunk", maximum=MAX_CHUNK_SECTORS)
        _check_chunk(params, chunk, origin, cow, kind)
        features = _parse_features(params)
        return cls(params.sector_count, origin, cow, kind, chunk, features)

    def params(self) -> list[Word]:
        chunk = str(self.copy.chunk_sectors if self.copy.owner is self else self.chunk_sectors)
        words: list[Word] = [self.origin, self.cow, self.kind, chunk]
        return [*words, str(len(self.features)), *self.features] if self.features else words

    def devices(self) -> Iterable[Segment]:
        return [
            Segment(self.origin, 0, self.sector_count),
            Segment(self.cow, 0, self.cow.sector_count),
        ]

    def status(self) -> list[Word]:
        if not self.copy.is_valid:
            return ["Invalid"]
        return ["Overflow"] if self.copy.is_full else [*self.copy.store.usage().split()]

    # Bios.

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.FLUSH:
            return Remap(self.cow, bio)
        if not self.copy.is_valid or (self.copy.is_full and bio.op is not Op.READ):
            return Fail(Status.IOERR)
        if bio.op.has_data and self.copy.holds(bio.sector, bio.sector_count):
            return self.copy.place(bio)
        steps = {Op.READ: self._read, Op.WRITE: self._write, Op.DISCARD: self._discard}[bio.op]
        return Script(lambda: steps(bio), locks_for(self._shared, [self.copy], bio))

    def steady(self, sector: int) -> Steady:
        """Where chunks have been copied to is known, until the copy is lost or full.

        Of others only a FLUSH is: a READ holds a lock, without which a write to the origin could
        copy the chunk and change it there while the READ is still on its way.
        """
        size = self.copy.chunk_sectors
        run = alike(sector // size, self._distance)
        ops = ALWAYS.ops if self._distance(run.start) is not None else frozenset({Op.FLUSH})
        return Steady(run.start * size, run.stop * size, ops, changes=(self._shared.changes,))

    def _distance(self, chunk: int) -> int | None:
        """How far from a chunk its copy lies, in chunks; None if there is none."""
        size = self.copy.chunk_sectors
        held = self.copy.holds(chunk * size, size)
        return self.copy.store.chunks[chunk] - chunk if held else None

    @property
    def _shared(self) -> Origin:
        return origin_of(self.origin)

    def _read(self, bio: Bio) -> Steps[None]:
        yield self.copy.place(bio)

    def _write(self, bio: Bio) -> Steps[None]:
        copy = self.copy
        missing = copy.missing(bio.sector, bio.sector_count)
        if missing and not (copy.is_valid and (yield from self._copy_with(missing, bio))):
            text = f"{bio}: the snapshot has no room for it"
            raise BlockIOError(Status.IOERR, self.cow.name, text)
        if len(missing) < len(copy.chunks(bio.sector, bio.sector_count)):
            yield copy.place(bio)

    def _copy_with(self, chunks: Sequence[int], bio: Bio) -> Steps[bool]:
        """Copy chunks with a write to them; a snapshot that cannot be extended is given up."""
        try:
            if (yield from self.copy.copy(chunks, bio)):
                return True
        except BlockIOError:
            self.raise_event()
            raise
        if self.kind == "PO":
            self.copy.is_full = True
            self.copy.changed()
        else:
            yield from self.copy.invalidate()
        self.raise_event()
        return False

    def _discard(self, bio: Bio) -> Steps[None]:
        """Chunks that were copied are zeroed where they are; of the others nothing is kept."""
        chunk_sectors = self.copy.chunk_sectors
        for chunk in self.copy.chunks(bio.sector, bio.sector_count):
            begin = max(bio.sector, chunk * chunk_sectors)
            end = min(bio.end_sector, (chunk + 1) * chunk_sectors)
            part = bio.slice(begin - bio.sector, end - bio.sector)
            if chunk not in self.copy.store.chunks:
                continue
            if part.sector_count == chunk_sectors:
                zeros = memoryview(bytes(chunk_sectors * SECTOR_SIZE))
                yield self.copy.place(Bio.write(begin, zeros))
            elif self.cow.limits.discard:
                yield self.copy.place(part)
        if "discard_passdown_origin" in self.features:
            yield Remap(self.origin, bio)

    # Turns.

    def opening(self) -> Steps[None]:
        """A COW device that a snapshot uses now is taken over from it, when that is suspended."""
        for other in self._shared.copies:
            if other.device is self.cow and isinstance(other.owner, Snapshot):
                self._before = other.owner
                return
        yield from self.copy.open(self.chunk_sectors)
        self._take(self.copy)

    def preresume(self) -> Steps[None]:
        yield from ()
        before = self._before
        if before is None:
            return
        if before.copy in self._shared.copies and not before.is_suspended:
            raise StackError(f"{self.cow.name} is in use by a snapshot that is not suspended")
        self._before = None
        self._take(before.copy)

    def postsuspend(self) -> Steps[None]:
        self.is_suspended = True
        yield from ()

    def resumed(self) -> None:
        self.is_suspended = False

    def stop(self) -> None:
        if self.copy.owner is self:
            self._shared.remove(self.copy)

    def _take(self, copy: Copy) -> None:
        """Make a copy this snapshot's, its losses events of this device."""
        self.copy = copy
        copy.owner, copy.sector_count = self, self.sector_count
        copy.on_lost = lambda: self.raise_event()
        if copy not in self._shared.copies:
            self._shared.add(copy)


def _check_chunk(
    params: Params, chunk: int, origin: BlockDevice, cow: BlockDevice, kind: str
) -> None:
    if chunk & (chunk - 1):
        raise params.argument_error("chunk", f"{chunk} is not a power of two")
    if not chunk and kind == "N":
        raise params.argument_error("chunk", "0 is for what tells its own chunk size: P or PO")
    for device in (origin, cow):
        block = device.limits.logical_block_size // SECTOR_SIZE
        if chunk % block:
            text = f"{chunk} is not a multiple of {block} sectors, the block of {device.name}"
            raise params.argument_error("chunk", text)


def _parse_features(params: Params) -> tuple[str, ...]:
    if not params.left:
        return ()
    count = params.integer("features", maximum=len(FEATURES))
    if count != params.left:
        raise params.error(f"{count} features announced, {params.left} given")
    given = [params.word().lower() for _ in range(count)]
    for feature in given:
        if feature not in FEATURES:
            known = ", ".join(FEATURES)
            raise params.error(f"feature {feature!r} is unknown: use {known}")
        if given.count(feature) > 1:
            raise params.error(f"feature {feature} is given twice")
    if given == ["discard_passdown_origin"]:
        raise params.error("discard_passdown_origin needs discard_zeroes_cow")
    return tuple(feature for feature in FEATURES if feature in given)
