"""The turns of a target's life: at load, at a swap of tables, at a suspend, at its end."""

from contextlib import nullcontext

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block.errors import StackError
from fusedm.dm import MappedDevice, Script, Signal, Wait
from tests.helpers.builders import make_disk, medium, write
from tests.helpers.copier import Copier, make_copier, table_of
from tests.helpers.devices import RecordingDevice


async def test_a_target_is_started_at_load_and_opened_before_it_becomes_live():
    _, copier = await make_copier()
    opened = r"opened on b'\x00\x00\x00\x00'"
    assert copier.life == ["start", opened, "preresume", "resumed"]


async def test_a_target_that_is_suspended_and_resumed_is_told():
    mapped, copier = await make_copier()
    await mapped.suspend()
    await mapped.resume()
    assert copier.life[4:] == ["presuspend", "postsuspend", "preresume", "resumed"]


async def test_a_target_of_a_table_that_is_replaced_is_closed_and_stopped():
    mapped, copier = await make_copier()
    other = Copier(copier.first, copier.second)
    other.life = copier.life = []
    mapped.load(table_of(other))
    await mapped.resume()
    opened = r"opened on b'\x00\x00\x00\x00'"
    first = ["start", "presuspend", "postsuspend", opened, "preresume"]
    assert copier.life == [*first, "closed", "stop", "forgotten", "resumed"]
    assert medium(copier.first, 63, 7) == b"the end"


async def test_a_table_that_was_never_used_is_only_stopped():
    mapped, copier = await make_copier()
    other = Copier(copier.first, copier.second)
    mapped.load(table_of(other))
    mapped.clear()
    assert other.life == ["start", "stop", "forgotten"]
    assert not copier.life[4:]


async def test_a_table_loaded_twice_is_started_once():
    mapped, copier = await make_copier()
    mapped.load(mapped.live)
    await mapped.resume()
    assert copier.life.count("start") == 1
    assert "stop" not in copier.life


async def test_the_end_of_a_device_closes_its_targets():
    mapped, copier = await make_copier()
    await mapped.end()
    assert copier.life[-5:] == ["presuspend", "postsuspend", "closed", "stop", "forgotten"]
    assert mapped.live is None


async def test_a_target_that_cannot_be_closed_is_stopped_all_the_same(caplog):
    mapped, copier = await make_copier()
    copier.first = RecordingDevice("gone", 4)
    await mapped.end()
    assert copier.life[-2:] == ["stop", "forgotten"]
    assert "dm0: copier: at its end: gone: " in caplog.text
    caplog.clear()


async def test_a_target_that_cannot_be_started_refuses_the_table_and_stops_the_others():
    disks = make_disk("d0", 64), make_disk("d1", 64)
    good, bad = Copier(*disks), Copier(*disks, refuses="start")
    mapped = MappedDevice("dm0")
    with pytest.raises(StackError, match="not started"):
        mapped.load(table_of(good, bad))
    assert good.life == ["start", "stop"]
    assert mapped.inactive is None


async def test_a_target_that_cannot_be_opened_leaves_the_live_table():
    mapped, copier = await make_copier()
    mapped.load(table_of(Copier(copier.first, copier.second, refuses="opening")))
    with pytest.raises(StackError, match="no such magic"):
        await mapped.resume()
    assert mapped.live.entries[0].target is copier
    assert mapped.inactive is None
    assert not mapped.suspended


async def test_a_target_that_cannot_go_on_keeps_the_device_suspended():
    mapped, copier = await make_copier()
    await mapped.suspend()
    copier.refuses = "preresume"
    with pytest.raises(StackError, match="no preresume"):
        await mapped.resume()
    assert mapped.suspended
    copier.refuses = ""
    await mapped.resume()
    assert not mapped.suspended


@pytest.mark.parametrize("turn", ["presuspend", "postsuspend"])
async def test_a_target_that_cannot_be_suspended_lets_the_live_table_go_on(turn):
    mapped, copier = await make_copier(refuses=turn)
    mapped.load(table_of(Copier(copier.first, copier.second)))
    for change in (mapped.suspend, mapped.resume):
        with pytest.raises(StackError, match=f"no {turn}"):
            await change()
        assert not mapped.is_suspending
        assert copier.life[-1] == "resumed"
        assert mapped.live.entries[0].target is copier
    await write(mapped, 0, bytes(512))


@pytest.mark.parametrize("was_suspended", [False, True])
async def test_a_new_table_that_cannot_go_on_is_dropped_and_the_old_one_goes_on(was_suspended):
    mapped, copier = await make_copier()
    other = Copier(copier.first, copier.second, refuses="preresume")
    mapped.load(table_of(other))
    if was_suspended:
        await mapped.suspend()
    with pytest.raises(StackError, match="no preresume"):
        await mapped.resume()
    assert other.life[-3:] == ["closed", "stop", "forgotten"]
    assert (mapped.live.entries[0].target, mapped.inactive) == (copier, None)
    assert mapped.suspended is was_suspended
    if not was_suspended:
        assert copier.life[-2:] == ["preresume", "resumed"]


async def test_in_strict_mode_a_new_table_that_cannot_go_on_is_live_and_suspended():
    mapped, copier = await make_copier(strict=True)
    other = Copier(copier.first, copier.second, refuses="preresume")
    mapped.load(table_of(other))
    with pytest.raises(StackError, match="no preresume"):
        await mapped.resume()
    assert mapped.live.entries[0].target is other
    assert mapped.suspended


# While a resume is under way.


def wait_for(signal):
    yield Wait(signal)


def fail(text):
    yield from ()
    raise StackError(text)


def hold_opening(monkeypatch, copier):
    """Have its preresume wait until the signal that is returned is given."""
    signal, own = Signal(), copier.preresume

    def held():
        yield Wait(signal)
        yield from own()

    monkeypatch.setattr(copier, "preresume", held)
    return signal


async def in_flight(mapped, copier, nursery):
    """A write that ends when the signal that is returned is given."""
    signal = Signal()
    copier.map = lambda bio: Script(lambda: wait_for(signal))
    nursery.start_soon(write, mapped, 0, bytes(512))
    await wait_all_tasks_blocked()
    return signal


async def test_a_table_cleared_while_its_resume_waits_leaves_the_old_one_going_on(nursery):
    mapped, copier = await make_copier()
    signal = await in_flight(mapped, copier, nursery)
    mapped.load(table_of(Copier(copier.first, copier.second)))
    nursery.start_soon(mapped.resume)
    await wait_all_tasks_blocked()
    mapped.clear()
    signal.notify()
    await wait_all_tasks_blocked()
    assert copier.life[-3:] == ["postsuspend", "preresume", "resumed"]
    assert not mapped.suspended
    assert mapped.live.entries[0].target is copier


async def test_a_device_that_lost_its_tables_while_a_resume_waits_is_not_resumed(nursery):
    mapped, copier = await make_copier()
    signal = await in_flight(mapped, copier, nursery)
    mapped.load(table_of(Copier(copier.first, copier.second)))
    with pytest.RaisesGroup(pytest.RaisesExc(StackError, match="dm0 has no table")):
        async with trio.open_nursery() as resuming:
            resuming.start_soon(mapped.resume)
            await wait_all_tasks_blocked()
            mapped.close()
            signal.notify()
    assert not mapped.is_suspending


@pytest.mark.parametrize("change", ["clear", "load"])
@pytest.mark.parametrize("refuses", ["", "preresume"])
async def test_a_table_that_a_resume_opens_is_not_dropped_by_others(
    change, refuses, monkeypatch, nursery
):
    mapped, copier = await make_copier()
    new, later = (Copier(copier.first, make_disk(name, 64)) for name in ("d2", "d3"))
    mapped.load(table_of(new))
    signal = hold_opening(monkeypatch, new)
    new.refuses = refuses
    with pytest.RaisesGroup(StackError) if refuses else nullcontext():
        async with trio.open_nursery() as resuming:
            resuming.start_soon(mapped.resume)
            await wait_all_tasks_blocked()
            mapped.clear() if change == "clear" else mapped.load(table_of(later))
            assert new.second in mapped.underlying()
            assert "stop" not in new.life
            signal.notify()
    live, gone = (copier, new) if refuses else (new, copier)
    assert mapped.live.entries[0].target is live
    assert ("stop" in live.life, "stop" in gone.life) == (False, True)
    assert gone.second not in mapped.underlying()
    if change == "load":
        assert mapped.inactive.entries[0].target is later
        await mapped.resume()
        assert mapped.live.entries[0].target is later
    assert mapped.inactive is None


async def test_a_table_loaded_read_only_while_another_is_opened_does_not_make_that_so(
    monkeypatch, nursery
):
    mapped, copier = await make_copier()
    mapped.load(table_of(new := Copier(copier.first, copier.second)))
    signal = hold_opening(monkeypatch, new)
    nursery.start_soon(mapped.resume)
    await wait_all_tasks_blocked()
    mapped.load(table_of(Copier(copier.first, copier.second)), read_only=True)
    signal.notify()
    await wait_all_tasks_blocked()
    assert (mapped.live.entries[0].target, mapped.read_only) == (new, False)
    await mapped.resume()
    assert mapped.read_only


async def test_a_resume_given_up_while_a_table_is_opened_leaves_the_old_one_going_on(monkeypatch):
    mapped, copier = await make_copier()
    mapped.load(table_of(new := Copier(copier.first, copier.second)))
    hold_opening(monkeypatch, new)
    async with trio.open_nursery() as resuming:
        resuming.start_soon(mapped.resume)
        await wait_all_tasks_blocked()
        resuming.cancel_scope.cancel()
    assert (mapped.live.entries[0].target, mapped.inactive) == (copier, None)
    assert copier.life[-4:] == ["presuspend", "postsuspend", "preresume", "resumed"]
    assert new.life[-1] == "forgotten"
    await write(mapped, 0, bytes(512))


# A suspend that comes to nothing.


async def test_who_has_written_what_it_owed_is_resumed_where_another_cannot_be_suspended():
    disks = make_disk("d0", 64), make_disk("d1", 64)
    good, bad = Copier(*disks), Copier(*disks, refuses="postsuspend")
    mapped = MappedDevice("dm0")
    mapped.load(table_of(good, bad))
    await mapped.resume()
    with pytest.raises(StackError, match="no postsuspend"):
        await mapped.suspend()
    assert good.life[-4:] == ["presuspend", "postsuspend", "preresume", "resumed"]
    assert bad.life[-3:] == ["presuspend", "preresume", "resumed"]
    assert not mapped.suspended


async def test_where_it_cannot_go_on_either_the_device_stays_suspended(monkeypatch):
    mapped, copier = await make_copier(refuses="postsuspend")
    monkeypatch.setattr(copier, "preresume", lambda: fail("no way back"))
    with pytest.raises(StackError, match="no way back"):
        await mapped.suspend()
    assert mapped.suspended
    monkeypatch.undo()
    await mapped.resume()
    await write(mapped, 0, bytes(512))


async def test_a_suspend_given_up_while_a_target_writes_what_it_owes_lets_it_go_on(monkeypatch):
    mapped, copier = await make_copier()
    monkeypatch.setattr(copier, "postsuspend", lambda: wait_for(Signal()))
    async with trio.open_nursery() as suspending:
        suspending.start_soon(mapped.suspend)
        await wait_all_tasks_blocked()
        suspending.cancel_scope.cancel()
    assert copier.life[-3:] == ["presuspend", "preresume", "resumed"]
    assert not mapped.suspended
    await write(mapped, 0, bytes(512))
