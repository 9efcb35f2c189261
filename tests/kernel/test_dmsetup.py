"""The same command lines for the real dmsetup, on a real kernel, and for fusedm's: every byte."""

import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.uml import dmsetup_here
from tests.helpers.uml.dmsetup_lines import GROUPS
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, step
from tests.helpers.unprivileged import NOBODY, RUNTIME_DIR, private_machine

pytestmark = [pytest.mark.kernel, pytest.mark.fuse, pytest.mark.loop]

DISKS = {"d0": DiskSpec(), "d1": DiskSpec(), "d2": DiskSpec(4096)}

#: Lines that print something else on purpose, and why.
NAMELESS = "a file below has a number of ours and no name as a block device"
NO_NODE = "without a loop device there is no node, here not even before the first table"
DEPARTS = {
    "deps -o devname": NAMELESS,
    "deps -o blkdevname de": NAMELESS,
    "info c": NO_NODE,
}

Line = tuple[list[str], str]


def split(line: str, folder: str) -> Line:
    """The words and the standard input of a line, its disks in a folder."""
    command, _, text = re.sub(r"@(d\d)", rf"{folder}/\1", line).partition(" << ")
    return shlex.split(command), text


LINES = [(name, number) for name in GROUPS for number in range(len(GROUPS[name]))]
EXPERIMENTS = {
    name: Experiment(tuple(step("dmsetup", *split(line, "/dev")) for line in lines), DISKS)
    for name, lines in GROUPS.items()
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """fusedm's answers: as a user without loop devices, so that minors are those of the kernel."""
    folder = tmp_path_factory.mktemp("dmsetup")
    for name, disk in DISKS.items():
        with open(folder / name, "wb") as file:
            file.truncate(disk.sectors * 512)
    script = folder / "here.py"
    script.write_text(Path(dmsetup_here.__file__).read_text())
    answers = {}
    with private_machine(folder) as machine:
        for name, lines in GROUPS.items():
            words = json.dumps([split(line, str(folder)) for line in lines])
            done = machine.run(
                *(sys.executable, script, words), user=NOBODY, XDG_RUNTIME_DIR=RUNTIME_DIR
            )
            assert (done.returncode, done.stderr) == (0, "")
            answers[name] = json.loads(done.stdout)
    return answers


def same(text: str) -> str:
    """A text without what cannot be equal: the numbers of disks."""
    return re.sub(r"\b(7(, |:)\d|253(, |:)52\d{4})\b", r"DISK", text)


@pytest.mark.parametrize(("name", "number"), LINES)
def test_dmsetup_prints_what_the_real_one_prints(
    kernel: Mapping[str, Outcome], ours: Mapping[str, Any], name: str, number: int
) -> None:
    line = GROUPS[name][number]
    theirs, own = kernel[name].answers[number], ours[name][number]
    told = [{key: same(str(text)) for key, text in each.items()} for each in (theirs, own)]
    if line in DEPARTS:
        assert told[1]["code"] == told[0]["code"], line
    else:
        assert told[1] == told[0], line
