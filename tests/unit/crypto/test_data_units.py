"""From a data unit number to an IV, and from a buffer to its data units."""

import pytest

from fusedm.crypto.data_units import iv_bytes, split_at_data_units
from tests.helpers.builders import MODE, make_key

CONFIG = make_key(unit=1024).config


@pytest.mark.parametrize(
    ("dun", "iv"),
    [
        (0, "00" * 16),
        (0x0102, "0201" + "00" * 14),
        ((1 << 64) - 1, "ff" * 8 + "00" * 8),
        (1 << 64, "00" * 8 + "01" + "00" * 7),
        ((1 << 128) - 1, "ff" * 16),
    ],
)
def test_the_iv_is_the_dun_in_little_endian(dun, iv):
    assert iv_bytes(MODE, dun).hex() == iv


def test_a_dun_larger_than_the_iv_is_a_bug():
    with pytest.raises(OverflowError):
        iv_bytes(MODE, 1 << 128)


def test_units_are_adjacent_and_their_duns_count_up():
    units = list(split_at_data_units(CONFIG, 255, 3072))
    assert [unit for _, unit in units] == [slice(0, 1024), slice(1024, 2048), slice(2048, 3072)]
    assert [int.from_bytes(iv, "little") for iv, _ in units] == [255, 256, 257]


def test_part_of_a_unit_is_a_bug():
    with pytest.raises(AssertionError, match="512 is not a multiple of 1024"):
        list(split_at_data_units(CONFIG, 0, 512))
