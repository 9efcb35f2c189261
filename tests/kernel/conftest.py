"""The kernel's answers: a module's EXPERIMENTS are carried out in one boot.

Or in several, of IN_ONE_BOOT experiments each: a boot has a limit of time.
"""

from collections.abc import Mapping
from itertools import islice

import pytest

from tests.helpers.uml import machine
from tests.helpers.uml.experiment import Outcome


@pytest.fixture(scope="module")
def kernel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Outcome]:
    """What the kernel answers to the module's EXPERIMENTS, by their names."""
    experiments = request.module.EXPERIMENTS
    at_once = getattr(request.module, "IN_ONE_BOOT", len(experiments))
    left, answers = iter(experiments.items()), {}
    while some := dict(islice(left, at_once)):
        answers |= machine.boot(tmp_path_factory.mktemp("kernel"), some)
    return answers
