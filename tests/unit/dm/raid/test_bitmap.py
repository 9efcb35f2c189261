"""md's bitmap: regions, their bits, and their pages."""

import struct

import pytest

from fusedm.dm.raid.bitmap import (
    MAX_REGIONS,
    Bitmap,
    BitmapHeader,
    bits_bytes,
    parse_header,
    region_for,
    set_ranges,
)

HEADER = BitmapHeader(9, 7, 1000, 64, daemon_sleep=5, write_behind=256)


def stored_all(bitmap: Bitmap) -> None:
    """As after everything has been written."""
    bitmap.stored(bitmap.snapshot(bitmap.all_pages))


def test_a_header_lies_where_the_kernel_has_it():
    data = HEADER.pack()
    assert len(data) == 256
    assert struct.unpack_from("<II", data) == (0x6D746962, 4)
    assert not any(data[8:24]), "the UUID of an array of dm-raid"
    assert struct.unpack_from("<QQQ", data, 24) == (9, 7, 1000)
    assert struct.unpack_from("<IIII", data, 48) == (0, 64 * 512, 5, 256)


def test_what_is_packed_is_parsed():
    assert parse_header(HEADER.pack()) == HEADER


@pytest.mark.parametrize(
    ("at", "value"), [(0, 0), (4, 9), (52, 0), (52, 100 * 512)], ids=["magic", "version", "0", "3*"]
)
def test_what_makes_no_sense_is_no_header(at, value):
    data = bytearray(HEADER.pack())
    struct.pack_into("<I", data, at, value)
    assert parse_header(data) is None


@pytest.mark.parametrize(
    ("sectors", "region"), [(1, 8192), (8192 * MAX_REGIONS, 8192), (16384 * MAX_REGIONS, 32768)]
)
def test_regions_are_as_large_as_it_takes(sectors, region):
    assert region_for(sectors) == region


def test_a_range_has_the_regions_it_touches():
    bitmap = Bitmap(1000, 64)
    assert bitmap.count == 16
    assert bitmap.regions(63, 65) == range(2)
    assert bitmap.bounds(15) == (960, 1000)


def test_a_bit_counts_as_marked_when_it_has_been_written():
    bitmap = Bitmap(1000, 64)
    bitmap.begin_write(0, 10)
    assert bitmap.is_set(0)
    assert not bitmap.is_marked(0, 10)
    stored_all(bitmap)
    assert bitmap.is_marked(0, 10)
    assert not bitmap.is_marked(0, 65)


def test_a_bit_that_was_cleared_while_it_was_written_does_not_count():
    bitmap = Bitmap(1000, 64)
    bitmap.begin_write(0, 10)
    held = bitmap.snapshot({0})
    bitmap.end_write(0, 10)
    assert bitmap.clear([0]) == [0]
    bitmap.stored(held)
    bitmap.begin_write(0, 10)
    assert not bitmap.is_marked(0, 10)


def test_a_region_is_cleared_when_nobody_has_written_to_it_for_a_turn():
    bitmap = Bitmap(1000, 64)
    bitmap.begin_write(0, 10)
    assert bitmap.cool() == []
    bitmap.end_write(0, 10)
    assert bitmap.cool() == [], "it was written since the last look"
    assert bitmap.cool() == [0]


def test_a_region_that_is_written_again_begins_anew():
    bitmap = Bitmap(1000, 64)
    for _ in range(2):
        bitmap.begin_write(0, 10)
        bitmap.end_write(0, 10)
        assert bitmap.cool() == []


def test_regions_can_be_cleared_at_once():
    bitmap = Bitmap(1000, 64)
    for begin in (0, 64):
        bitmap.begin_write(begin, begin + 1)
    bitmap.end_write(64, 65)
    assert bitmap.cool(at_once=True) == [1]


def test_what_is_written_or_needed_meanwhile_is_not_cleared():
    bitmap = Bitmap(1000, 64)
    bitmap.begin_write(0, 10)
    bitmap.begin_write(0, 10)
    bitmap.end_write(0, 10)
    bitmap.need(64, 128)
    assert bitmap.clear([0, 1]) == []
    assert bitmap.cool(at_once=True) == []


def test_what_is_needed_is_told_for_ranges():
    bitmap = Bitmap(1000, 64)
    assert not bitmap.is_needed(0, 1000)
    bitmap.need(70, 71)
    assert bitmap.is_needed(0, 65)
    assert not bitmap.is_needed(0, 64)
    assert bitmap.is_set(1)


def test_pages_are_cut_where_the_bitmap_ends():
    bitmap = Bitmap(64 * 8 * 5000, 64)
    assert bitmap.size_bytes == 5256
    assert bitmap.all_pages == range(2)
    assert bitmap.page_range(0, 512) == (0, 4096)
    assert bitmap.page_range(1, 512) == (4096, 5632)
    assert bitmap.pages([0, (4096 - 256) * 8 - 1]) == {0}
    assert bitmap.pages([(4096 - 256) * 8]) == {1}


def test_pages_have_the_bits_of_their_regions():
    bitmap = Bitmap(64 * 8 * 5000, 64)
    bitmap.need(64 * 9, 64 * 10)
    bitmap.need(64 * 8 * 3840, 64 * 8 * 3840 + 1)
    header = BitmapHeader(1, 1, bitmap.sync_sectors, 64)
    first, second = (bitmap.page(page, header, 512) for page in (0, 1))
    assert first == header.pack() + bytes([0, 2]) + bytes(4096 - 258)
    assert second == bytes([1]) + bytes(1535)
    stored_all(bitmap)
    assert bitmap.is_marked(64 * 8 * 3840, 64 * 8 * 3840 + 1)


def test_set_bits_are_ranges_up_to_the_end():
    assert bits_bytes(HEADER) == 2
    assert list(set_ranges(HEADER, b"\x02\x80")) == [(64, 128), (960, 1000)]
    assert list(set_ranges(BitmapHeader(0, 0, 100, 64), b"\xff")) == [(0, 64), (64, 100)]


def test_what_fails_while_it_is_made_alike_is_made_alike_again():
    bitmap = Bitmap(1000, 64)
    bitmap.need(0, 10)
    bitmap.take_up(0)
    bitmap.need(0, 10)
    bitmap.is_alike(0)
    bitmap.take_up(0)
    bitmap.is_alike(0)
    assert not bitmap.needed
    assert bitmap.has_open_bits
