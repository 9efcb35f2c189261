"""Pools that go from one side to the other: what their disks hold, as bytes."""

import base64
from collections.abc import Sequence

import trio
import trio.testing

from tests.helpers.builders import contents
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, step
from tests.helpers.uml.twin import Twin

_AT_ONCE = 1 << 19


def images_of(experiment: Experiment) -> dict[str, DiskSpec]:
    """Disks as fusedm leaves them after the steps of an experiment."""

    async def main() -> dict[str, DiskSpec]:
        twin = Twin(experiment)
        try:
            for each in experiment.steps:
                answer = await twin.carry_out(each)
                assert "errno" not in answer, (each, answer)
            return {
                name: DiskSpec(disk.sector_count, begins=_text(contents(disk.store)))
                for name, disk in twin.system.disks.items()
            }
        finally:
            await twin.system.close()

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def peeks(name: str, sectors: int) -> list[Step]:
    """Steps that show all the bytes of a disk."""
    size = sectors * 512
    return [
        step("peek", name, at, min(_AT_ONCE, size - at), departs="only looked at")
        for at in range(0, size, _AT_ONCE)
    ]


def images_shown(steps: Sequence[Step], outcome: Outcome) -> dict[str, DiskSpec]:
    """The disks that peeks have shown."""
    shown: dict[str, bytearray] = {}
    for each, answer in zip(steps, outcome.answers, strict=True):
        if each.verb == "peek":
            data = base64.b64decode(answer["bytes"])
            shown.setdefault(each.arguments[0], bytearray()).extend(data)
    return {
        name: DiskSpec(len(data) // 512, begins=_text(bytes(data))) for name, data in shown.items()
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data.rstrip(b"\0")).decode()
