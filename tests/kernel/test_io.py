"""Every byte after random I/O: what comes back, what fails, and what lies on the disks below."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import Experiment, Outcome, started, step
from tests.helpers.uml.tables import GOOD, disks_of
from tests.helpers.uml.traffic import ALL, random_table, size, traffic

pytestmark = pytest.mark.kernel

#: The size of the largest device that is read whole.
MAX_SECTORS = 4096


def busy(seed: int, table: str) -> Experiment:
    """A device with traffic."""
    block = 8 if "b4" in table else 1
    # Linux 7.2 is followed, where zero and error take discards; see below.
    refuses = "zero" in table or "error" in table.split()
    verbs = [verb for verb in ALL if verb != "discard" or not refuses]
    sectors = min(size(table), MAX_SECTORS)
    steps = (*started("x", table), *traffic(seed, "x", sectors, block=block, verbs=verbs))
    return Experiment(steps, disks_of(table, seed), images=True)


TABLES = [line.table for lines in GOOD.values() for line in lines]
TABLES += [random_table(seed) for seed in range(24)]
EXPERIMENTS = {table: busy(seed, table) for seed, table in enumerate(TABLES)}

#: In Linux 6.1 they have no discards, and a device of which they are a part has none either.
LATER = "Linux 7.2 is followed: a discard to zero is dropped, one to error fails"
DISCARDED = {
    kind: Experiment((*started("x", f"0 8 {kind}"), step("discard", "x", 0, 4096, departs=LATER)))
    for kind in ("zero", "error")
}
EXPERIMENTS |= DISCARDED


@pytest.mark.parametrize("table", EXPERIMENTS)
def test_bytes_go_where_the_kernel_puts_them(kernel: Mapping[str, Outcome], table: str) -> None:
    compare(EXPERIMENTS[table], kernel[table])
