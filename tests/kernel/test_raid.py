"""Arrays: what they show, what they say, and where their data lie."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step
from tests.helpers.uml.lives import compare_refusal, on_fresh, on_live
from tests.helpers.uml.tables import Bad, departing, unknown
from tests.helpers.uml.traffic import traffic

pytestmark = pytest.mark.kernel

DISKS = {
    # All alike, for it is not said from which of several members is read.
    **{f"d{index}": DiskSpec(2048, seed=1) for index in range(4)},
    **{f"m{index}": DiskSpec(64) for index in range(4)},
}
LOOK = tuple(step(verb, "x") for verb in ("status", "table", "deps"))
SETTLE = step("sleep", 1.0)
SOME = ("write", "write", "read", "flush")


def life(length: int, line: str) -> Experiment:
    """An array from its beginning on, under load, and once more."""
    table = f"0 {length} raid {line}"
    steps = (
        *(*started("x", table), SETTLE, *LOOK, *traffic(length, "x", length, verbs=SOME)),
        *(step("suspend", "x"), *LOOK[1:], step("resume", "x"), SETTLE, *LOOK, step("info", "x")),
        *(step("remove", "x"), *started("x", table), SETTLE, *LOOK),
        *traffic(length + 1, "x", length, count=4, verbs=SOME),
    )
    return Experiment(steps, DISKS, images=line.count(" - ") > 1)


def with_metadata(count: int) -> str:
    return f"{count} " + " ".join(f"m{index} d{index}" for index in range(count))


def without(count: int) -> str:
    return f"{count} " + " ".join(f"- d{index}" for index in range(count))


LIVES = {
    f"{length} {line}": life(length, line)
    for length, line in (
        (2048, f"raid1 1 0 {with_metadata(2)}"),
        (2048, f"raid1 1 0 {without(3)}"),
        (2000, f"raid1 4 0 nosync region_size 64 {with_metadata(3)}"),
        (2048, f"raid1 8 0 nosync daemon_sleep 1000 write_mostly 1 region_size 1024 {without(2)}"),
        (4096, f"raid0 1 64 {without(2)}"),
        (6144, f"raid0 1 8 {with_metadata(3)}"),
        (4096, f"raid10 1 64 {with_metadata(4)}"),
        (3072, f"raid10 1 64 {with_metadata(3)}"),
        (2048, f"raid10_near 4 8 raid10_copies 3 nosync {with_metadata(3)}"),
        (2048, f"raid10 5 128 raid10_format near raid10_copies 2 {with_metadata(2)}"),
        (2048, f"raid1 1 0 {with_metadata(1)}"),
        (2048, f"raid0 1 64 {without(1)}"),
    )
}


def asked(line: str) -> Experiment:
    """Members that differ are found, left, and made alike."""
    steps: list[Step] = [*started("x", f"0 2048 raid {line}"), SETTLE]
    for word in ("check", "repair", "check", "resync", "recover", "nosuch"):
        steps += [step("message", "x", 0, word), SETTLE, step("status", "x"), step("info", "x")]
    return Experiment((*steps, *traffic(1, "x", 2048, count=1, verbs=("read",))), DISKS)


MESSAGES = {
    line: asked(line)
    for line in (
        f"raid1 2 0 nosync {without(2)}",
        f"raid1 2 0 nosync {with_metadata(3)}",
        f"raid10 2 64 nosync {with_metadata(2)}",
        f"raid0 1 64 {without(2)}",
    )
}


def half_made(line: str) -> Experiment:
    """A new array, some of whose superblocks were written when the power was cut, others not."""
    other = line.replace("m1 d1", "m3 d1")
    return Experiment(
        (
            *(*started("x", f"0 2048 raid {line}"), SETTLE, step("remove", "x")),
            *(step("create", "x"), step("load", "x", f"0 2048 raid {other}")),
            step("load", "x", "0 2048 raid " + other.replace(" 1 0", " 3 0 rebuild 1")),
            *(step("resume", "x"), SETTLE, *LOOK, step("remove", "x")),
        ),
        DISKS,
    )


HALF_MADE = {f"half made {line}": half_made(line) for line in (f"raid1 1 0 {with_metadata(2)}",)}

BAD = (
    Bad("0 2048 raid"),
    Bad("0 2048 raid raid1"),
    Bad("0 2048 raid raid1 1 0"),
    Bad("0 2048 raid raid1 1 0 2 - d0"),
    Bad("0 2048 raid nosuch 1 0 2 - d0 - d1"),
    Bad("0 2048 raid raid10 1 64 1 m0 d0"),
    Bad("0 2048 raid raid0 1 9 2 - d0 - d1"),
    Bad("0 2048 raid raid0 1 4 2 - d0 - d1"),
    Bad("0 2048 raid raid1 3 0 rebuild 2 2 - d0 - d1"),
    Bad("0 2048 raid raid1 5 0 rebuild 0 rebuild 1 2 - d0 - d1"),
    Bad("0 2048 raid raid1 3 0 sync nosync 2 - d0 - d1"),
    Bad("0 2048 raid raid1 3 0 region_size 3 2 - d0 - d1"),
    Bad("0 2048 raid raid10 3 8 raid10_copies 3 2 - d0 - d1"),
    Bad("0 2048 raid raid10 3 8 raid10_copies 1 2 - d0 - d1"),
    Bad("0 2048 raid raid1 1 0 2 d0 - - d1"),
    Bad("0 2048 raid raid0 1 64 2 - d0 - -"),
    Bad("0 2047 raid raid0 1 64 2 - d0 - d1"),
    Bad("0 8192 raid raid1 1 0 2 - d0 - d1"),
    unknown("0 2048 raid raid1 1 0 2 - nosuch - d1"),
    departing(
        "0 2048 raid raid10 1 64 2 - d0 - d1",
        "load: EINVAL",
        "taken: 0 2048 raid raid10 1 64 2 - d0 - d1",
        "the kernel takes the layout for another one where no superblock tells of it",
    ),
    departing(
        "0 200 raid raid0 1 64 2 - d0 - d1",
        "taken: 0 200 raid raid0 1 64 2 - d0 - d1",
        "load: EINVAL",
        "in the kernel the last chunk cannot be reached",
    ),
)
REFUSALS = {line.table: line for line in BAD}
EXPERIMENTS = {
    **LIVES,
    **MESSAGES,
    **HALF_MADE,
    **{table: on_fresh(line) for table, line in REFUSALS.items()},
    **{f"live {table}": on_live(line) for table, line in REFUSALS.items()},
}


@pytest.mark.parametrize("name", [*LIVES, *MESSAGES, *HALF_MADE])
def test_arrays_are_as_the_kernels(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("table", REFUSALS)
def test_arrays_are_refused_as_in_the_kernel(kernel: Mapping[str, Outcome], table: str) -> None:
    compare_refusal(EXPERIMENTS[table], kernel[table], REFUSALS[table].fresh)
    live = f"live {table}"
    compare_refusal(EXPERIMENTS[live], kernel[live], REFUSALS[table].live)
