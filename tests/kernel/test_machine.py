"""The kernel that runs as a process: what happens when it or an experiment goes wrong."""

from pathlib import Path

import pytest

from tests.helpers.uml import machine
from tests.helpers.uml.experiment import Experiment, step

pytestmark = pytest.mark.kernel


def test_a_guest_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(machine.GuestFailed, match="has no attribute 'nosuch'"):
        machine.boot(tmp_path, {"a": Experiment((step("nosuch"),))})


def test_a_guest_that_hangs_in_its_kernel_is_ended(tmp_path: Path) -> None:
    steps = (step("create", "x"), step("suspend", "x"), step("load", "x", "0 8 zero"))
    held = (*steps, step("resume", "x"), step("suspend", "x"), step("read", "x", 0, 512))
    with pytest.raises(machine.GuestFailed, match="ended after 6 s"):
        machine.boot(tmp_path, {"a": Experiment(held)}, timeout=6)
