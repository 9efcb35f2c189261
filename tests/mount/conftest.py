"""Most mount tests run both ways: with the lane, and with libfuse answering all requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import mounted
from tests.helpers.preload import compiled

BOTH_WAYS = {
    "test_access",
    "test_at_rest",
    "test_content",
    "test_durability",
    "test_emptying",
    "test_ending",
    "test_filesystems",
    "test_holding",
    "test_holes",
    "test_hung_stores",
    "test_killed_writes",
    "test_live_tree",
    "test_load",
    "test_store_errors",
    "test_storms",
    "test_unprivileged",
    "test_verbs",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if Path(metafunc.module.__file__).stem in BOTH_WAYS:
        metafunc.parametrize("way", ["lane", "libfuse"], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Who answers reads and writes: lane or libfuse."""
    way = getattr(request, "param", "lane")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mounted, "every_up", ("--no-lane",) if way == "libfuse" else ())
        yield way


@pytest.fixture(scope="session")
def store_faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands before calls on a store."""
    return compiled("store_faults.c", tmp_path_factory.mktemp("faults"))
