"""thin-provisioning-tools read what is written here, and write what is read here."""

import random
from pathlib import Path

import pytest

from tests.helpers.thin_metadata import (
    BLOCK_SECTORS,
    Medium,
    Model,
    Tools,
    make_nodes_small,
    mappings,
    needs_tools,
    power_cuts,
    refill,
)

pytestmark = needs_tools


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


def commit(medium: Medium, pool) -> None:
    medium.run(pool.commit())
    refill(pool)


def busy(medium: Medium):
    """A pool with devices, snapshots of snapshots, shared and unshared blocks, and holes."""
    pool = medium.open()
    pool.resize_data(40000)
    pool.create_thin(0)
    for block in range(3000):
        pool.insert(0, block * 5 % 3001, pool.allocate())
    commit(medium, pool)
    pool.set_transaction_id(0, 3)
    pool.create_snap(1, 0)
    pool.create_snap(2, 1)
    for block in range(0, 3000, 9):
        pool.insert(1, block, pool.allocate())
    pool.create_snap(3, 1)
    pool.create_snap(1 << 23, 3)
    commit(medium, pool)
    pool.remove(2, 100, 2500)
    pool.delete(0)
    commit(medium, pool)
    return pool


def test_a_new_pool_is_in_order(tools: Tools):
    medium = Medium()
    medium.open()
    tools.check(medium.image)
    dump = tools.dump(medium.image)
    assert (dump.transaction, dump.data_blocks, dump.block_sectors) == (0, 0, BLOCK_SECTORS)


def test_thin_dump_tells_what_was_written(tools: Tools):
    medium = Medium(400)
    pool = busy(medium)
    tools.check(medium.image)
    dump = tools.dump(medium.image)
    assert (dump.transaction, dump.data_blocks) == (3, 40000)
    assert dump.mappings == mappings(pool)
    for device, times in dump.times.items():
        assert {block: time < dump.details[device][3] for block, time in times.items()} == {
            block: pool.lookup(device, block)[1] for block in times
        }
    assert dump.details == {
        number: (
            thin.mapped_blocks,
            thin.transaction_id,
            thin.creation_time,
            thin.snapshotted_time,
        )
        for number, thin in pool.devices.items()
    }


def test_what_thin_restore_makes_is_read_and_written_on(tools: Tools):
    medium = Medium(400)
    wanted = mappings(busy(medium))
    other = Medium(image=tools.restored(tools.xml(medium.image), 400))
    pool = other.open()
    assert mappings(pool) == wanted
    assert (pool.transaction_id, pool.data_blocks) == (3, 40000)
    pool.create_snap(7, 3)
    for block in range(0, 4000, 3):
        pool.insert(3, block, pool.allocate())
    pool.remove(1, 0, 2000)
    commit(other, pool)
    tools.check(other.image)
    assert tools.dump(other.image).mappings == mappings(pool)
    assert mappings(other.open()) == mappings(pool)


def test_thin_restore_takes_ranges(tools: Tools):
    xml = """<superblock uuid="" time="1" transaction="5" version="2" data_block_size="128"
      nr_data_blocks="1000"><device dev_id="9" mapped_blocks="51" transaction="1" creation_time="0"
      snap_time="1"><range_mapping origin_begin="0" data_begin="100" length="50" time="0"/>
      <single_mapping origin_block="70" data_block="7" time="1"/></device></superblock>"""
    pool = Medium(image=tools.restored(xml, 100)).open()
    assert mappings(pool) == {9: {block: 100 + block for block in range(50)} | {70: 7}}
    assert pool.lookup(9, 0) == (100, True)
    assert pool.lookup(9, 70) == (7, False)
    assert pool.allocate() == 0


def test_a_metadata_snapshot_is_dumped_as_it_was(tools: Tools):
    medium = Medium(400)
    pool = busy(medium)
    held = mappings(pool)
    medium.run(pool.reserve_metadata_snap())
    pool.delete(1)
    pool.remove(3, 0, 1000)
    commit(medium, pool)
    tools.check(medium.image)
    assert tools.dump(medium.image).mappings == mappings(pool)
    assert tools.dump(medium.image, "-m").mappings == held
    pool.release_metadata_snap()
    commit(medium, pool)
    tools.check(medium.image)


def test_a_metadata_device_that_has_grown_is_in_order(tools: Tools):
    medium = Medium(100)
    pool = medium.open()
    pool.resize_data(1000)
    commit(medium, pool)
    medium.image.extend(bytes(4096 * 20000))
    pool.resize_metadata(20100)
    pool.resize_data(1000000)
    commit(medium, pool)
    tools.check(medium.image)
    assert tools.dump(medium.image).data_blocks == 1000000


def test_thin_check_reports_what_is_to_be_checked(tools: Tools):
    medium = Medium(100)
    pool = medium.open()
    medium.run(pool.set_needs_check())
    assert medium.open().needs_check
    path = tools.folder / "image"
    path.write_bytes(medium.image)
    tools.call("thin_check", "--clear-needs-check-flag", str(path))
    assert not Medium(image=path.read_bytes()).open().needs_check


def test_whenever_power_fails_thin_check_finds_nothing(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
):
    make_nodes_small(monkeypatch)
    some = random.Random(5)
    medium = Medium(256)
    model = Model(medium, 5, blocks=30)
    for _ in range(4):
        for _ in range(8):
            model.step()
        old, before, medium.log = model.committed, bytes(medium.image), []
        model.commit()
        for number, image in power_cuts(before, medium.log, some):
            tools.check(image)
            found = tools.dump(image).mappings
            assert found in (old, model.now)
            assert found == old or number >= len(medium.log) - 1
