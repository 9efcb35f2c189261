"""Arrays that go while a member is being rebuilt: the other side goes on where it was."""

import base64
from collections.abc import Mapping

import pytest

from fusedm.dm.raid.superblock import parse
from tests.helpers.uml.array_stories import Story
from tests.helpers.uml.arrays import LARGE, WRITES, once, sectors, table
from tests.helpers.uml.experiment import Outcome, Step, step
from tests.helpers.uml.traffic import reads, traffic

pytestmark = pytest.mark.kernel

KINDS = (("raid5_ls", 3), ("raid6_nr", 4), ("raid1", 2))


def half(kind: str, count: int) -> tuple[Step, ...]:
    """A member is rebuilt so slowly that the array goes before it is done."""
    rates = "rebuild 1 min_recovery_rate 50 max_recovery_rate 1500"
    return (
        *once(table(kind, count, member=LARGE), *traffic(5, "x", 2048, count=6, verbs=WRITES)),
        *once(table(kind, count, rates, member=LARGE), seconds=1.0),
    )


def other_half(kind: str, count: int) -> tuple[Step, ...]:
    """The rebuild goes on by itself; what comes of it is read without another member."""
    size = sectors(kind, count, LARGE)
    return (
        *once(table(kind, count, member=LARGE), step("status", "x"), seconds=2.0),
        *once(table(kind, count, lost=(0,), member=LARGE), step("status", "x"), *reads("x", size)),
    )


STORY = Story("half", half, other_half, LARGE)
EXPERIMENTS = STORY.experiments(KINDS)
IN_ONE_BOOT = 3

every_kind = pytest.mark.parametrize(("kind", "count"), KINDS)


@every_kind
def test_the_kernel_goes_on_where_it_was_left_here(
    kernel: Mapping[str, Outcome], kind: str, count: int
) -> None:
    STORY.compare_here_to_there(kernel, kind, count)


@every_kind
def test_where_the_kernel_left_it_is_gone_on_here(
    kernel: Mapping[str, Outcome], kind: str, count: int
) -> None:
    STORY.compare_there_to_here(kernel, kind, count)


@every_kind
def test_images_were_half_rebuilt(kernel: Mapping[str, Outcome], kind: str, count: int) -> None:
    for left in (STORY.left_there(kernel, kind, count), STORY.here(kind, count).disks):
        found = parse(base64.b64decode(left["m1"].begins))
        assert found is not None
        assert 0 < found.recovery_offset < LARGE
