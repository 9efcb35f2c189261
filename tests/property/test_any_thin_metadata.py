"""Whatever is done to a thin pool, its metadata say what dictionaries say, and are in order."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusedm.block.errors import StackError
from fusedm.dm.thin.blocks import BITMAP_SALT, INDEX_SALT, NODE_SALT, SUPERBLOCK_SALT, seal
from tests.helpers.thin_metadata import (
    BLOCK,
    Medium,
    Model,
    Tools,
    make_nodes_small,
    mappings,
    needs_tools,
)

STEPS = 60
SALTS = (SUPERBLOCK_SALT, NODE_SALT, BITMAP_SALT, INDEX_SALT)
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


def test_whatever_a_number_is_changed_to_is_refused_or_can_be_worked_with(
    monkeypatch: pytest.MonkeyPatch,
):
    make_nodes_small(monkeypatch)
    medium = Medium(256)
    model = Model(medium, 3)
    for _ in range(STEPS * 3):
        model.step()
    model.commit()
    whole = bytes(medium.image)
    used = [at for at in range(0, len(whole), BLOCK) if any(whole[at : at + BLOCK])]

    def salt(at: int) -> int | None:
        block = whole[at : at + BLOCK]
        return next((salt for salt in SALTS if seal(bytearray(block), salt) == block), None)

    numbers = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))

    @given(st.sampled_from([*used, *[0] * 5]), st.integers(1, 60), numbers)
    @settings(SETTINGS, max_examples=300)
    def check(at: int, word: int, number: int) -> None:
        block = bytearray(whole[at : at + BLOCK])
        struct.pack_into("<Q", block, word * 8, number)
        if (known := salt(at)) is not None:
            seal(block, known)
        changed = Medium(image=whole[:at] + block + whole[at + BLOCK :])
        with suppress(StackError):
            pool = changed.open()
            for device in list(pool.devices):
                pool.insert(device, 5, pool.allocate())
                pool.remove(device, 0, 30)
            changed.run(pool.commit())

    check()
