"""What a table is put through: the life of a good one, the refusal of a bad one."""

from collections.abc import Sequence

from tests.helpers.uml import twin
from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import Answer, Experiment, Outcome, departing, started, step
from tests.helpers.uml.tables import Bad, Departure, Good, disks_of

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


def compare_refusal(experiment: Experiment, kernel: Outcome, departure: Departure | None) -> None:
    """Hold fusedm to the kernel's refusal, or to what was said about both."""
    if departure is None:
        compare(experiment, kernel)
        assert not verdict(kernel.answers).startswith("taken"), "it is a good one"
        return
    ours = twin.carry_out(experiment)
    assert (verdict(kernel.answers), verdict(ours.answers)) == (
        departure.kernel,
        departure.ours,
    ), departure.why
