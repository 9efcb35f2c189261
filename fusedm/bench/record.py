"""The result of a run, as it is written to JSON and read back. Pure."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fusedm.bench.figures import Spread, spread
from fusedm.block.errors import StackError

FORMAT = "fusedm-bench"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one device at one job, a figure for each round.

    goal is the most it should be, where it is to be small by itself and not beside another's.
    """

    job: str
    device: str
    unit: str
    rounds: Sequence[float]
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times better a device is than what it is compared with, for each round."""

    job: str
    device: str
    against: str
    goal: float | None
    rounds: Sequence[float]

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is the ratio of."""
        return self.job, self.device, self.against


@dataclass(frozen=True, slots=True)
class NotRun:
    """A pair whose one side could not be measured here."""

    job: str
    device: str
    against: str
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """All of one run; kind is compare, layers or memory."""

    kind: str
    quick: bool
    arguments: Mapping[str, Any]
    versions: Mapping[str, str]
    conditions: Mapping[str, Any]
    figures: Sequence[Figure]
    ratios: Sequence[Ratio] = field(default=())
    not_run: Sequence[NotRun] = field(default=())


def to_json(record: Record) -> str:
    """The record as text, with a median beside the rounds of everything."""
    told = {"format": FORMAT, "version": VERSION, **asdict(record)}
    measured: list[dict[str, Any]] = [*told["figures"], *told["ratios"]]
    for item in measured:
        item.update(asdict(spread(item["rounds"])))
    return json.dumps(told, indent=2) + "\n"


def from_json(text: str, where: str) -> Record:
    """The record of a text; where names it in errors.

    Raises: StackError, one line, for whatever is not a record of this version.
    """
    try:
        told = json.loads(text)
    except ValueError as error:
        raise StackError(f"{where}: is not JSON: {error}") from None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise StackError(f"{where}: is no result of `fusedm bench --json`: no format {FORMAT!r}")
    if told.get("version") != VERSION:
        raise StackError(f"{where}: is of version {told.get('version')!r}, {VERSION} is read here")
    try:
        record = Record(
            kind=told["kind"],
            quick=told["quick"],
            arguments=dict(told["arguments"]),
            versions=dict(told["versions"]),
            conditions=dict(told["conditions"]),
            figures=[Figure(**_without_spread(item)) for item in told["figures"]],
            ratios=[Ratio(**_without_spread(item)) for item in told["ratios"]],
            not_run=[NotRun(**item) for item in told["not_run"]],
        )
        for figure in record.figures:
            _check_rounds(figure.rounds)
        for ratio in record.ratios:
            _check_rounds(ratio.rounds)
    except (KeyError, TypeError, ValueError) as error:
        raise StackError(f"{where}: is damaged: {type(error).__name__} {error}") from None
    return record


def fallen(old: Record, new: Record, factor: float) -> list[str]:
    """A line for each ratio that fell by more than the factor.

    Only ratios: figures of another machine or another day mean nothing beside these.
    Raises: StackError if the two have no ratio in common.
    """
    before = {ratio.key: ratio for ratio in old.ratios}
    common = [ratio for ratio in new.ratios if ratio.key in before]
    if not common:
        raise StackError(
            f"nothing to compare: {len(old.ratios)} and {len(new.ratios)} ratios, 0 in common"
        )
    lines = []
    for ratio in common:
        was, now = spread(before[ratio.key].rounds).median, spread(ratio.rounds).median
        if was > now * factor:
            lines.append(
                f"{ratio.job} {ratio.device} against {ratio.against}: the ratio fell from "
                f"{was:.2f} to {now:.2f}, by a factor of {was / now:.2f}, at most {factor:g}"
            )
    return lines


def uncompared(old: Record, new: Record) -> list[str]:
    """A line for each of the two that has ratios which the other has not."""
    lines = []
    for name, one, other in (("the old", old, new), ("the new", new, old)):
        known = {ratio.key for ratio in other.ratios}
        alone = [ratio for ratio in one.ratios if ratio.key not in known]
        counts = Counter(f"{ratio.device} against {ratio.against}" for ratio in alone)
        if counts:
            said = (f"{pair} ({count})" for pair, count in counts.items())
            lines.append(f"not compared, only in {name} result: {', '.join(said)}")
    return lines


def _check_rounds(rounds: Sequence[object]) -> None:
    if not rounds or not all(isinstance(item, int | float) for item in rounds):
        raise ValueError(f"rounds: {rounds!r}")


def _without_spread(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in Spread.__slots__}
