"""Sectors of plaintext are found wherever they lie."""

from fusedm.inspect import Sectors
from tests.helpers.builders import pattern

SOME = bytes(pattern(4 * 512))


def test_a_sector_is_found_at_any_other_sector():
    wanted = Sectors(100)
    wanted.add(7, 4096, SOME)
    disk = bytes(1024) + SOME[512:1024] + bytes(512) + SOME[:512]
    assert list(wanted.find(disk)) == [(1024, 7, 4608), (2048, 7, 4096)]


def test_where_it_was_seen_first_is_told():
    wanted = Sectors(100)
    wanted.add(1, 0, SOME)
    wanted.add(2, 0, SOME)
    assert {view for _, view, _ in wanted.find(SOME)} == {1}


def test_sectors_whose_bytes_are_all_equal_do_not_count():
    wanted = Sectors(100)
    wanted.add(0, 0, bytes(512) + b"\xff" * 512 + b"x" * 511 + b"y")
    assert len(wanted) == 1
    assert list(wanted.find(bytes(512) + b"\xff" * 512)) == []


def test_what_is_less_than_a_sector_does_not_count():
    wanted = Sectors(100)
    wanted.add(0, 0, SOME[:1000])
    assert len(wanted) == 1


def test_there_are_never_more_than_the_limit():
    wanted = Sectors(3)
    wanted.add(0, 0, SOME)
    assert wanted.is_full
    assert len(wanted) == 3
    wanted.clear()
    assert not wanted.is_full
    assert list(wanted.find(SOME)) == []
