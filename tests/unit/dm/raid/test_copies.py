"""Places and pieces put together."""

from fusedm.dm.raid.copies import Copy, Data, Piece, Place, joined, parts_of, stretches

MEMORY = memoryview(bytearray(64 * 512))


def place(sector, first, second, count=8):
    """A place whose copies are in two members, at some sectors of them."""
    return Place(sector, count, (Copy(0, first), Copy(1, second)))


def piece(index, sector, at, count=8, memory=MEMORY):
    return Piece(Copy(index, sector), Data(memory, at, count))


def test_places_that_lie_together_in_all_members_are_one_stretch():
    other = Place(8, 8, (Copy(2, 0), Copy(3, 0)))
    first, second = place(0, 0, 0), place(16, 8, 8)
    one, two = stretches([first, other, second])
    assert (one.whole, one.places) == (other, (other,))
    assert (two.whole, two.places) == (place(0, 0, 0, 16), (first, second))


def test_places_that_lie_together_in_one_member_only_are_apart():
    apart = [place(0, 0, 0), place(8, 8, 16), place(16, 24, 8)]
    assert [each.whole for each in stretches(apart)] == apart


def test_the_data_of_a_stretch_are_those_of_its_places():
    [one] = stretches([place(0, 0, 0), place(8, 8, 8)])
    assert list(parts_of(one, Data(MEMORY, 16, 16))) == [Data(MEMORY, 16, 8), Data(MEMORY, 24, 8)]
    assert len(Data(MEMORY, 24, 8).view) == 8 * 512


def test_pieces_that_lie_together_on_a_member_and_in_memory_are_joined():
    assert list(joined([piece(0, 8, 8), piece(0, 0, 0)])) == [piece(0, 0, 0, 16)]
    elsewhere = memoryview(bytearray(8 * 512))
    for after in (piece(1, 8, 8), piece(0, 16, 8), piece(0, 8, 16)):
        assert list(joined([piece(0, 0, 0), after])) == [piece(0, 0, 0), after]
    assert len(list(joined([piece(0, 0, 0), piece(0, 8, 8, memory=elsewhere)]))) == 2
    assert list(joined([])) == []
