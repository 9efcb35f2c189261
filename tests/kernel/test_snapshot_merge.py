"""Merging: what it leaves, what is said of it, and half of it done by the kernel and half here."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml import twin
from tests.helpers.uml.compare import compare
from tests.helpers.uml.crossing import images_of, images_shown, peeks
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step
from tests.helpers.uml.lives import compare_refusal, on_fresh
from tests.helpers.uml.tables import Bad, unknown
from tests.helpers.uml.traffic import reads, traffic

pytestmark = pytest.mark.kernel

SECTORS, COW = 512, 2048
DISKS = {"d0": DiskSpec(SECTORS, seed=1), "d1": DiskSpec(COW), "d2": DiskSpec(COW)}
NO_EVENTS = "the kernel raises no events when it merges"
#: The kernel merges in its own time.
A_WHILE = step("sleep", 0.5)
SUSPENDED = (step("suspend", "origin"), step("suspend", "snap"))


def set_up(line: str, *more: Step) -> tuple[Step, ...]:
    """An origin and its snapshot, and what else is to be made while the origin is suspended."""
    origin = (*started("origin", f"0 {SECTORS} snapshot-origin d0"), step("suspend", "origin"))
    snapshot = started("snap", f"0 {SECTORS} snapshot d0 d1 {line}")
    return (*origin, *snapshot, *more, step("resume", "origin"))


def busy(seed: int, names: tuple[str, ...] = ("origin", "snap")) -> tuple[Step, ...]:
    """Traffic on several devices in turn, each write in one chunk."""
    steps = []
    for number in range(4):
        for name in names:
            some = traffic(seed + number, name, SECTORS, count=6, verbs=("write", "read", "flush"))
            steps += [each for each in some if each.verb != "write" or each.arguments[2] == 512]
    return tuple(steps)


def merged(line: str) -> tuple[Step, ...]:
    """The origin becomes what the snapshot is."""
    merge = f"0 {SECTORS} snapshot-merge d0 d1 {line}"
    return (
        *SUSPENDED,
        step("load", "origin", merge),
        step("resume", "origin"),
        *reads("origin", SECTORS),
        A_WHILE,
        *(step(verb, "origin") for verb in ("status", "table", "deps")),
        step("info", "origin", departs=NO_EVENTS),
    )


def whole(seed: int, line: str) -> Experiment:
    """A snapshot is merged, its device is looked at, and the origin goes on."""
    return Experiment(
        (
            *set_up(line),
            *busy(seed),
            step("status", "snap"),
            *merged(line),
            step("load", "origin", f"0 {SECTORS} snapshot-merge d0 d1 {line}"),
            step("resume", "snap"),
            *(step(verb, "snap") for verb in ("status", "table")),
            step("read", "snap", 0, 4096),
            step("write", "snap", 0, 4096, 1),
            step("remove", "snap"),
            *busy(seed + 9, ("origin",)),
            *reads("origin", SECTORS),
            *(step(verb, "origin") for verb in ("status", "flush")),
        ),
        DISKS,
        images=True,
    )


WHOLE = {
    line: whole(seed, line)
    for seed, line in enumerate(("P 8", "PO 16", "P 64", "P 8 1 discard_zeroes_cow"))
}
WHOLE["with another snapshot"] = Experiment(
    (
        *set_up("P 8", *started("other", f"0 {SECTORS} snapshot d0 d2 P 16")),
        *busy(5, ("origin", "snap", "other")),
        *merged("P 8"),
        *reads("other", SECTORS),
        *busy(6, ("origin", "other")),
        *reads("other", SECTORS),
        step("status", "other"),
    ),
    DISKS,
)
WHOLE["a snapshot that is not suspended"] = Experiment(
    (
        *set_up("P 8"),
        *busy(7),
        step("load", "origin", f"0 {SECTORS} snapshot-merge d0 d1 P 8"),
        step("resume", "origin"),
        step("info", "origin"),
        step("suspend", "snap"),
        step("resume", "origin"),
        A_WHILE,
        step("status", "origin"),
        *reads("origin", SECTORS),
    ),
    DISKS,
)
WHOLE["a snapshot that is not kept"] = Experiment(
    (*set_up("N 8"), step("load", "origin", f"0 {SECTORS} snapshot-merge d0 d1 P 8")), DISKS
)

# Half of it: the lower half of the origin fails, which is merged last.

HALF = SECTORS // 2
GOOD = f"0 {SECTORS} linear d0 0"
BROKEN = f"0 {HALF} error\n{HALF} {HALF} linear d0 {HALF}"
MERGE = f"0 {SECTORS} snapshot-merge base d1 P 8"


def half(seed: int) -> tuple[Step, ...]:
    """Chunks are written through the snapshot, and the upper half of them is merged."""
    lower = [(number * 5 + seed) % (HALF // 8) for number in range(12)]
    upper = [HALF // 8 + (number * 7 + seed) % (HALF // 8) for number in range(12)]
    return (
        *started("base", GOOD),
        *started("origin", f"0 {SECTORS} snapshot-origin base"),
        *started("snap", f"0 {SECTORS} snapshot base d1 P 8"),
        *(
            step("write", "snap", chunk * 4096, 4096, seed + number)
            for number, chunk in enumerate((*lower, *upper, *range(8, 14), *range(40, 46)))
        ),
        *SUSPENDED,
        step("load", "base", BROKEN),
        step("resume", "base"),
        step("load", "origin", MERGE),
        step("resume", "origin"),
        A_WHILE,
        step("status", "origin"),
        *(step("remove", name) for name in ("snap", "origin", "base")),
    )


def other_half() -> tuple[Step, ...]:
    """What is left is looked at, and merged."""
    return (
        *started("base", GOOD),
        *started("look", f"0 {SECTORS} snapshot base d1 P 8"),
        step("status", "look"),
        *reads("look", SECTORS),
        step("remove", "look"),
        *started("origin", MERGE),
        *reads("origin", SECTORS),
        A_WHILE,
        step("status", "origin"),
        *reads("origin", SECTORS),
        *(step("remove", name) for name in ("origin", "base")),
    )


SEEDS = range(3)
OURS = {f"half here {seed}": images_of(Experiment(half(seed), DISKS)) for seed in SEEDS}
SHOWN = (*peeks("d0", SECTORS), *peeks("d1", COW))
HALVES = {
    **{name: Experiment(other_half(), disks, images=True) for name, disks in OURS.items()},
    **{f"half there {seed}": Experiment((*half(seed), *SHOWN), DISKS) for seed in SEEDS},
}

#: Not N, with which the kernel (6.1) falls over when it is resumed.
BAD = (
    Bad("0 512 snapshot-merge"),
    Bad("0 512 snapshot-merge d0 d1 P"),
    Bad("0 512 snapshot-merge d0 d0 P 8"),
    Bad("0 512 snapshot-merge d0 d1 P 7"),
    Bad("0 512 snapshot-merge d0 d1 P 8 1 nosuch"),
    unknown("0 512 snapshot-merge nosuch d1 P 8"),
    unknown("0 512 snapshot-merge d0 nosuch P 8"),
)
REFUSALS = {line.table: line for line in BAD}
EXPERIMENTS = {**WHOLE, **HALVES, **{table: on_fresh(line) for table, line in REFUSALS.items()}}


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_merged_is_what_the_kernel_merges(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("name", OURS)
def test_what_was_merged_here_by_half_goes_on_in_the_kernel(
    kernel: Mapping[str, Outcome], name: str
) -> None:
    compare(EXPERIMENTS[name], kernel[name])


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_kernel_has_merged_by_half_goes_on_here(
    kernel: Mapping[str, Outcome], seed: int
) -> None:
    name = f"half there {seed}"
    theirs = images_shown(EXPERIMENTS[name].steps, kernel[name])
    # It stopped at the same chunk, so all that it has written is what is written here.
    ours = images_of(Experiment((*half(seed), *SHOWN), DISKS))
    assert theirs == {disk: ours[disk] for disk in theirs}
    answers = [twin.carry_out(Experiment(other_half(), disks)).answers for disks in (theirs, ours)]
    assert answers[0] == answers[1]
    assert not any("errno" in answer for answer in answers[0])


@pytest.mark.parametrize("table", REFUSALS)
def test_merges_are_refused_as_in_the_kernel(kernel: Mapping[str, Outcome], table: str) -> None:
    compare_refusal(EXPERIMENTS[table], kernel[table], REFUSALS[table].fresh)
