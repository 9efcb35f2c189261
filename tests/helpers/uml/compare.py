"""The kernel's answers beside fusedm's: they are equal, or a step says why they are not."""

from collections.abc import Mapping
from types import MappingProxyType

from tests.helpers.uml import twin
from tests.helpers.uml.experiment import Experiment, Outcome

NONE: Mapping[str, list[int]] = MappingProxyType({})


def compare(
    experiment: Experiment, kernel: Outcome, departing: Mapping[str, list[int]] = NONE
) -> None:
    """Carry an experiment out here and hold it to what the kernel answered.

    departing: sectors of disks that hold something else on purpose.
    """
    ours = twin.carry_out(experiment)
    wrong = []
    both = zip(experiment.steps, kernel.answers, ours.answers, strict=True)
    for number, (step, theirs, answer) in enumerate(both):
        # Whoever answers with more, as the kernel with its events, is not held to it.
        shared = theirs.keys() & answer.keys() if "errno" not in (*theirs, *answer) else None
        equal = (
            theirs == answer
            if shared is None
            else all(theirs[key] == answer[key] for key in shared)
        )
        if equal and step.departs:
            wrong.append(
                f"{number} {step}: no longer departs from the kernel ({step.departs}): {answer}"
            )
        elif not equal and not step.departs:
            wrong.append(
                f"{number} {step}:\n    kernel {str(theirs)[:300]}\n    fusedm {str(answer)[:300]}"
            )
    assert not wrong, "\n".join(wrong)
    for name, image in kernel.images.items():
        pairs = enumerate(zip(image, ours.images[name], strict=True))
        other = [sector for sector, (theirs, own) in pairs if theirs != own]
        wanted = departing.get(name, [])
        assert other == wanted, f"{name}: sectors {other} hold other bytes than under the kernel"
