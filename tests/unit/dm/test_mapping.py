"""Splitting bios at the ends of targets and chunks, never within a data unit."""

import pytest

from fusedm.block import Bio, Op
from fusedm.dm import parse_table
from fusedm.dm.mapping import split_bio
from tests.helpers.builders import make_key, write_bio
from tests.helpers.devices import RecordingDevice, lookup_in

KEY = make_key(unit=4096)
LOOKUP = lookup_in(RecordingDevice("d0", 4096), RecordingDevice("d1", 4096))


def table(text):
    return parse_table(text, LOOKUP, lambda: 0.0)


def pieces(text, bio):
    """(begin, end, start of the entry, straddles) of each piece, in sectors of the device."""
    return [
        (piece.bio.sector, piece.bio.end_sector, piece.entry.start_sector, piece.straddles)
        for piece in split_bio(table(text), bio)
    ]


TWO = "0 12 linear d0 0\n12 100 linear d1 0"
STRIPED = "0 96 striped 2 12 d0 0 d1 0"


def test_a_bio_within_one_target_is_its_own_only_piece():
    bio = write_bio(2, bytes(4096), KEY)
    (piece,) = split_bio(table(TWO), bio)
    assert piece.bio is bio


def test_a_bio_without_context_is_cut_at_the_boundary():
    assert pieces(TWO, write_bio(8, bytes(8 * 512))) == [(8, 12, 0, False), (12, 16, 12, False)]


def test_whole_data_units_up_to_the_boundary_are_cut_there():
    assert pieces(TWO, write_bio(4, bytes(8192), KEY)) == [(4, 12, 0, False), (12, 20, 12, False)]


def test_a_data_unit_on_the_boundary_is_a_piece_of_its_own():
    assert pieces(TWO, write_bio(0, bytes(3 * 4096), KEY)) == [
        (0, 8, 0, False),
        (8, 16, 0, True),
        (16, 24, 12, False),
    ]


def test_a_bio_that_is_one_straddling_unit():
    assert pieces(TWO, write_bio(8, bytes(4096), KEY)) == [(8, 16, 0, True)]


def test_a_unit_may_straddle_several_targets():
    tiny = "0 6 linear d0 0\n6 1 linear d1 0\n7 2 linear d0 8\n9 100 linear d1 8"
    assert pieces(tiny, write_bio(4, bytes(2 * 4096), KEY)) == [
        (4, 12, 0, True),
        (12, 20, 9, False),
    ]


def test_straddling_units_that_touch_are_one_piece():
    assert pieces("0 96 striped 2 3 d0 0 d1 0", write_bio(0, bytes(4 * 4096), KEY)) == [
        (0, 32, 0, True)
    ]


def test_chunks_cut_data_but_not_data_units():
    assert pieces(STRIPED, write_bio(0, bytes(48 * 512))) == [
        (begin, begin + 12, 0, False) for begin in (0, 12, 24, 36)
    ]
    assert pieces(STRIPED, write_bio(0, bytes(4 * 4096), KEY)) == [
        (0, 8, 0, False),
        (8, 16, 0, True),
        (16, 24, 0, False),
        (24, 32, 0, False),
    ]


@pytest.mark.parametrize("op", [Op.DISCARD, Op.WRITE_ZEROES])
def test_chunks_do_not_cut_what_brings_no_data(op):
    assert pieces(STRIPED, Bio(op, 5, 60)) == [(5, 65, 0, False)]
    assert pieces(TWO, Bio(op, 5, 60)) == [(5, 12, 0, False), (12, 65, 12, False)]


def test_every_piece_has_the_dun_of_its_place():
    bio = write_bio(4, bytes(4 * 4096), KEY, 100)
    assert [
        (piece.bio.sector, piece.bio.crypt.dun) for piece in split_bio(table(STRIPED), bio)
    ] == [(4, 100), (12, 101), (20, 102), (28, 103)]
