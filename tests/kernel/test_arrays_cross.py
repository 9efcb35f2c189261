"""Images of arrays that cross over to the kernel and back, whole and degraded."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.array_stories import Story
from tests.helpers.uml.arrays import LOOK, SECONDS, once, sectors, spare, table, used
from tests.helpers.uml.experiment import Outcome, Step, step
from tests.helpers.uml.traffic import reads

pytestmark = pytest.mark.kernel

#: One of each way to turn, where test_parity_layouts.py tells of all, and copies.
KINDS = (
    *(("raid4", 3), ("raid5_ls", 4), ("raid6_zr", 5), ("raid6_ls_6", 5)),
    *(("raid1", 2), ("raid10", 4), ("raid10", 3)),
)


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
    """Read without the lost member, then rebuild it, and read without others.

    Events are not counted: what has its bit set is gone through here, which is one.
    """
    last, size = count - 1, sectors(kind, count)
    return (
        *once(table(kind, count, lost=(last,)), step("status", "x"), *reads("x", size)),
        *once(table(kind, count, f"rebuild {last}"), step("status", "x"), *reads("x", size)),
        *once(table(kind, count, lost=spare(kind)), step("status", "x"), *reads("x", size)),
    )


STORIES = (Story("whole", made, look), Story("degraded", degraded, rebuilt))
EXPERIMENTS = STORIES[0].experiments(KINDS) | STORIES[1].experiments(KINDS)

every_story = pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
every_kind = pytest.mark.parametrize(("kind", "count"), KINDS)


@every_story
@every_kind
def test_the_kernel_goes_on_with_what_was_left_here(
    kernel: Mapping[str, Outcome], story: Story, kind: str, count: int
) -> None:
    story.compare_here_to_there(kernel, kind, count)


@every_story
@every_kind
def test_what_the_kernel_left_is_gone_on_with_here(
    kernel: Mapping[str, Outcome], story: Story, kind: str, count: int
) -> None:
    story.compare_there_to_here(kernel, kind, count)
