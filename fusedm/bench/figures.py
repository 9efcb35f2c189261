"""Medians, spreads and ratios. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fusedm.bench.jobs import Job


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds have in the middle, and between what they lie."""

    median: float
    low: float
    high: float


def spread(rounds: Sequence[float]) -> Spread:
    """The spread of at least one figure."""
    return Spread(statistics.median(rounds), min(rounds), max(rounds))


def ratios(job: Job, ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How many times better we are, round by round; both must have the same rounds.

    Of the two figures of one round only, since what else the machine does changes with time.
    """
    pairs = zip(ours, theirs, strict=True)
    if job.less_is_better:
        return [their / our for our, their in pairs]
    return [our / their for our, their in pairs]


def differences(more: Sequence[float], less: Sequence[float]) -> list[float]:
    """What the one takes more than the other, round by round; negative ones stay so."""
    return [a - b for a, b in zip(more, less, strict=True)]
