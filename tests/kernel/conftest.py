"""The kernel's answers: a module's EXPERIMENTS are carried out in one boot."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml import machine
from tests.helpers.uml.experiment import Outcome


@pytest.fixture(scope="module")
def kernel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Outcome]:
    """What the kernel answers to the module's EXPERIMENTS, by their names."""
    return machine.boot(tmp_path_factory.mktemp("kernel"), request.module.EXPERIMENTS)
