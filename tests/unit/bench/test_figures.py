"""Medians, ratios and differences."""

import pytest

from fusedm.bench.figures import Spread, differences, ratios, spread
from fusedm.bench.jobs import FIO_JOBS, UNTAR


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [([3.0], (3, 3, 3)), ([5.0, 1.0, 2.0], (2, 1, 5)), ([4.0, 1.0, 2.0, 3.0], (2.5, 1, 4))],
)
def test_a_spread_has_median_least_and_most(rounds, expected):
    assert spread(rounds) == Spread(*expected)


def test_a_ratio_is_of_the_figures_of_one_round():
    assert ratios(FIO_JOBS[0], [10, 30], [5, 10]) == [2, 3]


def test_of_seconds_less_is_better():
    assert ratios(UNTAR, [2, 4], [4, 2]) == [2, 0.5]


def test_different_numbers_of_rounds_are_not_compared():
    with pytest.raises(ValueError, match="zip"):
        ratios(FIO_JOBS[0], [1, 2], [1])


def test_a_negative_difference_stays_negative():
    assert differences([3, 1], [1, 2]) == [2, -1]
