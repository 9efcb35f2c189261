"""Bios for several legs where what comes of each matters, and bios that are planned anew."""

import errno
from dataclasses import field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, FUA, PREFLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, Requeue, Status, WouldBlock
from fusedm.crypto import submit_bio, submit_bio_nowait
from fusedm.dm import (
    Action,
    Each,
    Many,
    MappedDevice,
    Quiesce,
    Remap,
    Script,
    Signal,
    Steps,
    Wait,
    target_of,
)
from fusedm.stores import FailOp, FaultyStore, MemoryStore, VolatileCacheStore
from tests.helpers.builders import make_disk, make_mapped, medium, pattern, read, write
from tests.helpers.copier import Copier, table_of

DATA = bytes(pattern(512))


class Mirror(Copier):
    """Writes to both legs at once, and is content with one, which it marks."""

    outcomes: list[int | None]

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.READ:
            return Each((Remap(self.first, bio),))
        return Each((Remap(self.first, bio), Remap(self.second, bio)), self._then)

    def _then(self, outcomes: list[BlockIOError | None]) -> Steps[None] | None:
        self.outcomes = [error and error.errno for error in outcomes]
        if all(outcomes):
            raise BlockIOError(Status.IOERR, self.name, "no leg is left")
        return self._mark() if any(outcomes) else None

    def _mark(self) -> Steps[None]:
        good = self.first if self.outcomes[0] is None else self.second
        yield Remap(good, Bio.write(60, memoryview(b"degraded".ljust(512))))


async def make(*broken: int) -> tuple[MappedDevice, Mirror]:
    """A mirror of two legs, some of which fail writes."""
    rules = [FailOp(op=Op.WRITE, errno=errno.EREMOTEIO)]
    stores = [FaultyStore(MemoryStore(64 * 512), 0, rules if n in broken else ()) for n in (0, 1)]
    mirror = Mirror(*(make_disk(f"d{n}", 64, store=store) for n, store in enumerate(stores)))
    mapped = MappedDevice("dm0")
    mapped.load(table_of(mirror))
    await mapped.resume()
    return mapped, mirror


async def test_every_leg_is_written_and_the_bio_ends_well():
    mapped, mirror = await make()
    await write(mapped, 0, DATA)
    assert [medium(leg, 0, 512) for leg in (mirror.first, mirror.second)] == [DATA, DATA]
    assert mirror.outcomes == [None, None]
    assert await read(mapped, 0, 512) == DATA


@pytest.mark.parametrize("broken", [0, 1])
async def test_what_came_of_each_leg_is_seen_and_more_is_done_before_the_bio_ends(broken):
    mapped, mirror = await make(broken)
    await write(mapped, 0, DATA)
    assert mirror.outcomes[broken] == errno.EREMOTEIO
    assert mirror.outcomes[1 - broken] is None
    good = (mirror.first, mirror.second)[1 - broken]
    assert medium(good, 0, 512) == DATA
    assert medium(good, 60, 8) == b"degraded"


async def test_what_is_raised_about_the_legs_is_the_error_of_the_bio():
    mapped, _ = await make(0, 1)
    with pytest.raises(BlockIOError, match="no leg is left"):
        await write(mapped, 0, DATA)


async def test_a_leg_that_cannot_be_planned_is_one_that_fails():
    mapped, mirror = await make()
    mirror.second = MappedDevice("without a table")
    await write(mapped, 0, DATA)
    assert mirror.outcomes == [None, errno.EIO]
    assert medium(mirror.first, 60, 8) == b"degraded"


async def test_legs_are_not_carried_out_on_the_spot():
    mapped, mirror = await make()
    with pytest.raises(WouldBlock):
        submit_bio_nowait(mapped, Bio.write(0, memoryview(DATA)))
    assert medium(mirror.first, 0, 512) == bytes(512)


async def test_a_suspend_waits_for_legs(nursery):
    mapped, mirror = await make()
    lock = mirror.second.range_locks.take(((0, 8),))
    nursery.start_soon(write, mapped, 0, DATA)
    await wait_all_tasks_blocked()
    nursery.start_soon(mapped.suspend)
    await wait_all_tasks_blocked()
    assert not mapped.suspended
    mirror.second.range_locks.release(lock)
    await wait_all_tasks_blocked()
    assert mapped.suspended


async def test_a_script_is_told_what_came_of_each_of_its_legs():
    mapped, mirror = await make(1)
    bio, told = Bio.write(0, memoryview(DATA)), []

    def ask() -> Steps[str]:
        outcomes = yield Each((Remap(mirror.first, bio), Remap(mirror.second, bio)))
        told.extend(error and error.errno for error in outcomes)
        try:
            yield Many((Remap(mirror.first, bio), Remap(mirror.second, bio)))
        except BlockIOError as error:
            told.append(error.errno)
        return "asked"

    mirror.message = lambda words: ask()
    assert await mapped.message(0, ["ask"]) == "asked"
    assert told == [None, errno.EREMOTEIO, errno.EREMOTEIO]


async def test_only_what_is_in_the_background_waits_for_the_end_of_all_bios():
    mapped, mirror = await make()
    mirror.message = lambda words: (step for step in [Quiesce()])
    with pytest.raises(AssertionError, match="for scripts in the background"):
        await mapped.message(0, ["now"])


# Bios that are planned anew.


class Waiting(Copier):
    """Lets no write through until there is room; a suspend finds it waiting."""

    room: list[int] = field(default_factory=list)

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.WRITE and not self.room:
            return Script(lambda: self._wait(bio))
        return Remap(self.first, bio)

    def _wait(self, bio: Bio) -> Steps[None]:
        self.life.append("waits")
        while not self.room:
            if self.leaving or not (yield Wait(self.signal, 60)):
                raise Requeue
        yield Remap(self.first, bio)

    def presuspend(self) -> Steps[None]:
        self.leaving = True
        self.signal.notify()
        yield from ()

    def resumed(self) -> None:
        self.leaving = False


async def make_waiting() -> tuple[MappedDevice, Waiting]:
    waiting = Waiting(make_disk("d0", 64), make_disk("d1", 64))
    waiting.room, waiting.signal, waiting.leaving = [], Signal(), False
    mapped = MappedDevice("dm0")
    mapped.load(table_of(waiting))
    await mapped.resume()
    return mapped, waiting


async def test_a_bio_that_a_suspend_finds_waiting_is_planned_anew_after_the_resume(nursery):
    mapped, waiting = await make_waiting()
    nursery.start_soon(write, mapped, 0, DATA)
    await wait_all_tasks_blocked()
    await mapped.suspend()
    assert medium(waiting.first, 0, 512) == bytes(512)
    waiting.room.append(1)
    await mapped.resume()
    await wait_all_tasks_blocked()
    assert medium(waiting.first, 0, 512) == DATA
    assert waiting.life.count("waits") == 1


async def test_a_bio_goes_to_the_table_that_takes_the_place_of_the_one_it_waited_in(nursery):
    mapped, waiting = await make_waiting()
    nursery.start_soon(write, mapped, 0, DATA)
    await wait_all_tasks_blocked()
    mapped.load(table_of(Copier(waiting.second, waiting.first)))
    await mapped.resume()
    await wait_all_tasks_blocked()
    assert medium(waiting.second, 0, 512) == DATA


async def test_a_suspend_that_is_given_up_lets_it_wait_again(nursery):
    mapped, waiting = await make_waiting()
    nursery.start_soon(write, mapped, 0, DATA)
    await wait_all_tasks_blocked()
    await mapped.prepare_suspend()
    await wait_all_tasks_blocked()
    mapped.give_up_suspend()
    await wait_all_tasks_blocked()
    assert waiting.life.count("waits") == 2
    waiting.room.append(1)
    waiting.signal.notify()
    await wait_all_tasks_blocked()
    assert medium(waiting.first, 0, 512) == DATA


async def test_a_bio_that_cannot_go_on_without_any_suspend_fails(autojump_clock):
    mapped, _ = await make_waiting()
    with pytest.raises(BlockIOError, match="no suspend is under way"):
        await write(mapped, 0, DATA)


async def test_one_piece_that_is_planned_anew_takes_the_others_with_it(nursery):
    waiting = Waiting(make_disk("d0", 64), make_disk("d1", 64))
    waiting.room, waiting.signal, waiting.leaving = [], Signal(), False
    mapped = MappedDevice("dm0")
    mapped.load(table_of(Copier(make_disk("d2", 64), make_disk("d3", 64)), waiting))
    await mapped.resume()
    nursery.start_soon(write, mapped, 63, DATA + DATA)
    await wait_all_tasks_blocked()
    await mapped.suspend()
    waiting.room.append(1)
    await mapped.resume()
    await wait_all_tasks_blocked()
    assert medium(waiting.first, 0, 512) == DATA
    assert mapped.stats.in_flight == 0


# Durability.


@pytest.mark.parametrize("table", ["0 64 linear d0 0", "0 64 flakey d0 0 60 0"])
async def test_what_is_written_with_fua_survives_a_power_cut_and_the_rest_does_not(table):
    store = VolatileCacheStore(MemoryStore(64 * 512))
    mapped = await make_mapped(table, make_disk("d0", 64, store=store))
    await write(mapped, 8, DATA)
    await submit_bio(mapped, Bio.write(0, memoryview(DATA), flags=FUA))
    await submit_bio(mapped, Bio.write(16, memoryview(DATA + DATA), flags=FUA).slice(0, 1))
    store.lose_power("nothing")
    assert await read(mapped, 0, 512) == DATA
    assert await read(mapped, 8, 512) == bytes(512)
    assert await read(mapped, 16, 1024) == DATA + bytes(512)


@pytest.mark.parametrize("has_table", [False, True])
async def test_what_was_acknowledged_before_a_preflush_survives_a_power_cut(has_table):
    store = VolatileCacheStore(MemoryStore(64 * 512))
    disk = make_disk("d0", 64, store=store)
    device = await make_mapped("0 64 linear d0 0", disk) if has_table else disk
    await write(device, 8, DATA)
    await submit_bio(device, Bio.write(0, memoryview(DATA), flags=PREFLUSH))
    store.lose_power("nothing")
    assert await read(device, 8, 512) == DATA
    assert await read(device, 0, 512) == bytes(512)


async def test_data_after_a_flush_that_fails_are_not_written():
    rules = [FailOp(op=Op.FLUSH, errno=errno.EREMOTEIO)]
    disk = make_disk("d0", 64, store=FaultyStore(MemoryStore(64 * 512), 0, rules))
    mapped = await make_mapped("0 64 linear d0 0", disk)
    with pytest.raises(BlockIOError) as caught:
        await submit_bio(mapped, Bio.write(0, memoryview(DATA), flags=PREFLUSH | FUA))
    assert caught.value.errno == errno.EREMOTEIO
    assert medium(disk, 0, 512) == bytes(512)


async def test_a_preflush_reaches_what_the_data_do_not():
    stores = [VolatileCacheStore(MemoryStore(64 * 512)) for _ in range(2)]
    disks = [make_disk(f"d{n}", 64, store=store) for n, store in enumerate(stores)]
    mapped = await make_mapped("0 64 linear d0 0\n64 64 linear d1 0", *disks)
    await write(mapped, 64, DATA)
    await submit_bio(mapped, Bio.write(0, memoryview(DATA), flags=PREFLUSH))
    stores[1].lose_power("nothing")
    assert await read(mapped, 64, 512) == DATA
    await submit_bio(mapped, FLUSH)


# What a target learns of others.


async def test_a_target_is_found_where_it_is_all_of_a_live_table():
    mapped, mirror = await make()
    assert target_of(mapped, Mirror) is mirror
    assert target_of(mapped, Waiting) is None
    assert target_of(mirror.first, Mirror) is None
    assert target_of(MappedDevice("none"), Mirror) is None
    mapped.load(table_of(mirror, Mirror(mirror.first, mirror.second)))
    await mapped.resume()
    assert target_of(mapped, Mirror) is None


async def test_a_target_without_a_device_may_say_what_nobody_hears():
    mirror = Mirror(make_disk("d0", 64), make_disk("d1", 64))
    mirror.raise_event()
    mirror.changed()
    assert mirror.host.name == ""


async def test_what_a_target_says_of_itself_reaches_its_device():
    mapped, mirror = await make()
    number = mapped.span(0).guards[0][1]
    mirror.changed()
    assert mapped.span(0).guards[0][1] == number + 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapped.wait_event, 0)
        await wait_all_tasks_blocked()
        mirror.raise_event()
