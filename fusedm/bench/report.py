"""The result as rows of one table. Pure."""

from collections.abc import Sequence

from fusedm.bench.figures import Spread, spread
from fusedm.bench.record import Figure, NotRun, Ratio, Record

Row = tuple[str, ...]

#: Digits behind the point for each unit; seconds are short.
_DIGITS = {"IOPS": 0, "MiB/s": 1, "MiB": 1, "tx/s": 0, "us": 2, "s": 3, "ms": 2, "x": 2}

NO_RESULT = "QUICK RUN: THESE FIGURES ARE NO RESULT; leave --quick away for one"


def rows(record: Record) -> list[Row]:
    """The table of a record, its heading first."""
    if record.kind == "compare":
        return _pair_rows(record)
    if record.kind == "layers":
        return _layer_rows(record.figures)
    return _goal_rows(record.figures)


def amount(value: float, unit: str) -> str:
    """A figure with its unit."""
    return f"{value:.{_DIGITS[unit]}f} {unit}"


def _pair_rows(record: Record) -> list[Row]:
    medians = {
        (figure.job, figure.device): amount(spread(figure.rounds).median, figure.unit)
        for figure in record.figures
    }
    found: list[Row] = [("JOB", "DEVICE", "MEDIAN", "AGAINST", "ITS MEDIAN", "RATIO", "GOAL")]
    pairs: list[Ratio | NotRun] = [*record.ratios, *record.not_run]
    order = list(dict.fromkeys(pair.job for pair in pairs))
    for pair in sorted(pairs, key=lambda pair: order.index(pair.job)):
        if isinstance(pair, Ratio):
            told = spread(pair.rounds)
            ratio, goal = _spread_text(told, 2), _at_least(told.median, pair.goal)
        else:
            ratio, goal = f"not run: {pair.reason}", "-"
        ours = medians.get((pair.job, pair.device), "-")
        theirs = medians.get((pair.job, pair.against), "-")
        found.append((pair.job, pair.device, ours, pair.against, theirs, ratio, goal))
    return found


def _layer_rows(figures: Sequence[Figure]) -> list[Row]:
    found: list[Row] = [("REQUEST", "LAYER", "MEDIAN", "MIN TO MAX", "")]
    for figure in figures:
        told = spread(figure.rounds)
        noise = "within noise" if told.low <= 0 <= told.high else ""
        span = f"[{told.low:.2f} to {told.high:.2f}]"
        found.append((figure.job, figure.device, amount(told.median, figure.unit), span, noise))
    return found


def _goal_rows(figures: Sequence[Figure]) -> list[Row]:
    found: list[Row] = [("CHECK", "FIGURE", "MEDIAN", "GOAL")]
    for figure in figures:
        median = spread(figure.rounds).median
        goal = "-"
        if figure.goal is not None:
            verdict = "met" if median <= figure.goal else "MISSED"
            goal = f"at most {figure.goal:g} {verdict}"
        found.append((figure.job, figure.device, amount(median, figure.unit), goal))
    return found


def _spread_text(told: Spread, digits: int) -> str:
    return f"{told.median:.{digits}f} [{told.low:.{digits}f}-{told.high:.{digits}f}]"


def _at_least(median: float, goal: float | None) -> str:
    if goal is None:
        return "-"
    return f"{goal:g} " + ("met" if median >= goal else "MISSED")
