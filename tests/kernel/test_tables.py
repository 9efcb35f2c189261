"""Good tables and bad ones: what the kernel makes of a line, and what fusedm makes of it."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, started, step

pytestmark = pytest.mark.kernel

DISKS = {"d0": DiskSpec(), "d1": DiskSpec(), "d2": DiskSpec(4096)}

GOOD = (
    "0 1024 linear d0 0",
    "0 2048 linear d0 0",
    "0 8 linear d0 0\n8 16 linear d1 2032",
    "0 2048 striped 1 8 d0 0",
)


def life(table: str) -> Experiment:
    """A device from its creation to its removal, looked at on the way."""
    look = (step("table", "x"), step("status", "x"), step("info", "x"), step("deps", "x"))
    steps = (
        *started("x", table),
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
    return Experiment(steps, DISKS)


EXPERIMENTS = {table: life(table) for table in GOOD}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_table_has_the_same_life_in_the_kernel(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])
