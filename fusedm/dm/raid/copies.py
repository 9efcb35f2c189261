"""Where the copies of an array lie, and which of them can be read and written together. Pure."""

from collections.abc import Iterable, Iterator

from fusedm.block.units import SECTOR_SHIFT
from fusedm.block.value import value


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

    @property
    def after(self) -> tuple[Copy, ...]:
        """The copies that something has that lies behind it in all members."""
        return tuple(Copy(copy.index, copy.sector + self.sector_count) for copy in self.copies)


@value
class Stretch:
    """Places that lie one after the other in all their members, wherever in the array."""

    whole: Place
    places: tuple[Place, ...]


@value
class Data:
    """Sectors in memory, from at on."""

    memory: memoryview
    at: int
    sector_count: int

    @property
    def view(self) -> memoryview:
        """The bytes."""
        return self.memory[self.at << SECTOR_SHIFT : self.at + self.sector_count << SECTOR_SHIFT]


@value
class Piece:
    """Data for a copy."""

    copy: Copy
    data: Data


def stretches(places: Iterable[Place]) -> Iterator[Stretch]:
    """Places put together where their copies lie together."""
    found: dict[tuple[Copy, ...], list[Place]] = {}
    for place in places:
        pile = found.pop(place.copies, [])
        pile.append(place)
        found[place.after] = pile
    for pile in found.values():
        count = sum(place.sector_count for place in pile)
        yield Stretch(Place(pile[0].sector, count, pile[0].copies), tuple(pile))


def parts_of(stretch: Stretch, data: Data) -> Iterator[Data]:
    """The data of each place of a stretch."""
    at = data.at
    for place in stretch.places:
        yield Data(data.memory, at, place.sector_count)
        at += place.sector_count


def joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Pieces put together that lie together on a member and in memory."""
    last: Piece | None = None
    for piece in sorted(pieces, key=lambda piece: (piece.copy.index, piece.copy.sector)):
        if last is not None and _follows(last, piece):
            count = last.data.sector_count + piece.data.sector_count
            last = Piece(last.copy, Data(last.data.memory, last.data.at, count))
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def _follows(one: Piece, other: Piece) -> bool:
    copy, data = one.copy, one.data
    return (
        other.copy == Copy(copy.index, copy.sector + data.sector_count)
        and other.data.memory is data.memory
        and other.data.at == data.at + data.sector_count
    )
