"""What every test run gets: the tier header, loud skips, hypothesis profiles and the leak check."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.helpers.tiers import header_lines, left_behind, problems, required_tiers

settings.register_profile("default", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "default")

PROBLEMS = problems()


def pytest_configure(config: pytest.Config) -> None:
    nightly = "nightly: slow, and rarely breaks: make nightly runs it, make test does not"
    config.addinivalue_line("markers", nightly)
    config.addinivalue_line("markers", "ceph: uses a cluster of Ceph, one for each session")
    # Under nohup or in the background of a shell they are ignored, and every program inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        required_tiers(os.environ.get("FUSEDM_REQUIRE", ""))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header() -> list[str]:
    return header_lines(PROBLEMS)


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = required_tiers(os.environ.get("FUSEDM_REQUIRE", ""))
    for tier, why in PROBLEMS.items():
        if item.get_closest_marker(tier):
            if tier in required:
                pytest.fail(f"FUSEDM_REQUIRE names {tier}, but: {why}", pytrace=False)
            pytest.skip(f"{tier}: {why}")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails the run if a mount, loop device or process still uses this session's directory.

    Judged by our own directory and never by counts: others on the machine have theirs.
    """
    base = os.path.realpath(tmp_path_factory.getbasetemp())
    yield
    left = left_behind(base)
    assert not left, "left behind: " + "; ".join(left)
