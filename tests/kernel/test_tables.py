"""Good tables and bad ones: what the kernel makes of a line, and what fusedm makes of it."""

from collections.abc import Mapping, Sequence

import pytest

from tests.helpers.uml import twin
from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import Answer, Experiment, Outcome, departing, started, step
from tests.helpers.uml.tables import BAD, GOOD, Bad, Departure, Good, disks_of

pytestmark = pytest.mark.kernel

LOOK = (step("table", "x"), step("status", "x"), step("info", "x"), step("deps", "x"))


def life(line: Good) -> Experiment:
    """A device from its creation to its removal, looked at on the way."""
    look = departing(LOOK, line.departs)
    steps = (
        *started("x", line.table),
        *look,
        step("suspend", "x"),
        step("info", "x"),
        step("load", "x", "0 8 zero"),
        step("info", "x"),
        step("table", "x", True),
        step("clear", "x"),
        step("info", "x"),
        step("resume", "x"),
        *look,
        step("remove", "x"),
        step("info", "x"),
    )
    return Experiment(steps, disks_of(line.table))


TRIED = (step("resume", "x"), step("info", "x"), step("table", "x"), step("table", "x", True))


def on_fresh(line: Bad) -> Experiment:
    """A first table."""
    steps = (step("create", "x"), step("load", "x", line.table), *TRIED)
    return Experiment(steps, disks_of(line.table))


def on_live(line: Bad) -> Experiment:
    """A table in the place of another."""
    live = started("x", "0 8 linear d2 0")
    steps = (*live, step("load", "x", line.table), *TRIED)
    return Experiment(steps, disks_of("d2 " + line.table))


def verdict(answers: Sequence[Answer]) -> str:
    """What came of a load in words: which verb failed, or which table is live now."""
    load, resume, info, table, _ = answers[-5:]
    if "errno" in load:
        return f"load: {load['errno']}"
    if "errno" in resume:
        return f"resume: {resume['errno']}" + ", stays suspended" * info["suspended"]
    return f"taken: {table['text']}"


LIVES = {line.table: line for lines in GOOD.values() for line in lines}
REFUSALS = {line.table: line for lines in BAD.values() for line in lines}
EXPERIMENTS = {table: life(line) for table, line in LIVES.items()}
EXPERIMENTS |= {f"fresh {table}": on_fresh(line) for table, line in REFUSALS.items()}
EXPERIMENTS |= {f"live {table}": on_live(line) for table, line in REFUSALS.items()}


@pytest.mark.parametrize("table", LIVES)
def test_a_good_table_is_lived_with_as_in_the_kernel(
    kernel: Mapping[str, Outcome], table: str
) -> None:
    compare(EXPERIMENTS[table], kernel[table])


@pytest.mark.parametrize("table", REFUSALS)
def test_a_first_table_is_refused_as_in_the_kernel(
    kernel: Mapping[str, Outcome], table: str
) -> None:
    _compare_refusal(kernel, f"fresh {table}", REFUSALS[table].fresh)


@pytest.mark.parametrize("table", REFUSALS)
def test_a_table_in_the_place_of_another_is_refused_as_in_the_kernel(
    kernel: Mapping[str, Outcome], table: str
) -> None:
    _compare_refusal(kernel, f"live {table}", REFUSALS[table].live)


def _compare_refusal(kernel: Mapping[str, Outcome], name: str, departure: Departure | None) -> None:
    if departure is None:
        compare(EXPERIMENTS[name], kernel[name])
        assert not verdict(kernel[name].answers).startswith("taken"), "it is a good one"
        return
    ours = twin.carry_out(EXPERIMENTS[name])
    assert (verdict(kernel[name].answers), verdict(ours.answers)) == (
        departure.kernel,
        departure.ours,
    ), departure.why
