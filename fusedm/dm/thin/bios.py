"""How the bios of a thin device go: to where its blocks are, or by giving them a place first.

Rules:

    A script holds its block (`OpenThin.locks`) while it gives it a place or takes it away. Under
    that only blocks are written that nothing is mapped to: what plans write that may wait for the
    block is locked below, and who waited for it there would wait in a circle.
    Where a block lies is looked up in the step in which a bio is sent there. So scripts are
    repeatable: one that comes to the pool's device while that is suspended is begun anew.

Source: the kernel's drivers/md/dm-thin.c. Other than there, data are written before their block is
mapped, not after: a write that fails leaves nothing mapped.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from fusedm.block import FUA, Bio, BlockDevice, Op
from fusedm.block.errors import BlockIOError, Requeue, Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.block.value import value
from fusedm.dm.target import (
    Action,
    Complete,
    Each,
    Fail,
    Many,
    Remap,
    Script,
    Steady,
)
from fusedm.dm.thin.mode import Mode
from fusedm.dm.thin.open_thin import OpenThin
from fusedm.dm.thin.pool import Pool
from fusedm.dm.turns import Steps

#: Blocks that may be told of as one: looking at so many takes as long as planning a few bios, and a
#: file has a path for each.
WINDOW = 1024
#: The most that is copied or zeroed in one go: 1 MiB. Blocks may be of 1 GiB.
MAX_COPY_SECTORS = 2048
#: The most blocks that are unmapped in one go: some milliseconds, in which nobody else runs.
MAX_UNMAP_BLOCKS = 4096


@value
class Rest:
    """A part of a new block that a write does not cover: zeros, or what a device has at a sector.

    Units: sectors of the thin device; at of the other one.
    """

    sector: int
    sector_count: int
    device: BlockDevice | None = None
    at: int = 0


class ThinBios:
    """The bios of one thin target; origin is an external one, of so many sectors."""

    def __init__(
        self,
        pool: Pool,
        device: OpenThin,
        pool_device: BlockDevice,
        origin: BlockDevice | None = None,
    ) -> None:
        self.pool = pool
        self.device = device
        self.pool_device = pool_device
        self.origin = origin
        self.origin_sectors = 0
        self._metadata = pool.metadata
        self._size = pool.block_sectors

    def map(self, bio: Bio) -> Action:
        """What should happen to a bio that lies within a block, but for a DISCARD."""
        if self.pool.mode is Mode.FAIL:
            return Fail(Status.IOERR)
        if bio.op is Op.FLUSH:
            if self._is_settled:
                return Remap(self.pool_device, bio)
            return self._script(lambda: self._flush(bio))
        if bio.op is Op.DISCARD:
            return self._script(lambda: self._discard(bio))
        found = self._metadata.lookup(self.device.number, bio.sector // self._size)
        if bio.op is Op.WRITE and (found is None or found[1]):
            return self._script(lambda: self._write(bio))
        if found is None:
            return self._read_hole(bio)
        if bio.flags & FUA and not self._is_settled:
            return Each((self._place(bio, found[0]),), self._then_settle)
        return self._place(bio, found[0])

    def steady(self, sector: int) -> Steady:
        """Where blocks lie together and are equally shared, bios go one way; to holes they do not.

        What is said is the same for all of them: each is looked for from the WINDOW's beginning on.
        """
        block = sector // self._size
        first, end = block - block % WINDOW, block - block % WINDOW + WINDOW
        run = self._metadata.run(self.device.number, first, WINDOW)
        while first + run.count <= block:
            first += run.count
            run = self._metadata.run(self.device.number, first, end - first)
        begin, end = first * self._size, (first + run.count) * self._size
        ops, changes = {Op.READ, Op.WRITE}, [self.device.lost]
        if run.data is None:
            ops = {Op.READ} if end <= self.origin_sectors else set()
            changes = [self.device.gained]
        elif run.is_shared:
            ops = {Op.READ}
        if not begin:
            changes.append(self.device.settling)
            if self._is_settled:
                ops.add(Op.FLUSH)
        if self.pool.mode is Mode.FAIL:
            ops = set()
        return Steady(begin, end, frozenset(ops), changes=tuple(changes))

    def _script(self, steps: Callable[[], Steps[None]]) -> Script:
        return Script(steps, is_repeatable=True)

    @property
    def _is_settled(self) -> bool:
        """Whether a flush of the data is all that a FLUSH has to do."""
        return not self.device.has_changes and not self.device.has_lost

    def _place(self, bio: Bio, data: int) -> Remap:
        """A bio within a block where that lies."""
        sector = data * self._size + bio.sector % self._size
        return Remap(self.pool_device, bio.remap(sector))

    def _read_hole(self, bio: Bio) -> Action:
        if self.origin is None or bio.sector >= self.origin_sectors:
            return Complete()
        if bio.end_sector <= self.origin_sectors:
            return Remap(self.origin, bio)
        within = self.origin_sectors - bio.sector
        unit = bio.crypt.key.config.data_unit_size if bio.crypt is not None else SECTOR_SIZE
        if within * SECTOR_SIZE % unit:
            return Fail(Status.INVAL)  # The origin's end is within a data unit.
        front, back = bio.split(within)
        return Many((Remap(self.origin, front), Complete(back)))

    # Flushes.

    def _flush(self, bio: Bio) -> Steps[None]:
        self._check_resumed()
        if not (yield from self._settle()):
            yield Remap(self.pool_device, bio)

    def _settle(self) -> Steps[bool]:
        """Have what was mapped durable; whether all data have been flushed for it.

        Raises: BlockIOError if it cannot be, or was given up.
        """
        is_flushed: bool = yield Script(self._commit_changes, self.pool.lock)
        if not self._is_settled:
            text = "changes of the thin device could not be made durable"
            raise BlockIOError(Status.IOERR, self.pool_device.name, text)
        return is_flushed

    def _commit_changes(self) -> Steps[bool]:
        # Another commit may have made them durable, but not the data written since it began.
        return self.device.has_changes and (yield from self.pool.commit())

    def _then_settle(self, outcomes: list[BlockIOError | None]) -> Steps[None] | None:
        """What is to be done once a WRITE with FUA has been written where it is mapped."""
        for error in outcomes:
            if error is not None:
                raise error
        return self._settled()

    def _settled(self) -> Steps[None]:
        yield from self._settle()

    def _check_resumed(self) -> None:
        """Nothing is changed while the pool's device is suspended, which suspends its thin devices.

        Raises: Requeue.
        """
        if self.pool.is_suspended:
            raise Requeue(self.pool.room)

    # Writes.

    def _write(self, bio: Bio) -> Steps[None]:
        self._check_resumed()
        yield from self._write_block(bio)
        if bio.flags & FUA:
            yield from self._settle()

    def _write_block(self, bio: Bio) -> Steps[None]:
        block, is_written = bio.sector // self._size, False
        locks = ((self.device.locks, block, block + 1),)
        while not is_written:
            found = self._metadata.lookup(self.device.number, block)
            if found is not None and not found[1]:
                yield self._place(bio, found[0])
                return
            is_written = yield Script(lambda: self._give_place(bio, block), locks)

    def _give_place(self, bio: Bio, block: int) -> Steps[bool]:
        """Write to a new block and map it; False if another has been faster."""
        found = self._metadata.lookup(self.device.number, block)
        if found is not None and not found[1]:
            return False
        if self.pool.mode is not Mode.WRITE:
            raise self.pool.no_room()
        data = yield from self.pool.requests.ask(self.device.number, block)
        is_mapped = False
        try:
            yield from self._fill(bio, data, None if found is None else found[0])
            yield from self.pool.change(lambda: self._insert(block, data, found is not None))
            is_mapped = True
        finally:
            if not is_mapped:
                self.pool.give_back(data, data + 1)
        return True

    def _insert(self, block: int, data: int, is_instead: bool) -> None:
        self._metadata.insert(self.device.number, block, data)
        self.device.note_change()
        (self.device.lost if is_instead else self.device.gained).advance()

    def _fill(self, bio: Bio, data: int, old: int | None) -> Steps[None]:
        """Write a new block: the bio, and what it does not cover."""
        write: tuple[Remap, ...] = (self._place(bio, data),)
        for rest in self._rest(bio, old):
            buffer = memoryview(bytearray(rest.sector_count * SECTOR_SIZE))
            if rest.device is not None:
                yield Remap(rest.device, Bio.read(rest.at, buffer))
            yield Many((*write, self._place(Bio.write(rest.sector, buffer), data)))
            write = ()
        if write:
            yield write[0]

    def _rest(self, bio: Bio, old: int | None) -> Iterator[Rest]:
        """What a bio does not cover of its block and is not to hold what the data device holds."""
        begin = bio.sector - bio.sector % self._size
        for first, last in ((begin, bio.sector), (bio.end_sector, begin + self._size)):
            for sector in range(first, last, MAX_COPY_SECTORS):
                yield from self._pieces(sector, min(last, sector + MAX_COPY_SECTORS), old)

    def _pieces(self, begin: int, end: int, old: int | None) -> Iterator[Rest]:
        if old is not None:
            at = old * self._size + begin % self._size
            yield Rest(begin, end - begin, self.pool_device, at)
            return
        middle = min(max(begin, self.origin_sectors), end)
        if begin < middle:
            yield Rest(begin, middle - begin, self.origin, begin)
        if middle < end and not self.pool.features.skip_block_zeroing:
            yield Rest(middle, end - middle)

    # Discards.

    def _discard(self, bio: Bio) -> Steps[None]:
        """Give up the blocks that lie in it whole; the others are zeroed as far as they do.

        In strict mode the others are left as they are, as in the kernel.
        """
        self._check_resumed()
        if self.pool.mode >= Mode.OUT_OF_METADATA_SPACE:
            return
        begin, end = -(-bio.sector // self._size), bio.end_sector // self._size
        if not self.pool_device.strict:
            head = min(begin * self._size, bio.end_sector)
            yield from self._zero(bio.sector, head)
            yield from self._zero(max(head, end * self._size), bio.end_sector)
        for first in range(begin, end, MAX_UNMAP_BLOCKS):
            last = min(end, first + MAX_UNMAP_BLOCKS)
            locks = ((self.device.locks, first, last),)
            runs = yield Script(partial(self._unmap, first, last), locks)
            # No more under the lock: the range may be locked below by plans that wait for it.
            yield from self._pass_down(runs)

    def _zero(self, begin: int, end: int) -> Steps[None]:
        """Have a part of a block read as zeros; one without a place does."""
        for sector in range(begin, end, MAX_COPY_SECTORS):
            count = min(end - sector, MAX_COPY_SECTORS)
            if self._metadata.lookup(self.device.number, sector // self._size) is not None:
                zeros = memoryview(bytearray(count * SECTOR_SIZE))
                yield from self._write_block(Bio.write(sector, zeros))

    def _unmap(self, begin: int, end: int) -> Steps[list[tuple[int, int]]]:
        """Unmap blocks; returns the runs of data blocks that are held to be given up below."""
        return (yield from self.pool.change(lambda: self._remove(begin, end)))

    def _remove(self, begin: int, end: int) -> list[tuple[int, int]]:
        number, runs = self.device.number, list[tuple[int, int]]()
        for _, data in self._metadata.mapped(number, begin, end):
            if runs and runs[-1][1] == data:
                runs[-1] = (runs[-1][0], data + 1)
            else:
                runs.append((data, data + 1))
        if not runs:
            return []
        is_passed_down = not self.pool.features.no_discard_passdown
        if is_passed_down:
            for run in runs:
                self._metadata.hold(*run)
        self._metadata.remove(number, begin, end)
        self.device.note_change()
        self.device.lost.advance()
        return runs if is_passed_down else []

    def _pass_down(self, runs: Sequence[tuple[int, int]]) -> Steps[None]:
        """Discard data blocks below unless others share them; that this works is not asked for."""
        try:
            for begin, end in (part for run in runs for part in self._unshared(*run)):
                sector, count = begin * self._size, (end - begin) * self._size
                yield Each((Remap(self.pool_device, Bio(Op.DISCARD, sector, count)),))
        finally:
            for run in runs:
                self.pool.give_back(*run)

    def _unshared(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a run of data blocks, held here, that nobody else has."""
        first = begin
        for block in range(begin, end + 1):
            if block == end or self._metadata.is_data_shared(block):
                if first < block:
                    yield first, block
                first = block + 1
