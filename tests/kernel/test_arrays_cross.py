"""Images of arrays that cross over to the kernel and back: whole, degraded and half rebuilt."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from fusedm.dm.raid.superblock import parse
from tests.helpers.uml import twin
from tests.helpers.uml.arrays import (
    LARGE,
    LOOK,
    MEMBER,
    SECONDS,
    WRITES,
    disks,
    once,
    sectors,
    spare,
    table,
    used,
)
from tests.helpers.uml.compare import compare
from tests.helpers.uml.crossing import images_of, images_shown, peeks
from tests.helpers.uml.experiment import (
    DiskSpec,
    Experiment,
    Outcome,
    Step,
    departing,
    step,
)
from tests.helpers.uml.traffic import reads, traffic

pytestmark = pytest.mark.kernel


def made(kind: str, count: int) -> tuple[Step, ...]:
    return once(table(kind, count), *used(kind, count, 3))


def degraded(kind: str, count: int) -> tuple[Step, ...]:
    """The last member is lost, and what is written then is not on it."""
    lost = (count - 1,)
    return (*made(kind, count), *once(table(kind, count, lost=lost), *used(kind, count, 4)))


def look(kind: str, count: int) -> tuple[Step, ...]:
    """All is there, and members agree."""
    check = (step("message", "x", 0, "check"), step("sleep", SECONDS), step("status", "x"))
    return once(table(kind, count), *LOOK, *reads("x", sectors(kind, count)), *check)


def rebuilt(kind: str, count: int) -> tuple[Step, ...]:
    """Read without the lost member, then rebuild it, and read without others."""
    last, size = count - 1, sectors(kind, count)
    looked = departing(LOOK, {"info": "stripes whose bits are set are gone through here"})
    return (
        *once(table(kind, count, lost=(last,)), *looked, *reads("x", size)),
        *once(table(kind, count, f"rebuild {last}"), step("status", "x"), *reads("x", size)),
        *once(table(kind, count, lost=spare(kind)), step("status", "x"), *reads("x", size)),
    )


def half(kind: str, count: int) -> tuple[Step, ...]:
    """A member is rebuilt so slowly that the array goes before it is done."""
    rates = "rebuild 1 min_recovery_rate 50 max_recovery_rate 1500"
    return (
        *once(table(kind, count, member=LARGE), *traffic(5, "x", 2048, count=6, verbs=WRITES)),
        *once(table(kind, count, rates, member=LARGE), seconds=1.5),
    )


def other_half(kind: str, count: int) -> tuple[Step, ...]:
    """The rebuild goes on by itself; what comes of it is read without another member."""
    size = sectors(kind, count, LARGE)
    return (
        *once(table(kind, count, member=LARGE), step("status", "x"), seconds=2.0),
        *once(table(kind, count, lost=(0,), member=LARGE), step("status", "x"), *reads("x", size)),
    )


STORIES = {"whole": (made, look), "degraded": (degraded, rebuilt), "half": (half, other_half)}
#: One of each way to turn: where chunks and parity lie test_parity_layouts.py tells of all.
TURNS = (("raid4", 3), ("raid5_ls", 4), ("raid6_zr", 5), ("raid6_ls_6", 5))
COPIES = (("raid1", 2), ("raid10", 4), ("raid10", 3))
SMALL = [*TURNS, *COPIES]
HALF = [("raid5_ls", 3), ("raid6_nr", 4), ("raid1", 2)]
CROSSING = [
    *((story, *each) for story in ("whole", "degraded") for each in SMALL),
    *(("half", *each) for each in HALF),
]


def begin_of(story: str, count: int) -> dict[str, DiskSpec]:
    return disks(count, LARGE if story == "half" else MEMBER)


def there(story: str, kind: str, count: int) -> Experiment:
    """What the kernel leaves behind."""
    begin = begin_of(story, count)
    shown = [each for name, spec in begin.items() for each in peeks(name, spec.sectors)]
    return Experiment((*STORIES[story][0](kind, count), *shown), begin)


@cache
def here(story: str, kind: str, count: int) -> Experiment:
    """What is found in what fusedm leaves behind."""
    first, then = STORIES[story]
    begun = Experiment(first(kind, count), begin_of(story, count))
    return Experiment(then(kind, count), images_of(begun))


EXPERIMENTS = {
    **{
        f"there {story} {kind} {count}": there(story, kind, count)
        for story, kind, count in CROSSING
    },
    **{f"here {story} {kind} {count}": here(story, kind, count) for story, kind, count in CROSSING},
}


@pytest.mark.parametrize(("story", "kind", "count"), CROSSING)
def test_the_kernel_goes_on_with_what_was_left_here(
    kernel: Mapping[str, Outcome], story: str, kind: str, count: int
) -> None:
    compare(here(story, kind, count), kernel[f"here {story} {kind} {count}"])


@pytest.mark.parametrize(("story", "kind", "count"), CROSSING)
def test_what_the_kernel_left_is_gone_on_with_here(
    kernel: Mapping[str, Outcome], story: str, kind: str, count: int
) -> None:
    """The same is found as in what fusedm leaves behind after the same steps."""
    experiment = there(story, kind, count)
    theirs = images_shown(experiment.steps, kernel[f"there {story} {kind} {count}"])
    found = twin.carry_out(replace(here(story, kind, count), disks=theirs))
    assert found.answers == twin.carry_out(here(story, kind, count)).answers
    assert not [answer for answer in found.answers if "errno" in answer]


@pytest.mark.parametrize(("kind", "count"), HALF)
def test_images_were_half_rebuilt(kernel: Mapping[str, Outcome], kind: str, count: int) -> None:
    steps = there("half", kind, count).steps
    theirs = images_shown(steps, kernel[f"there half {kind} {count}"])
    for left in (theirs, here("half", kind, count).disks):
        found = parse(base64.b64decode(left["m1"].begins))
        assert found is not None
        assert 0 < found.recovery_offset < LARGE
