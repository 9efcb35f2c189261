"""Arrays that one side begins and the other goes on with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from tests.helpers.uml import twin
from tests.helpers.uml.arrays import MEMBER, disks
from tests.helpers.uml.compare import compare
from tests.helpers.uml.crossing import images_of, images_shown, peeks
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step

#: What is done with an array of a type with so many members.
Steps = Callable[[str, int], tuple[Step, ...]]
Kernel = Mapping[str, Outcome]


@dataclass(frozen=True)
class Story:
    """What one side does with new disks, and the other with what is left of that."""

    name: str
    first: Steps
    then: Steps
    member: int = MEMBER

    def experiments(self, kinds: Sequence[tuple[str, int]]) -> dict[str, Experiment]:
        """Both halves, for the kernel to carry out."""
        there = {f"there {self.name} {kind} {n}": self.there(kind, n) for kind, n in kinds}
        return there | {f"here {self.name} {kind} {n}": self.here(kind, n) for kind, n in kinds}

    def there(self, kind: str, count: int) -> Experiment:
        """The first half, and a look at what it leaves behind."""
        begin = disks(count, self.member)
        shown = [each for name, spec in begin.items() for each in peeks(name, spec.sectors)]
        return Experiment((*self.first(kind, count), *shown), begin)

    @cache  # noqa: B019  # stories are there as long as their module
    def here(self, kind: str, count: int) -> Experiment:
        """The second half, on what the first has left behind here."""
        begun = Experiment(self.first(kind, count), disks(count, self.member))
        return Experiment(self.then(kind, count), images_of(begun))

    def left_there(self, kernel: Kernel, kind: str, count: int) -> dict[str, DiskSpec]:
        """What the first half has left behind in the kernel."""
        outcome = kernel[f"there {self.name} {kind} {count}"]
        return images_shown(self.there(kind, count).steps, outcome)

    def compare_here_to_there(self, kernel: Kernel, kind: str, count: int) -> None:
        """Begun here: the kernel goes on as we do."""
        compare(self.here(kind, count), kernel[f"here {self.name} {kind} {count}"])

    def compare_there_to_here(self, kernel: Kernel, kind: str, count: int) -> None:
        """Begun in the kernel: we go on as with what was begun here."""
        own = self.here(kind, count)
        theirs = replace(own, disks=self.left_there(kernel, kind, count))
        found = twin.carry_out(theirs).answers
        assert found == twin.carry_out(own).answers
        assert not [answer for answer in found if "errno" in answer]
