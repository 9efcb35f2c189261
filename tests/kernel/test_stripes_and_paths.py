"""unstriped and switch beside the kernel's: tables, messages, refusals, and where bytes lie."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import Experiment, Outcome, Step, started, step
from tests.helpers.uml.lives import compare_refusal, life, on_fresh
from tests.helpers.uml.tables import Bad, Good, departing, disks_of
from tests.helpers.uml.traffic import traffic

pytestmark = pytest.mark.kernel

GOOD = (
    Good("0 1024 unstriped 2 8 0 d0 0"),
    Good("0 1024 unstriped 2 8 1 d0 0"),
    Good("0 600 unstriped 3 6 2 d2 16"),
    Good("0 2048 unstriped 1 1 0 d0 0"),
    Good("0 64 unstriped 4 16 3 b4 8"),
    Good("0 64 zero\n64 512 unstriped 2 8 1 d0 8"),
    Good("0 2048 switch 1 64 0 d0 0"),
    Good("0 1024 switch 2 64 0 d0 8 d1 0"),
    Good("0 1000 switch 3 7 0 d0 0 d1 0 d2 16"),
    Good("0 64 zero\n64 512 switch 2 8 0 d0 0 d1 1"),
)

LATE = "here the last chunk must lie on the device"
WRONG = "the kernel's check of the index is wrong"
BAD = (
    Bad("0 1024 unstriped"),
    Bad("0 1024 unstriped 2 8 0 d0"),
    Bad("0 1024 unstriped 2 8 0 d0 0 0"),
    Bad("0 1024 unstriped 0 8 0 d0 0"),
    Bad("0 1024 unstriped 2 0 0 d0 0"),
    Bad("0 1024 unstriped 2 8 3 d0 0"),
    Bad("0 1024 unstriped 2 8 x d0 0"),
    Bad("0 1024 unstriped 2 8 0 nosuch 0"),
    Bad("0 1024 unstriped 2 8 0 d0 x"),
    Bad("0 1028 unstriped 2 8 0 d0 0"),
    departing(
        "0 512 unstriped 2 8 2 d0 0",
        "taken: 0 512 unstriped 2 8 2 d0 0",
        "load: EINVAL",
        WRONG,
    ),
    departing(
        "0 512 unstriped 1 8 5 d0 0",
        "taken: 0 512 unstriped 1 8 5 d0 0",
        "load: EINVAL",
        WRONG,
    ),
    departing(
        "0 1032 unstriped 2 8 0 d0 0",
        "taken: 0 1032 unstriped 2 8 0 d0 0",
        "load: EINVAL",
        LATE,
    ),
    Bad("0 1024 switch"),
    Bad("0 1024 switch 2 64"),
    Bad("0 1024 switch 0 64 0 d0 0"),
    Bad("0 1024 switch 1 0 0 d0 0"),
    Bad("0 1024 switch 1 64 1 d0 0"),
    Bad("0 1024 switch 1 64 1 x d0 0"),
    Bad("0 1024 switch 2 64 0 d0 0"),
    Bad("0 1024 switch 1 64 0 d0 0 d1 0"),
    Bad("0 1024 switch 1 64 0 d0 x"),
    Bad("0 2049 switch 1 64 0 d0 0"),
)

MESSAGES = (
    *("0:1", "0:1 1:1 F:0", ":0", "2:0 :1 :2", "0:0 :1 :2 R3,a", "5:1 r1,2", "R1,f", "3:1 R1,0"),
    *("10:0", "0:3", "x:0", "0:", "0", "0:1x", "R,1", "R1", "R1,", "R1,2,3", "R0,1", "R2,1"),
    *("f:0 R1,1", "0:2 bad 1:2", ":", ",", "1:1 R3,1", "R1,10"),
)


def told(words: str) -> list[Step]:
    """A message, and what all the regions hold then, a piece of each."""
    regions = [step("read", "x", region * 64 * 512, 512) for region in range(16)]
    return [step("message", "x", 0, f"set_region_mappings {words}".strip()), *regions]


def busy(seed: int, table: str) -> Experiment:
    """A device with traffic."""
    sectors = sum(int(line.split()[1]) for line in table.splitlines())
    verbs = ("write", "read", "flush")
    block = 8 if "b4" in table else 1
    steps = (*started("x", table), *traffic(seed, "x", sectors, block=block, verbs=verbs))
    return Experiment(steps, disks_of(table, seed), images=True)


SWITCH = "0 1024 switch 3 64 0 d0 0 d1 0 d2 16"
TOLD = Experiment(
    (
        *started("x", SWITCH),
        *(each for words in ("", *MESSAGES) for each in told(words)),
        *(step("message", "x", 0, words) for words in ("nosuch", "SET_REGION_MAPPINGS 1:1")),
        *traffic(1, "x", 1024, verbs=("write", "read", "flush")),
        step("discard", "x", 0, 4096),
        step("table", "x"),
        step("status", "x"),
    ),
    disks_of(SWITCH, 5),
    images=True,
)

LIVES = {line.table: line for line in GOOD}
REFUSALS = {line.table: line for line in BAD}
EXPERIMENTS = {
    "messages": TOLD,
    **{table: life(line) for table, line in LIVES.items()},
    **{f"busy {table}": busy(seed, table) for seed, table in enumerate(LIVES)},
    **{table: on_fresh(line) for table, line in REFUSALS.items()},
}


@pytest.mark.parametrize(
    "name", ["messages", *LIVES, *(name for name in EXPERIMENTS if name.startswith("busy"))]
)
def test_they_do_what_the_kernels_do(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("table", REFUSALS)
def test_they_are_refused_as_in_the_kernel(kernel: Mapping[str, Outcome], table: str) -> None:
    compare_refusal(EXPERIMENTS[table], kernel[table], REFUSALS[table].fresh)
