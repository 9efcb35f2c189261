"""raid1 and raid10: several copies of everything. Pure.

Where copies lie is all that the two differ in: see places. Data pass as they are, ciphertext
included; what is done in the background, and what is written anew, are the bytes of another copy,
never what came of them for a reader.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence, Set

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.units import SECTOR_SHIFT
from fusedm.dm.raid.array import errors_of
from fusedm.dm.raid.copies import Copy, Data, Piece, Place, Stretch, joined, parts_of, stretches
from fusedm.dm.raid.gf import differing
from fusedm.dm.raid.members import Member
from fusedm.dm.raid.personality import ArrayView, Personality, Shape
from fusedm.dm.raid.scratch import Scratch, Scratches
from fusedm.dm.target import Action, Each, Fail, Remap, Script
from fusedm.dm.turns import Steps

#: What md compares at once: differences are counted in as many sectors.
COMPARED = 128


class Mirrored(Personality):
    """Reads from one copy, writes to all."""

    passes_crypto = True

    def __init__(self, shape: Shape, array: ArrayView) -> None:
        self.shape = shape
        self.array = array
        self.sync_sectors = shape.array_sectors
        self._scratches = Scratches()

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

    def _good(self, place: Place) -> list[Copy]:
        """The copies that are good, in the order in which to ask them where copies may differ.

        So all readers ask the same one, whose data the others will get.
        """
        members, after = self.array.members, place.after
        pairs = zip(place.copies, after, strict=True)
        good = [copy for copy, end in pairs if members[copy.index].holds(end.sector)]
        good.sort(key=lambda copy: members[copy.index].is_write_mostly)
        return good

    def _readable(self, place: Place) -> list[Copy]:
        """The same for a READ: where copies agree they are asked in turn."""
        members, good = self.array.members, self._good(place)
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
        yield from self._copy(self.places(begin, end), None)

    def recover(self, begin: int, end: int, indices: Set[int]) -> Steps[None]:
        places = [place for index in indices for place in self.places_of(index, begin, end)]
        yield from self._copy({place.sector: place for place in places}.values(), indices)

    def _copy(self, places: Iterable[Place], wanted: Set[int] | None) -> Steps[None]:
        """Read one good copy of each place, and write it to others: to all, or to some members."""
        with self._scratches.one() as scratch:
            found = yield from self._read_one_each(places, wanted or frozenset(), scratch)
            yield from self._write_all(
                Piece(copy, data)
                for place, source, data in found
                for copy in place.copies
                if (copy.index in wanted if wanted is not None else copy is not source)
            )

    def _write_all(self, pieces: Iterable[Piece]) -> Steps[None]:
        members = self.array.members
        writes = list(joined(piece for piece in pieces if members[piece.copy.index].writable))
        if not writes:
            return
        outcomes = yield Each(
            tuple(self._at(one.copy, Bio.write(0, one.data.view)) for one in writes)
        )
        errors = errors_of([members[one.copy.index] for one in writes], outcomes)
        if errors:
            yield from self.array.fail(errors)

    def _read_one_each(
        self, places: Iterable[Place], but: Set[int], scratch: Scratch
    ) -> Steps[list[tuple[Place, Copy, Data]]]:
        """A good copy of each place, all at once; where one cannot be read, another.

        Raises: BlockIOError of a place of which none can.
        """
        tries = []
        piles = list(stretches(places))
        memory = scratch.take(sum(pile.whole.sector_count for pile in piles))
        at = 0
        for pile in piles:
            data = Data(memory, at, pile.whole.sector_count)
            at += pile.whole.sector_count
            tries.append((pile, self._good_but(pile.whole, but), data))
        outcomes = yield Each(
            tuple(self._at(good[0], Bio.read(0, data.view)) for _, good, data in tries)
        )
        found = []
        for (pile, good, data), error in zip(tries, outcomes, strict=True):
            if error is None:
                found.append((pile.whole, good[0], data))
            else:
                found += yield from self._read_others(pile, good[0], but, data, error)
        return found

    def _good_but(self, place: Place, but: Set[int]) -> list[Copy]:
        good = [copy for copy in self._good(place) if copy.index not in but]
        if not good:
            text = f"no other copy of sector {place.sector}"
            raise BlockIOError(Status.IOERR, self.shape.type, text)
        return good

    def _read_others(
        self, pile: Stretch, bad: Copy, but: Set[int], data: Data, error: BlockIOError
    ) -> Steps[list[tuple[Place, Copy, Data]]]:
        """The same one by one: other places may be good where one is bad."""
        found = []
        for place, part in zip(pile.places, parts_of(pile, data), strict=True):
            copies = [
                copy for copy in self._good_but(place, but) if copy != bad or len(pile.places) > 1
            ]
            source = yield from self._read_next(copies, part.view, error)
            found.append((place, source, part))
        return found

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
        with self._scratches.one() as scratch:
            mismatches = 0
            wrong: list[Piece] = []
            for pile, copies in (
                yield from self._read_all(stretches(self.places(begin, end)), scratch)
            ):
                good = [data for _, data, error in copies if error is None]
                if not good:
                    text = f"no copy of sector {pile.whole.sector} can be read"
                    raise BlockIOError(Status.IOERR, self.shape.type, text)
                for copy, data, error in copies:
                    differs = 0 if error is not None else _differing(pile, good[0], data)
                    mismatches += differs
                    if error is not None or (differs and repair):
                        wrong.append(Piece(copy, good[0]))
            yield from self._write_all(wrong)
            return mismatches

    def _read_all(
        self, piles: Iterable[Stretch], scratch: Scratch
    ) -> Steps[list[tuple[Stretch, list[tuple[Copy, Data, BlockIOError | None]]]]]:
        """All good copies, and which of them cannot be read; place by place where that is so."""
        reads = [
            (
                pile,
                [
                    (copy, Data(scratch.take(pile.whole.sector_count), 0, pile.whole.sector_count))
                    for copy in self._good(pile.whole)
                ],
            )
            for pile in piles
        ]
        outcomes = yield Each(
            tuple(
                self._at(copy, Bio.read(0, data.view)) for _, each in reads for copy, data in each
            )
        )
        errors = iter(outcomes)
        found = []
        again: list[Stretch] = []
        for pile, copies in reads:
            told = [(copy, data, next(errors)) for copy, data in copies]
            if len(pile.places) > 1 and any(error is not None for _, _, error in told):
                again += (Stretch(place, (place,)) for place in pile.places)
            else:
                found.append((pile, told))
        return found + ((yield from self._read_all(again, scratch)) if again else [])


def _differing(pile: Stretch, one: Data, other: Data) -> int:
    """In how many sectors two copies differ, counted in what md compares at once."""
    if not differing(one.view, other.view, len(one.view)):
        return 0
    step = COMPARED << SECTOR_SHIFT
    return sum(
        min(step, len(mine.view) - at) >> SECTOR_SHIFT
        for mine, its in zip(parts_of(pile, one), parts_of(pile, other), strict=True)
        for at in differing(mine.view, its.view, step)
    )
