"""Whatever is done to a thin pool, its metadata say what dictionaries say, and are in order."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.thin_metadata import (
    Medium,
    Model,
    Tools,
    make_nodes_small,
    mappings,
    needs_tools,
)

STEPS = 60
SETTINGS = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30
)


@given(seed=st.integers(0, 1 << 32))
@SETTINGS
def test_metadata_are_what_dictionaries_are(seed: int, monkeypatch: pytest.MonkeyPatch):
    make_nodes_small(monkeypatch)
    medium = Medium(512)
    model = Model(medium, seed)
    for _ in range(STEPS):
        model.step()
        model.compare()
    model.commit()
    assert mappings(medium.open()) == dict(sorted(model.now.items()))


@needs_tools
@given(seed=st.integers(0, 1 << 32))
@SETTINGS
def test_thin_check_finds_nothing_and_thin_dump_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    make_nodes_small(monkeypatch)
    medium, tools = Medium(512), Tools(tmp_path)
    model = Model(medium, seed)
    for _ in range(STEPS):
        model.step()
    model.commit()
    tools.check(medium.image)
    assert tools.dump(medium.image).mappings == model.now
