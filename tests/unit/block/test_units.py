"""The only conversions between bytes, sectors and size words."""

import pytest

from fusedm.block.units import (
    MAX_SECTORS,
    SECTOR_SHIFT,
    SECTOR_SIZE,
    bytes_to_sectors,
    format_size,
    is_power_of_two,
    parse_size,
    sectors_to_bytes,
)


def test_sector_shift_and_size_agree():
    assert 1 << SECTOR_SHIFT == SECTOR_SIZE == 512


def test_the_largest_device_fits_a_file_offset():
    assert sectors_to_bytes(MAX_SECTORS) <= (1 << 63) - 1 < sectors_to_bytes(MAX_SECTORS + 1)


@pytest.mark.parametrize("number", [1, 2, 512, 1 << 70])
def test_powers_of_two_are_known(number):
    assert is_power_of_two(number)


@pytest.mark.parametrize("number", [0, -1, -2, 3, 513])
def test_other_numbers_are_no_powers_of_two(number):
    assert not is_power_of_two(number)


def test_bytes_and_sectors_convert_both_ways():
    assert bytes_to_sectors(sectors_to_bytes(7)) == 7


def test_a_part_of_a_sector_is_refused_with_the_remainder():
    with pytest.raises(ValueError, match=r"1025 bytes .* 512-byte sectors \(1 bytes over\)"):
        bytes_to_sectors(1025)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("0", 0),
        ("8s", 4096),
        ("1B", 1),
        ("64KiB", 1 << 16),
        ("64kib", 1 << 16),
        (" 1 GiB ", 1 << 30),
        ("2MiB", 1 << 21),
        ("3TiB", 3 << 40),
        ("1PiB", 1 << 50),
    ],
)
def test_size_words_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "KiB", "-1", "1.5GiB", "1KB", "1 MB", "0x10", "1GiB2", "٣", "²"]
)
def test_other_words_are_no_sizes(text):
    with pytest.raises(ValueError, match="is not a size: use a number with B, s, KiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (1 << 10, "1KiB"),
        (1536, "1536B"),
        (3 << 30, "3GiB"),
        (1 << 50, "1PiB"),
    ],
)
def test_sizes_are_written_shortest_and_exact(size, text):
    assert format_size(size) == text
    assert parse_size(text) == size
