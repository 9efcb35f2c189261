"""The turns of a target's life: at load, at a swap of tables, at a suspend, at its end."""

import pytest

from fusedm.block.errors import StackError
from fusedm.dm import MappedDevice
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
