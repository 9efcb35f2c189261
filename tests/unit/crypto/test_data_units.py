"""From a data unit number to an IV, and from a buffer to its data units."""

import pytest

from fusedm.crypto.data_units import (
    BATCH_BYTES,
    iv_array,
    iv_bytes,
    split_at_batches,
    split_at_data_units,
)
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


@pytest.mark.parametrize(("mode", "size"), [(MODE, 16), ("Adiantum", 32)])
@pytest.mark.parametrize("bits", [0, 16, 64, 100, 128, 192, 255])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_the_array_of_ivs_is_that_of_each_dun(mode, size, bits, before):
    dun = (1 << min(bits, 8 * size - 1)) - min(before, 1 << bits)
    ivs = iv_array(mode, dun, 3)
    assert ivs.shape == (3, size // 8)
    assert ivs.tobytes() == b"".join(iv_bytes(mode, dun + index) for index in range(3))


def test_the_last_duns_of_a_mode_have_ivs():
    assert iv_array("Adiantum", (1 << 256) - 2, 2).tobytes() == b"\xfe" + b"\xff" * 63


def test_a_run_of_duns_past_the_iv_is_a_bug():
    with pytest.raises(OverflowError):
        iv_array(MODE, (1 << 128) - 1, 2)


def test_batches_cover_the_buffer_and_their_duns_count_up():
    batches = list(split_at_batches(CONFIG, 255, 2 * BATCH_BYTES + 1024))
    ends = [BATCH_BYTES, 2 * BATCH_BYTES, 2 * BATCH_BYTES + 1024]
    assert [part for _, part in batches] == [
        slice(start, end) for start, end in zip([0, *ends], ends, strict=False)
    ]
    units = BATCH_BYTES // 1024
    assert [len(ivs) for ivs, _ in batches] == [units, units, 1]
    assert [int(ivs[0, 0]) for ivs, _ in batches] == [255, 255 + units, 255 + 2 * units]


def test_part_of_a_unit_in_a_batch_is_a_bug():
    with pytest.raises(AssertionError, match="512 is not a multiple of 1024"):
        list(split_at_batches(CONFIG, 0, 512))


def test_units_are_adjacent_and_their_duns_count_up():
    units = list(split_at_data_units(CONFIG, 255, 3072))
    assert [unit for _, unit in units] == [slice(0, 1024), slice(1024, 2048), slice(2048, 3072)]
    assert [int.from_bytes(iv, "little") for iv, _ in units] == [255, 256, 257]


def test_part_of_a_unit_is_a_bug():
    with pytest.raises(AssertionError, match="512 is not a multiple of 1024"):
        list(split_at_data_units(CONFIG, 0, 512))
