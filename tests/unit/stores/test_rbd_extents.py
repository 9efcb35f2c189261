"""Maps of the objects of an image."""

import pytest

from fusedm.stores.rbd.extents import Extents


@pytest.fixture
def extents() -> Extents:
    """Of an image of 9 and a half objects of 10 bytes, of which 2, 3 and the last are there."""
    made = Extents(95, 10)
    made.add(25, 10)
    made.add(94, 100)
    return made


@pytest.mark.parametrize(
    ("offset", "data", "hole"),
    [(0, 20, 0), (19, 20, 19), (20, 20, 40), (39, 39, 40), (40, 90, 40), (92, 92, 95)],
)
def test_data_and_holes_begin_where_objects_do(
    extents: Extents, offset: int, data: int, hole: int
) -> None:
    assert (extents.seek_data(offset), extents.seek_hole(offset)) == (data, hole)


def test_nothing_comes_after_the_last(extents: Extents) -> None:
    empty = Extents(95, 10)
    assert (empty.seek_data(3), empty.seek_hole(3)) == (95, 3)
    assert extents.seek_data(95) == 95


def test_what_objects_take_is_at_most_the_size(extents: Extents) -> None:
    assert extents.data_bytes == 30
    extents.add(0, 95)
    assert extents.data_bytes == 95


def test_what_lies_beyond_the_end_adds_nothing() -> None:
    extents = Extents(95, 10)
    extents.add(100, 10)
    extents.add(0, 0)
    assert extents.data_bytes == 0


def test_a_merged_map_has_the_data_of_both(extents: Extents) -> None:
    other = Extents(95, 10)
    other.add(0, 1)
    extents.merge(other)
    assert (extents.seek_data(0), extents.data_bytes) == (0, 40)
