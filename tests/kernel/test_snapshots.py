"""Snapshots: what origin and snapshot show, and what lies on the copy-on-write device."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step
from tests.helpers.uml.lives import compare_refusal, on_fresh
from tests.helpers.uml.tables import Bad, unknown
from tests.helpers.uml.traffic import reads, traffic

pytestmark = pytest.mark.kernel

DISKS = {"d0": DiskSpec(seed=1), "d1": DiskSpec()}
LOOK = tuple(step(verb, "snap") for verb in ("status", "table", "info", "deps"))


def set_up(line: str) -> tuple[Step, ...]:
    """A snapshot made while its origin is suspended, as it has to be in the kernel."""
    origin = (*started("origin", "0 512 snapshot-origin d0"), step("suspend", "origin"))
    snapshot = started("snap", f"0 512 snapshot d0 d1 {line}")
    return (*origin, *snapshot, step("resume", "origin"))


def busy(seed: int, line: str, is_small: bool) -> Experiment:
    """Traffic on the origin and on the snapshot in turn.

    is_small: one chunk for each write; then chunks are copied in one order only.
    """
    steps = [*set_up(line), *LOOK]
    for number in range(4):
        for name in ("origin", "snap"):
            some = traffic(seed + number, name, 512, count=6, verbs=("write", "read", "flush"))
            steps += [
                each
                for each in some
                if not is_small or each.verb != "write" or each.arguments[2] == 512
            ]
        steps.append(step("status", "snap"))
    steps += [*LOOK, *reads("origin", 512), *reads("snap", 512)]
    if line.startswith("P"):
        # What is on the device is found again.
        steps += [step("remove", "snap"), *started("snap", f"0 512 snapshot d0 d1 {line}")]
        steps += [*LOOK, *reads("snap", 512)]
    return Experiment(tuple(steps), DISKS, images=is_small and line.startswith("P"))


LINES = ("P 8", "PO 8", "P 16", "P 64", "N 8", "N 32")
BUSY = {
    f"{line} {'small' if is_small else 'large'}": busy(seed, line, is_small)
    for seed, line in enumerate(LINES)
    for is_small in (True, False)
}
BUSY["an origin that was not suspended"] = Experiment(
    (
        *started("origin", "0 512 snapshot-origin d0"),
        *started("snap", "0 512 snapshot d0 d1 P 8"),
        step("write", "origin", 3 * 512, 8192, 1),
        step(
            "read", "snap", 0, 16384, departs="the kernel's origin heeds chunks from its resume on"
        ),
    ),
    DISKS,
)

SMALL = {"d0": DiskSpec(seed=1), "d1": DiskSpec(48)}
FULL = {
    f"full {kind}": Experiment(
        (
            *set_up(f"{kind} 8"),
            *(step("write", "origin", number * 4096, 4096, number) for number in range(6)),
            *LOOK,
            step("read", "snap", 0, 4096),
            step("write", "snap", 65536, 4096, 1),
            *LOOK,
            step("read", "snap", 0, 4096),
            step("write", "origin", 0, 4096, 9),
        ),
        SMALL,
    )
    for kind in ("P", "PO", "N")
}

BAD = (
    Bad("0 512 snapshot"),
    Bad("0 512 snapshot d0 d1 P"),
    Bad("0 512 snapshot d0 d0 P 8"),
    Bad("0 512 snapshot d0 d1 X 8"),
    Bad("0 512 snapshot d0 d1 P 7"),
    Bad("0 512 snapshot d0 d1 P x"),
    Bad("0 512 snapshot d0 d1 N 0"),
    Bad("0 512 snapshot d0 d1 P 8 1 nosuch"),
    Bad("0 512 snapshot d0 d1 P 8 1 discard_passdown_origin"),
    unknown("0 512 snapshot nosuch d1 P 8"),
    unknown("0 512 snapshot d0 nosuch P 8"),
    Bad("0 512 snapshot-origin"),
    Bad("0 512 snapshot-origin d0 0"),
    unknown("0 512 snapshot-origin nosuch"),
)
REFUSALS = {line.table: line for line in BAD}
EXPERIMENTS = {**BUSY, **FULL, **{table: on_fresh(line) for table, line in REFUSALS.items()}}


@pytest.mark.parametrize("name", [*BUSY, *FULL])
def test_snapshots_hold_what_the_kernels_hold(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("table", REFUSALS)
def test_snapshots_are_refused_as_in_the_kernel(kernel: Mapping[str, Outcome], table: str) -> None:
    compare_refusal(EXPERIMENTS[table], kernel[table], REFUSALS[table].fresh)
