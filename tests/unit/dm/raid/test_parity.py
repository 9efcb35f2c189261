"""Arrays with parity against a flat model, whichever members are lost, and whenever."""

import random

import pytest

from fusedm.block import FLUSH, FUA, Bio, Op
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.raid.layouts import LAYOUTS
from fusedm.dm.raid.parity import Parity
from fusedm.dm.raid.personality import Shape
from tests.helpers.parity_arrays import (
    CHUNK,
    LOSSES,
    MEMBERS,
    ROWS,
    SOME_LOSSES,
    Arranged,
    every_layout,
)
from tests.helpers.raid_legs import ArrayInMemory, Runner


@every_layout
def test_what_is_written_is_read_and_parity_is_that_of_the_data(name):
    made = Arranged(name, seed=1)
    made.check_all()
    for number in range(60):
        made.write(*made.range(), flags=FUA * (number % 2))
        made.check(*made.range())
    made.check_all()
    made.assert_parity()
    assert made.array.dirty == []


@pytest.mark.parametrize(("name", "lost"), LOSSES)
def test_nothing_is_missing_while_members_are(name, lost):
    made = Arranged(name, seed=sum(lost)).fill().fail(*lost)
    made.check_all()
    for _ in range(12):
        made.write(*made.range())
        made.check(*made.range())
    made.check_all()


@pytest.mark.parametrize(("name", "lost"), SOME_LOSSES)
def test_what_is_rebuilt_on_new_members_is_what_was_on_the_old(name, lost):
    made = Arranged(name, seed=3).fill()
    before = [bytes(device.data) for device in made.array.devices]
    for index in lost:
        made.array.devices[index].data[:] = bytes(len(before[index]))
        made.array.members[index].recovery_offset = 0
    end = CHUNK * ROWS
    for begin in range(0, end, 24):
        made.runner.run(made.parity.recover(begin, min(begin + 24, end), set(lost)))
    assert [bytes(device.data) for device in made.array.devices] == before


@pytest.mark.parametrize(("name", "lost"), SOME_LOSSES)
def test_a_rebuild_goes_on_while_bios_come(name, lost):
    made = Arranged(name, seed=4).fill()
    for index in lost:
        made.array.devices[index].data[:] = made.some.randbytes(CHUNK * ROWS * SECTOR_SIZE)
        made.array.members[index].recovery_offset = 0
    for begin in range(0, CHUNK * ROWS, 24):
        made.runner.run(made.parity.recover(begin, begin + 24, set(lost)))
        for index in lost:
            made.array.members[index].recovery_offset = begin + 24
        made.write(*made.range())
        made.check(*made.range())
    made.check_all()
    made.assert_parity()


@every_layout
def test_what_was_never_in_step_is_after_a_resync_while_bios_come(name):
    made = Arranged(name, seed=5)
    for index, device in enumerate(made.array.devices):
        device.data[:] = random.Random(index).randbytes(len(device.data))
    made.model[:] = made.read(0, made.sector_count)
    end = CHUNK * ROWS
    for begin in range(0, end, 8):
        made.array.unsynced = [(begin, end)]
        made.write(*made.range())
        made.check(*made.range())
        made.runner.run(made.parity.resync(begin, begin + 8))
    made.array.unsynced = []
    made.check_all()
    made.assert_parity()


@every_layout
def test_a_check_counts_each_4_kib_that_differs_and_changes_nothing(name):
    made = Arranged(name, seed=6).fill()
    end = CHUNK * ROWS
    assert made.runner.run(made.parity.check(0, end, False)) == 0
    row = made.parity.geometry.row(1)
    for member in row.parities:  # The same column once, however many parities it has.
        made.array.devices[member].data[CHUNK * SECTOR_SIZE + 5] ^= 1
    made.array.devices[row.data[0]].data[(CHUNK + 9) * SECTOR_SIZE] ^= 1
    before = [bytes(device.data) for device in made.array.devices]
    assert made.runner.run(made.parity.check(0, end, False)) == 16
    assert [bytes(device.data) for device in made.array.devices] == before
    assert made.runner.run(made.parity.check(0, end, True)) == 16
    assert made.runner.run(made.parity.check(0, end, False)) == 0
    made.assert_parity()


@every_layout
def test_a_repair_trusts_the_data(name):
    made = Arranged(name, seed=7).fill()
    row = made.parity.geometry.row(2)
    for member in row.parities:
        made.array.devices[member].data[made.bytes_of(2 * CHUNK, CHUNK)] = bytes(CHUNK * 512)
    made.runner.run(made.parity.check(0, CHUNK * ROWS, True))
    made.check_all()
    made.assert_parity()


@every_layout
def test_a_flush_goes_to_every_member_that_is_there(name):
    made = Arranged(name).fail(1)
    made.runner.bios.clear()
    made.runner.do(made.parity.map(FLUSH))
    assert [device for device, _ in made.runner.bios] == ["d0", "d2", "d3", "d4"]


@every_layout
def test_fua_goes_to_data_and_parity(name):
    made = Arranged(name)
    made.write(0, 8, flags=FUA)
    writes = [bio for _, bio in made.runner.bios if bio.op is Op.WRITE]
    assert len(writes) == 1 + made.parities
    assert all(bio.flags == FUA for bio in writes)


@every_layout
def test_a_whole_stripe_is_written_without_reading(name):
    made = Arranged(name)
    made.write(0, 2 * made.parity.geometry.stripe_sectors)
    assert [bio.op for _, bio in made.runner.bios] == [Op.WRITE] * MEMBERS, "and members at once"


def test_what_reads_less_is_read():
    made = Arranged("raid5_ls", members=8)
    made.write(0, 8)
    reads = [bio for _, bio in made.runner.bios if bio.op is Op.READ]
    assert len(reads) == 2, "the data that are replaced, and parity"
    made.runner.bios.clear()
    made.write(0, 5 * CHUNK)
    assert len([bio for _, bio in made.runner.bios if bio.op is Op.READ]) == 2, "the other data"


def test_parity_that_is_not_known_to_be_right_is_made_of_all_data():
    made = Arranged("raid5_ls", members=8)
    made.array.unsynced = [(0, CHUNK)]
    made.write(0, 8)
    assert len([bio for _, bio in made.runner.bios if bio.op is Op.READ]) == 6


def test_without_its_parity_only_data_are_written():
    made = Arranged("raid5_ls").fail(4)  # P of the first stripe.
    made.write(0, 8)
    assert [(name, bio.op) for name, bio in made.runner.bios] == [("d0", Op.WRITE)]


@every_layout
def test_a_read_of_what_is_there_is_steady_within_its_chunk(name):
    made = Arranged(name).fill()
    place = made.parity.geometry.place(3 * CHUNK)
    said = made.parity.steady(3 * CHUNK + 5)
    assert (said.begin, said.end, said.ops) == (3 * CHUNK, 4 * CHUNK, {Op.READ})
    made.fail(place.member)
    assert made.parity.steady(3 * CHUNK + 5).ops == frozenset()


@every_layout
def test_a_lost_chunk_of_a_large_read_is_made_of_what_is_read_anyway(name):
    made = Arranged(name).fill()
    made.fail(made.parity.geometry.row(0).data[1])
    made.runner.bios.clear()
    made.check(0, made.parity.geometry.stripe_sectors)
    assert len(made.runner.bios) == len(made.parity.geometry.row(0).data)


@every_layout
def test_it_is_what_md_says_it_is(name):
    parity = Arranged(name).parity
    assert (parity.level, parity.layout) == (
        6 if name.startswith("raid6") else 5,
        LAYOUTS[name].number,
    )
    assert parity.member_sectors == parity.sync_sectors == CHUNK * ROWS
    assert parity.max_io_sectors % parity.geometry.stripe_sectors == 0
    assert parity.step_sectors % CHUNK == 0
    assert parity.survives(set(range(parity.parities)))
    assert not parity.survives(set(range(parity.parities + 1)))
    assert not parity.passes_crypto
    assert not parity.takes_discards


def test_small_writes_that_lie_together_are_put_together():
    made = Arranged("raid4", members=3)
    made.write(0, 2 * CHUNK * 2)
    writes = [bio.sector_count for _, bio in made.runner.bios if bio.op is Op.WRITE]
    assert writes == [2 * CHUNK] * 3, "two chunks of each member"


def test_large_writes_are_not_copied():
    shape = Shape("raid4", 3, 256, 512 * 4)
    parity = Parity(shape, ArrayInMemory.of(3, 256 * 4, 1))
    runner = Runner()
    data = memoryview(bytes(512 * 2 * SECTOR_SIZE))
    runner.do(parity.map(Bio.write(0, data)))
    of_data = [bio.data for name, bio in runner.bios if name != "d0"]
    assert [(len(part), part.obj is data.obj) for part in of_data] == [(256 * 512, True)] * 4
