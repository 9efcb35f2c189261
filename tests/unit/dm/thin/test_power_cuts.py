"""Whenever power fails during a commit, what is found is the transaction before or this one."""

import random

import pytest

from tests.helpers.thin_metadata import Medium, Model, make_nodes_small, mappings, power_cuts


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_leaves_one_transaction_or_the_next(seed: int, monkeypatch: pytest.MonkeyPatch):
    make_nodes_small(monkeypatch)
    medium, some = Medium(256), random.Random(seed)
    model = Model(medium, seed, blocks=30)
    for _ in range(8):
        for _ in range(6):
            model.step()
        old = {device: dict(of) for device, of in model.committed.items()}
        before, medium.log = bytes(medium.image), []
        model.commit()
        found = [
            (number, mappings(Medium(image=image).open()))
            for number, image in power_cuts(before, medium.log, some)
        ]
        assert all(each in (old, model.now) for _, each in found)
        # The superblock is the last but one; before it nothing has changed.
        assert all(each == old for number, each in found if number < len(medium.log) - 1)
        assert found[-1][1] == model.now


def test_after_a_power_cut_work_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch):
    make_nodes_small(monkeypatch)
    some = random.Random(1)
    medium = Medium(256)
    model = Model(medium, 1, blocks=30)
    for round_ in range(20):
        for _ in range(6):
            model.step()
        before, medium.log = bytes(medium.image), []
        old = {device: dict(of) for device, of in model.committed.items()}
        model.commit()
        _, image = some.choice(list(power_cuts(before, medium.log, some)))
        medium.image[:] = image
        model.metadata = medium.open()
        now = mappings(model.metadata)
        assert now in (old, model.now), round_
        model.now, model.committed = now, {device: dict(of) for device, of in now.items()}
        if model.metadata.held_root:
            model.metadata.release_metadata_snap()
        model.held = model.committed_held = None
        medium.run(model.metadata.commit())
        model.compare()
