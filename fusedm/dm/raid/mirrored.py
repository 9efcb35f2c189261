"""raid1 and raid10: several copies of everything. Pure.

Where copies lie is all that the two differ in: see places. Data pass as they are, ciphertext
included; what is done in the background, and what is written anew, are the bytes of another copy,
never what came of them for a reader.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence, Set

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.units import SECTOR_SHIFT
from fusedm.block.value import value
from fusedm.dm.raid.array import errors_of
from fusedm.dm.raid.members import Member
from fusedm.dm.raid.personality import ArrayView, Personality, Shape
from fusedm.dm.target import Action, Each, Fail, Remap, Script
from fusedm.dm.turns import Steps

#: What md compares at once: differences are counted in as many sectors.
COMPARED = 128


@value
class Copy:
    """One of several copies: sectors of a member."""

    index: int
    sector: int


@value
class Place:
    """A stretch of the array that lies in one piece in each of its copies.

    Units:  sector as resync counts, sector_count sectors.
    """

    sector: int
    sector_count: int
    copies: tuple[Copy, ...]

    @property
    def end_sector(self) -> int:
        """Where it ends."""
        return self.sector + self.sector_count


class Mirrored(Personality):
    """Reads from one copy, writes to all."""

    passes_crypto = True

    def __init__(self, shape: Shape, array: ArrayView) -> None:
        self.shape = shape
        self.array = array
        self.sync_sectors = shape.array_sectors

    @abstractmethod
    def places(self, begin: int, end: int) -> list[Place]:
        """Where a range of the array lies, in its order."""

    @abstractmethod
    def places_of(self, index: int, begin: int, end: int) -> list[Place]:
        """Where a range of a member's sectors has its copies, the member's own among them."""

    @abstractmethod
    def discards(self, bio: Bio) -> list[tuple[Member, Bio]]:
        """The parts of a DISCARD, for each member."""

    # Bios.

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.FLUSH:
            return self.array.flush_all()
        if bio.op is Op.READ:
            return self._map_read(bio)
        locked = (self.array.locks, bio.sector, bio.end_sector)
        return Script(lambda: self._write(bio), (locked,), is_repeatable=True)

    def _map_read(self, bio: Bio) -> Action:
        """From one copy; another is asked if that cannot be read.

        Bios are split so that a READ lies in one place.
        """
        [place] = self.places(bio.sector, bio.end_sector)
        good = self._readable(place)
        if not good:
            return Fail(Status.IOERR)
        first, others = good[0], good[1:]

        def then(outcomes: list[BlockIOError | None]) -> Steps[None] | None:
            [error] = outcomes
            return self._read_another(bio, place, first, others, error) if error else None

        return Each((self._at(first, bio),), then)

    def _read_another(
        self, bio: Bio, place: Place, first: Copy, others: Sequence[Copy], error: BlockIOError
    ) -> Steps[None]:
        unread = [first]
        for copy in others:
            try:
                yield self._at(copy, bio)
            except BlockIOError:
                unread.append(copy)
                continue
            for each in unread:
                self.array.repair_read(each.index, each.sector, each.sector + place.sector_count)
            return
        raise error

    def _write(self, bio: Bio) -> Steps[None]:
        array = self.array
        try:
            yield from array.begin_write(bio.sector, bio.end_sector)
            writes = self._writes(bio)
            outcomes = yield Each(tuple(member.place.remap(each) for member, each in writes))
            errors = errors_of([member for member, _ in writes], outcomes)
            if errors:
                yield from array.fail(errors)
        except BaseException:  # Also where it is given up, with some members written.
            array.need(bio.sector, bio.end_sector)
            raise
        finally:
            array.end_write(bio.sector, bio.end_sector)

    def _writes(self, bio: Bio) -> list[tuple[Member, Bio]]:
        if bio.op is Op.DISCARD:
            return self.discards(bio)
        [place] = self.places(bio.sector, bio.end_sector)
        members = [(self.array.members[copy.index], copy.sector) for copy in place.copies]
        return [(member, bio.remap(sector)) for member, sector in members if member.writable]

    def _at(self, copy: Copy, bio: Bio) -> Remap:
        return self.array.members[copy.index].place.remap(bio.remap(copy.sector))

    def _readable(self, place: Place) -> list[Copy]:
        """The copies that are good, in the order in which to ask them.

        Where copies may differ all readers ask the same, whose data the others will get.
        """
        members = self.array.members
        good = [
            copy
            for copy in place.copies
            if members[copy.index].holds(copy.sector + place.sector_count)
        ]
        good.sort(key=lambda copy: members[copy.index].is_write_mostly)
        if good and self.array.is_synced(place.sector, place.end_sector):
            fast = [copy for copy in good if not members[copy.index].is_write_mostly] or good
            turn = self.turn(place.sector) % len(fast)
            good = [fast[turn], *(copy for copy in good if copy is not fast[turn])]
        return good

    @abstractmethod
    def turn(self, sector: int) -> int:
        """Which of several good copies is read, modulo their number."""

    # In the background.

    def resync(self, begin: int, end: int) -> Steps[None]:
        places = self.places(begin, end)
        yield from self._copy(places, lambda place, source: self._others(place, {source.index}))

    def recover(self, begin: int, end: int, indices: Set[int]) -> Steps[None]:
        places = [place for index in indices for place in self.places_of(index, begin, end)]
        places = list({place.sector: place for place in places}.values())
        yield from self._copy(
            places,
            lambda place, source: [copy for copy in place.copies if copy.index in indices],
            indices,
        )

    def _others(self, place: Place, but: Set[int]) -> list[Copy]:
        return [copy for copy in place.copies if copy.index not in but]

    def _copy(
        self,
        places: Sequence[Place],
        wanted: Callable[[Place, Copy], list[Copy]],
        but: Set[int] = frozenset(),
    ) -> Steps[None]:
        """Read one good copy of each place, and write it to others."""
        members = self.array.members
        sources, buffers = yield from self._read_one_each(places, but)
        writes = [
            (members[copy.index], copy.sector, buffer)
            for place, source, buffer in zip(places, sources, buffers, strict=True)
            for copy in wanted(place, source)
            if members[copy.index].writable
        ]
        yield from self._write_all(writes)

    def _write_all(self, writes: Sequence[tuple[Member, int, memoryview]]) -> Steps[None]:
        if not writes:
            return
        outcomes = yield Each(
            tuple(one.place.remap(Bio.write(sector, data)) for one, sector, data in writes)
        )
        errors = errors_of([member for member, _, _ in writes], outcomes)
        if errors:
            yield from self.array.fail(errors)

    def _read_one_each(
        self, places: Sequence[Place], but: Set[int]
    ) -> Steps[tuple[list[Copy], list[memoryview]]]:
        """A good copy of each place, all at once; where one cannot be read, another.

        Raises: BlockIOError of a place of which none can.
        """
        copies = [[one for one in self._readable(p) if one.index not in but] for p in places]
        for place, good in zip(places, copies, strict=True):
            if not good:
                text = f"no other copy of sector {place.sector}"
                raise BlockIOError(Status.IOERR, self.shape.type, text)
        buffers = [memoryview(bytearray(place.sector_count << SECTOR_SHIFT)) for place in places]
        reads = [
            self._at(good[0], Bio.read(0, buffer))
            for good, buffer in zip(copies, buffers, strict=True)
        ]
        outcomes = yield Each(tuple(reads))
        sources = [good[0] for good in copies]
        for number, error in enumerate(outcomes):
            if error is not None:
                others = copies[number][1:]
                sources[number] = yield from self._read_next(others, buffers[number], error)
        return sources, buffers

    def _read_next(
        self, others: Sequence[Copy], buffer: memoryview, error: BlockIOError
    ) -> Steps[Copy]:
        for copy in others:
            try:
                yield self._at(copy, Bio.read(0, buffer))
            except BlockIOError as again:
                error = again
                continue
            return copy
        raise error

    def check(self, begin: int, end: int, repair: bool) -> Steps[int]:
        mismatches = 0
        wrong: list[tuple[Member, int, memoryview]] = []
        for place in self.places(begin, end):
            copies = self._readable(place)
            buffers = [memoryview(bytearray(place.sector_count << SECTOR_SHIFT)) for _ in copies]
            reads = (
                self._at(copy, Bio.read(0, buffer))
                for copy, buffer in zip(copies, buffers, strict=True)
            )
            outcomes = yield Each(tuple(reads))
            good = [number for number, error in enumerate(outcomes) if error is None]
            if not good:
                text = f"no copy of sector {place.sector} can be read"
                raise BlockIOError(Status.IOERR, self.shape.type, text)
            right = buffers[good[0]]
            for number, (copy, buffer) in enumerate(zip(copies, buffers, strict=True)):
                differs = outcomes[number] is None and _differing(right, buffer)
                mismatches += differs or 0
                if outcomes[number] is not None or (differs and repair):
                    wrong.append((self.array.members[copy.index], copy.sector, right))
        yield from self._write_all([each for each in wrong if each[0].writable])
        return mismatches


def _differing(one: memoryview, other: memoryview) -> int:
    """In how many sectors two copies differ, counted in what md compares at once."""
    if one == other:
        return 0
    step = COMPARED << SECTOR_SHIFT
    return sum(
        len(one[at : at + step]) >> SECTOR_SHIFT
        for at in range(0, len(one), step)
        if one[at : at + step] != other[at : at + step]
    )
