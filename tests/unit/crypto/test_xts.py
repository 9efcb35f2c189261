"""Tweaks of many data units at once, against doubling one by one."""

import numpy as np
import pytest

from fusedm.crypto.xts import times_power_of_x, tweaks
from tests.helpers import reference_xts
from tests.helpers.builders import pattern

POWERS = [1 << shift for shift in range(12)]


@pytest.mark.parametrize("block_count", [*POWERS, 4096])
def test_the_tweaks_are_those_of_doubling_one_by_one(block_count):
    first = bytes(pattern(3 * 16, seed=block_count))
    found = tweaks(np.frombuffer(first, "<u8").reshape(3, 2), block_count)
    assert found.shape == (3, block_count, 2)
    for unit in range(3):
        want = reference_xts.tweaks(first[16 * unit : 16 * unit + 16], block_count)
        assert found[unit].tobytes() == want


@pytest.mark.parametrize("power", POWERS)
def test_the_highest_bit_comes_round(power):
    top = np.array([1 << 63], np.uint64)
    low, high = times_power_of_x(np.zeros(1, np.uint64), top, power)
    product = int(low[0]) | int(high[0]) << 64
    start = (1 << 127).to_bytes(16, "little")
    assert product.to_bytes(16, "little") == reference_xts.tweaks(start, power + 1)[-16:]


def test_factors_are_left_alone():
    low, high = np.array([3], np.uint64), np.array([1 << 63], np.uint64)
    for power in POWERS:
        times_power_of_x(low, high, power)
    assert (low.tolist(), high.tolist()) == ([3], [1 << 63])
