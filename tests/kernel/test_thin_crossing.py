"""Pools that were written here go on in the kernel, and the other way round."""

import base64
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.uml import twin
from tests.helpers.uml.compare import compare
from tests.helpers.uml.crossing import images_of, images_shown, peeks
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, Step, started, step
from tests.helpers.uml.traffic import reads, traffic

pytestmark = pytest.mark.kernel

DISKS = {"d0": DiskSpec(1024), "d1": DiskSpec(4096, seed=3)}
POOL = started("pool", "0 4096 thin-pool d0 d1 128 0")
THIN = 1024
NAMES = ("t0", "t1", "t2")


def say(message: str) -> Step:
    """A message to the pool."""
    return step("message", "pool", 0, message)


def thin(number: int) -> tuple[Step, ...]:
    """A live thin device that is there in the pool."""
    return started(f"t{number}", f"0 {THIN} thin pool {number}")


def first_half(seed: int) -> tuple[Step, ...]:
    """A device, its snapshot, the snapshot's snapshot, with traffic in between."""
    steps = [*POOL, say("create_thin 0"), *thin(0)]
    for number, name in enumerate(NAMES):
        steps += traffic(seed + number, name, THIN, count=8)
        if number < 2:
            steps += [
                step("suspend", name),
                say(f"create_snap {number + 1} {number}"),
                step("resume", name),
                *thin(number + 1),
            ]
    steps += [say("set_transaction_id 0 77")]
    return (*steps, *(step("flush", name) for name in NAMES))


def second_half(seed: int) -> tuple[Step, ...]:
    """What has come over is looked at, and goes on."""
    steps = [*POOL, step("status", "pool")]
    for number, name in enumerate(NAMES):
        steps += [*thin(number), step("status", name), *reads(name, THIN)]
    for number, name in enumerate(NAMES):
        steps += traffic(seed + 10 + number, name, THIN, count=8)
    steps += [step("suspend", "t0"), say("create_snap 9 0"), step("resume", "t0"), *thin(9)]
    steps += traffic(seed + 20, "t9", THIN, count=4)
    steps += [step("remove", "t1"), say("delete 1"), *reads("t2", THIN)]
    steps += [step("flush", "t9"), step("status", "pool"), step("status", "t9")]
    return tuple(steps)


SEEDS = range(3)
OURS = {f"ours {seed}": images_of(Experiment(first_half(seed), DISKS)) for seed in SEEDS}
#: Removed in order before the disks are shown: so all is committed, and nothing is in flight.
REMOVED = tuple(step("remove", name) for name in ("t0", "t1", "t2", "pool"))
LOOKED_AT = (*peeks("d0", 1024), *peeks("d1", 4096))
ALL = (*(step("remove", name) for name in ("t9", "t2", "t0", "pool")), *LOOKED_AT)
EXPERIMENTS = {
    **{
        name: Experiment((*second_half(seed), *ALL), disks)
        for seed, (name, disks) in enumerate(OURS.items())
    },
    **{
        f"kernel's {seed}": Experiment((*first_half(seed), *REMOVED, *LOOKED_AT), DISKS)
        for seed in SEEDS
    },
}


@pytest.mark.parametrize("name", OURS)
def test_a_pool_written_here_goes_on_in_the_kernel(kernel: Mapping[str, Outcome], name: str):
    experiment = EXPERIMENTS[name]
    # Where data lie, and the rest of the metadata, is the kernel's own affair from then on.
    count = len(experiment.steps) - len(ALL)
    assert not any("errno" in answer for answer in kernel[name].answers)
    compare(
        replace(experiment, steps=experiment.steps[:count]),
        replace(kernel[name], answers=kernel[name].answers[:count]),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pool_written_by_the_kernel_goes_on_here(
    kernel: Mapping[str, Outcome], seed: int, tmp_path: Path
):
    name = f"kernel's {seed}"
    theirs = images_shown(EXPERIMENTS[name].steps, kernel[name])
    ours = images_of(Experiment((*first_half(seed), *REMOVED), DISKS))
    steps = second_half(seed)
    # What is read, and said, does not depend on who has written the first half.
    answers = [twin.carry_out(Experiment(steps, disks)).answers for disks in ({**theirs}, {**ours})]
    assert answers[0] == answers[1]
    assert not any("errno" in answer for answer in answers[0])
    check(images_of(Experiment((*steps, *ALL[:4]), theirs)), tmp_path)


@pytest.mark.parametrize("name", OURS)
def test_thin_check_finds_nothing_in_what_both_have_written(
    kernel: Mapping[str, Outcome], name: str, tmp_path: Path
):
    check(images_shown(EXPERIMENTS[name].steps, kernel[name]), tmp_path)
    check(OURS[name], tmp_path)


def check(disks: Mapping[str, DiskSpec], folder: Path) -> None:
    """What Debian's tools say of a pool's metadata."""
    program = shutil.which("thin_check", path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip("thin-provisioning-tools are not here")
    image = folder / "meta"
    image.write_bytes(base64.b64decode(disks["d0"].begins).ljust(disks["d0"].sectors * 512, b"\0"))
    result = subprocess.run([program, str(image)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
