"""Targets with I/O of their own: scripts, and the turns of a target's life."""

import errno

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import Bio, RangeLocks
from fusedm.block.errors import BlockIOError, StackError, Status, WouldBlock
from fusedm.crypto import submit_bio, submit_bio_nowait
from fusedm.dm import Each, MappedDevice, Remap, Script, Signal, Wait
from tests.helpers.builders import medium, pattern, read, write
from tests.helpers.copier import Copier, make_copier, table_of
from tests.helpers.devices import RecordingDevice


async def test_a_script_is_carried_out_step_by_step():
    mapped, copier = await make_copier()
    await write(mapped, 8, pattern(1024))
    for disk in (copier.first, copier.second):
        assert medium(disk, 8, 1024) == pattern(1024)
    assert copier.life[-1] == "end of write"


async def test_a_script_is_not_carried_out_on_the_spot():
    mapped, copier = await make_copier()
    with pytest.raises(WouldBlock):
        submit_bio_nowait(mapped, Bio.write(0, memoryview(bytes(512))))
    assert copier.life[-1] != "end of write"


async def test_the_error_of_a_step_is_thrown_into_the_script_and_may_be_dealt_with():
    mapped, copier = await make_copier()
    copier.second = RecordingDevice("gone", 4)  # Too small: the bio is refused there.
    await write(mapped, 8, pattern(512))
    assert f"second failed: {errno.EIO}" in copier.life
    assert medium(copier.first, 8, 512) == pattern(512)


async def test_the_error_a_script_lets_through_is_the_bios():
    mapped, copier = await make_copier()
    copier.first = RecordingDevice("gone", 4)
    with pytest.raises(BlockIOError, match="not within the device"):
        await write(mapped, 8, pattern(512))
    assert mapped.stats.in_flight == 0


async def test_overlapping_scripts_wait_for_the_lock_of_the_first():
    locks = RangeLocks()
    mapped, copier = await make_copier(locks=locks)
    below = MappedDevice("held")
    below.load(table_of(Copier(copier.first, copier.second)))
    await below.resume()
    copier.first = below
    await below.suspend()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit_bio, mapped, Bio.write(8, memoryview(bytes(512))))
        await wait_all_tasks_blocked()
        nursery.start_soon(submit_bio, mapped, Bio.write(8, memoryview(pattern(512))))
        await wait_all_tasks_blocked()
        assert not locks.is_free(8, 9)
        await below.resume()
    assert not locks.claimed
    assert await read(mapped, 8, 512) == pattern(512)


async def test_a_suspend_waits_for_a_script():
    mapped, copier = await make_copier()
    below = MappedDevice("held")
    below.load(table_of(Copier(copier.first, copier.second)))
    await below.resume()
    copier.second = below
    await below.suspend()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit_bio, mapped, Bio.write(8, memoryview(bytes(512))))
        await wait_all_tasks_blocked()
        nursery.start_soon(mapped.suspend)
        await wait_all_tasks_blocked()
        assert not mapped.suspended
        await below.resume()
    assert mapped.suspended


async def test_scripts_of_one_step_run_at_the_same_time_and_each_has_its_own_outcome():
    mapped, copier = await make_copier()
    told, signals = [], [Signal(), Signal()]

    def waiting(number):
        yield Wait(signals[number])
        told.append(number)
        yield Remap(copier.first, Bio.write(64 * number, memoryview(bytes(512))))

    def steps():
        scripts = (Script(lambda: waiting(0)), Script(lambda: waiting(1)))
        bio = Bio.write(63, memoryview(pattern(512)))
        told.append((yield Each((Remap(copier.second, bio), *scripts))))

    copier.message = lambda words: steps()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapped.message, 0, ["go"])
        await wait_all_tasks_blocked()
        assert medium(copier.second, 63, 512) == pattern(512)
        for number in (1, 0):
            signals[number].notify()
            await wait_all_tasks_blocked()
    assert told[:2] == [1, 0]
    assert [error and error.errno for error in told[2]] == [None, None, errno.EIO]


# Messages and events.


async def test_a_message_is_answered_at_once_or_after_some_io():
    mapped, copier = await make_copier()
    assert await mapped.message(0, ["hello"]) == "hello yourself"
    assert await mapped.message(63, ["sign"]) == "done"
    for disk in (copier.first, copier.second):
        assert medium(disk, 8, 6) == b"signed"


@pytest.mark.parametrize(
    ("sector", "words", "text"),
    [
        (0, [], "a message has at least one word"),
        (64, ["hello"], "sector 64 is not within dm0 (64 sectors)"),
        (-1, ["hello"], "sector -1 is not within dm0 (64 sectors)"),
        (0, ["what", "now"], "copier takes no message 'what'"),
    ],
)
async def test_a_message_that_cannot_be_given_is_einval(sector, words, text):
    mapped, _ = await make_copier()
    with pytest.raises(StackError) as caught:
        await mapped.message(sector, words)
    assert (str(caught.value), caught.value.errno) == (text, errno.EINVAL)


async def test_a_device_without_live_table_takes_no_message():
    with pytest.raises(StackError, match="no live table"):
        await MappedDevice("dm0").message(0, ["hello"])


@pytest.mark.parametrize("sector", [0, 64])
async def test_in_strict_mode_nobody_hears_a_message_without_a_table(sector):
    assert await MappedDevice("dm0", strict=True).message(sector, ["hello"]) == ""


async def test_the_error_of_a_messages_io_is_its_error():
    mapped, copier = await make_copier()
    copier.second = RecordingDevice("gone", 4)
    with pytest.raises(BlockIOError) as caught:
        await mapped.message(0, ["sign"])
    assert caught.value.errno == Status.IOERR.value


async def test_an_event_wakes_those_who_wait_for_another_number():
    mapped, copier = await make_copier()
    assert mapped.event_number == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapped.wait_event, 0)
        await wait_all_tasks_blocked()
        copier.raise_event()
    assert mapped.event_number == 1
    await mapped.wait_event(0)


async def test_the_end_is_an_event():
    mapped, _ = await make_copier()
    mapped.close()
    assert mapped.event_number == 1
