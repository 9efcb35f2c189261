"""Members of arrays with parity that fail at any time, and sectors that cannot be read."""

import pytest

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm import Each, Wait
from fusedm.dm.raid.members import IN_SYNC
from tests.helpers.parity_arrays import (
    CHUNK,
    LOSSES,
    MEMBERS,
    ROWS,
    Arranged,
    every_layout,
)
from tests.helpers.raid_legs import Runner


@every_layout
def test_what_is_lost_cannot_be_checked_unless_there_is_another_parity(name):
    made = Arranged(name, seed=8).fill()
    lost = made.parity.geometry.row(0).data[0]
    made.fail(lost)
    row = made.parity.geometry.row(0)
    last = row.parities[-1]
    made.array.devices[last].data[3] ^= 1
    found = made.runner.run(made.parity.check(0, CHUNK, True))
    assert found == (0 if made.parities == 1 else 8)


@every_layout
def test_a_sector_that_cannot_be_read_is_made_of_the_others_and_written_again(name):
    made = Arranged(name, seed=9).fill()
    for member in range(MEMBERS):
        made.array.devices[member].bad_sectors = {member * 8 + 3}
    made.check_all()
    of_data = {
        (member, member * 8 + 3)
        for member in range(MEMBERS)
        if member in made.parity.geometry.row(member * 8 // CHUNK).data
    }
    assert {(index, begin + 3) for index, begin, _ in made.array.repairs} == of_data
    made.repair()
    made.runner.run(made.parity.check(0, CHUNK * ROWS, False))
    made.repair()
    assert not any(device.bad_sectors for device in made.array.devices)
    made.assert_parity()


@every_layout
def test_writes_go_on_where_what_they_need_cannot_be_read(name):
    made = Arranged(name, seed=10).fill()
    for _ in range(60):
        device = made.some.choice(made.array.devices)
        device.bad_sectors = {made.some.randrange(CHUNK * ROWS)}
        made.write(*made.range())
        made.check_all()
        made.repair()
        device.bad_sectors = set()
    made.assert_parity()


@every_layout
def test_a_rebuild_goes_round_bad_sectors_as_far_as_there_is_another_parity(name):
    made = Arranged(name, seed=11).fill()
    before = bytes(made.array.devices[0].data)
    made.array.members[0].recovery_offset = 0
    made.array.devices[0].data[:] = bytes(len(before))
    made.array.devices[1].bad_sectors = {20}
    if made.parities == 1:
        with pytest.raises(BlockIOError) as caught:
            made.runner.run(made.parity.recover(0, CHUNK * ROWS, {0}))
        assert caught.value.errno == Status.MEDIUM.value
    else:
        made.runner.run(made.parity.recover(0, CHUNK * ROWS, {0}))
        assert made.array.devices[0].data == before
        assert [index for index, _, _ in made.array.repairs] == [1]


@every_layout
def test_a_rebuild_and_a_check_read_each_member_in_one_bio(name):
    made = Arranged(name, seed=13).fill()
    before = [bytes(device.data) for device in made.array.devices]
    made.array.members[0].recovery_offset = 0
    made.array.devices[0].data[:] = bytes(len(before[0]))
    for device in made.array.devices:
        device.reads = device.writes = 0
    made.runner.run(made.parity.recover(0, CHUNK * ROWS, {0}))
    made.array.members[0].recovery_offset = IN_SYNC
    assert made.runner.run(made.parity.check(0, CHUNK * ROWS, True)) == 0
    assert [bytes(device.data) for device in made.array.devices] == before
    assert [device.reads for device in made.array.devices] == [1] + [2] * (MEMBERS - 1)
    assert [device.writes for device in made.array.devices] == [1] + [0] * (MEMBERS - 1)


@every_layout
def test_what_differs_is_mended_although_something_else_cannot_be_read(name):
    made = Arranged(name, seed=14).fill()
    row = made.parity.geometry.row(3)
    made.array.devices[row.p].data[3 * CHUNK * SECTOR_SIZE] ^= 1
    made.array.devices[row.parities[-1]].data[(4 * CHUNK - 1) * SECTOR_SIZE] ^= 1
    made.array.devices[1].bad_sectors = {20}
    assert made.runner.run(made.parity.check(0, CHUNK * ROWS, False)) == 16
    assert made.runner.run(made.parity.check(0, CHUNK * ROWS, True)) == 16
    made.repair()
    made.assert_parity()


def test_a_member_is_not_rebuilt_while_too_many_are_lost():
    made = Arranged("raid5_ls", seed=15).fill()
    before = bytes(made.array.devices[0].data)
    made.fail(1)
    with pytest.raises(BlockIOError, match="stripe 0: more members are lost"):
        made.runner.run(made.parity.recover(0, CHUNK * ROWS, {0}))
    assert bytes(made.array.devices[0].data) == before


@every_layout
def test_bad_sectors_of_several_members_do_no_harm_in_different_columns(name):
    made = Arranged(name, seed=12).fill()
    for member, device in enumerate(made.array.devices):
        if member < 2:
            device.bad_sectors = {8 * member + 1}
        elif made.parities == 2 and member == 2:
            device.bad_sectors = {2}
    for sector in range(0, made.sector_count, CHUNK):
        made.check(sector, CHUNK)
    made.check(0, made.sector_count)


@pytest.mark.parametrize(("name", "lost"), [(n, lost) for n, lost in LOSSES if len(lost) < 2])
def test_each_bio_of_a_write_may_fail(name, lost):
    """A WRITE that fails takes its member out, a READ is gone round: nothing is lost."""
    for sector, count in ((0, 5), (CHUNK - 3, 6), (0, 3 * CHUNK), (CHUNK, 4 * CHUNK + 8)):
        for fails_at in range(1000):
            made = Arranged(name, seed=13).fill().fail(*lost)
            countdown = [fails_at]

            def before(device, bio, countdown=countdown):
                countdown[0] -= 1
                if countdown[0] == -1:
                    if bio.op is Op.WRITE:
                        device.is_broken = True
                    raise BlockIOError(Status.IOERR, device.name, f"{bio}")

            made.runner = Runner(before)
            try:
                made.write(sector, count)
            except BlockIOError:
                assert len(lost) == made.parities
                made.model[made.bytes_of(sector, count)] = bytes(count * SECTOR_SIZE)
                continue
            finally:
                made.runner = Runner()
            assert made.array.dirty == []
            made.check_all()
            if countdown[0] >= 0:
                break
        else:
            raise AssertionError("a write has no thousand bios")


@every_layout
def test_what_too_many_failures_leave_is_an_error(name):
    made = Arranged(name, seed=14).fill()
    for device in made.array.devices[: made.parities + 1]:
        device.is_broken = True
    with pytest.raises(BlockIOError, match="too many members have failed"):
        made.write(0, made.parity.geometry.stripe_sectors)
    assert made.array.dirty == []
    for member in made.array.members[: made.parities + 1]:
        member.is_failed = True
    lost = [
        sector
        for sector in range(0, made.sector_count, CHUNK)
        if made.parity.geometry.place(sector).member <= made.parities
    ]
    with pytest.raises(BlockIOError, match="more members are lost than parity makes up for"):
        made.read(lost[0], CHUNK)


def test_a_lost_chunk_is_read_again_if_its_column_was_written_meanwhile():
    made = Arranged("raid5_ls", seed=15).fill()
    lost = made.parity.geometry.row(0).data[0]
    made.fail(lost)
    data = bytearray(CHUNK * SECTOR_SIZE)
    script = made.parity.map(Bio.read(0, memoryview(data)))
    assert script.locks == (), "it may be part of a bio that has them"
    steps = script.steps()
    stale = made.runner.answer(next(steps))
    made.write(CHUNK, 8)  # What the lost chunk is told by changes, and parity.
    made.runner.finish(steps, stale)
    assert data == made.model[: len(data)]


def test_a_lost_chunk_is_read_once_a_write_of_its_column_is_over():
    made = Arranged("raid5_ls", seed=16).fill()
    made.fail(made.parity.geometry.row(0).data[0])
    new = made.some.randbytes(8 * SECTOR_SIZE)
    write = made.parity.map(Bio.write(CHUNK, memoryview(new))).steps()
    outcomes = made.runner.answer(next(write))  # The reads.
    step = write.send(outcomes)  # The writes.
    data = bytearray(CHUNK * SECTOR_SIZE)
    read = made.parity.map(Bio.read(0, memoryview(data))).steps()
    waits = next(read)
    assert isinstance(waits, Wait)
    woken = []
    waits.signal.call(lambda: woken.append(True))
    made.runner.finish(write, made.runner.answer(step))
    assert woken == [True]
    made.runner.finish(read, True)
    assert data == made.model[: len(data)]


def test_a_failed_write_is_made_alike_later():
    made = Arranged("raid5_ls", seed=17).fill()
    made.runner = Runner(fail_writes)
    with pytest.raises(BlockIOError):
        made.write(CHUNK + 8, 8)
    assert made.array.needed == [(8, 16)]


def test_what_failed_while_others_were_read_is_not_written():
    made = Arranged("raid6_ls_6", seed=18).fill()
    row = made.parity.geometry.row(0)
    write = made.parity.map(Bio.write(0, memoryview(bytes(8 * SECTOR_SIZE)))).steps()
    outcomes = made.runner.answer(next(write))
    made.fail(row.data[0], row.q)
    made.runner.bios.clear()
    made.runner.finish(write, outcomes)
    assert [name for name, _ in made.runner.bios] == [f"d{row.p}"]
    made.model[: 8 * SECTOR_SIZE] = bytes(8 * SECTOR_SIZE)
    made.check_all()


def test_nothing_is_written_where_nobody_is_left_to_write_to():
    made = Arranged("raid5_ls", seed=19).fill()
    made.array.members[0].is_failed = True
    made.runner.bios.clear()
    made.runner.run(made.parity.recover(0, CHUNK, {0}))
    assert {bio.op for _, bio in made.runner.bios} == {Op.READ}


def fail_writes(device, bio):
    if bio.op is Op.WRITE:
        raise BlockIOError(Status.IOERR, device.name, f"{bio}")


def test_what_is_rebuilt_while_others_are_read_is_not_taken_for_read():
    made = Arranged("raid5_ls", seed=20).fill()
    row = made.parity.geometry.row(0)
    made.array.members[row.data[0]].recovery_offset = 0
    data = bytearray(made.parity.geometry.stripe_sectors * SECTOR_SIZE)
    steps = made.parity.map(Bio.read(0, memoryview(data))).steps()
    outcomes = made.runner.answer(next(steps))
    made.array.members[row.data[0]].recovery_offset = CHUNK
    made.runner.finish(steps, outcomes)
    assert data == made.model[: len(data)]


def test_what_a_member_could_not_read_before_it_failed_is_not_written_anew():
    made = Arranged("raid6_ls_6", seed=21).fill()
    member = made.parity.geometry.row(0).data[0]
    made.array.devices[member].bad_sectors = {3}
    data = bytearray(8 * SECTOR_SIZE)
    action = made.parity.map(Bio.read(0, memoryview(data)))
    (error,) = made.runner.answer(Each(action.actions))
    steps = action.then([error])
    outcomes = made.runner.answer(next(steps))
    made.fail(member)
    made.runner.finish(steps, outcomes)
    assert data == made.model[: len(data)]
    assert made.array.repairs == []
