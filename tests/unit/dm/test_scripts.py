"""Targets with I/O of their own: scripts, and the turns of a target's life."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import Bio, BlockDevice, Op, RangeLocks
from fusedm.block.errors import BlockIOError, StackError, Status, WouldBlock
from fusedm.crypto import submit_bio, submit_bio_nowait
from fusedm.dm import (
    Action,
    Many,
    MappedDevice,
    Params,
    Remap,
    Script,
    Segment,
    Steps,
    Table,
    TableEntry,
    Target,
    Word,
)
from tests.helpers.builders import make_disk, medium, pattern, read, write
from tests.helpers.devices import RecordingDevice


@dataclass
class Copier(Target):
    """Writes everything to two devices, the second after the first, and tells of its life."""

    name = "copier"
    version = (1, 0, 0)
    passes_crypto = False
    usage = "dev dev"

    first: BlockDevice
    second: BlockDevice
    sector_count: int = 64
    locks: RangeLocks | None = None
    life: list[str] = field(default_factory=list)
    refuses: str = ""

    @classmethod
    def parse(cls, params: Params) -> "Copier":
        raise AssertionError("made by hand")

    def params(self) -> list[Word]:
        return [self.first, self.second]

    def devices(self) -> Iterable[Segment]:
        return [Segment(device, 0, self.sector_count) for device in (self.first, self.second)]

    def map(self, bio: Bio) -> Action:
        if bio.op is not Op.WRITE:
            return Remap(self.first, bio)
        locks = ((self.locks, bio.sector, bio.end_sector),) if self.locks else ()
        return Script(lambda: self._copy(bio), locks)

    def _copy(self, bio: Bio) -> Steps[None]:
        yield Remap(self.first, bio)
        try:
            yield Remap(self.second, bio)
        except BlockIOError as error:
            self.life.append(f"second failed: {error.errno}")

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        self.life.append(f"end of {bio.op.value}")
        return error

    def message(self, words: list[str]) -> str | Steps[str]:
        if words == ["hello"]:
            return "hello yourself"
        if words == ["sign"]:
            return self._sign()
        return super().message(words)

    def _sign(self) -> Steps[str]:
        mark = Bio.write(8, memoryview(b"signed".ljust(512)))
        yield Many((Remap(self.first, mark), Remap(self.second, mark)))
        return "done"

    def opening(self) -> Steps[None]:
        head = bytearray(512)
        yield Remap(self.first, Bio.read(0, memoryview(head)))
        self.life.append(f"opened on {bytes(head[:4])!r}")
        if self.refuses == "opening":
            raise StackError("no such magic")

    def start(self) -> None:
        self.life.append("start")
        if self.refuses == "start":
            raise StackError("not started")

    def check_resume(self) -> None:
        if self.refuses == "resume":
            raise StackError("no key", errno.EAGAIN)

    def suspended(self) -> None:
        self.life.append("suspended")

    def resumed(self) -> None:
        self.life.append("resumed")

    def closing(self) -> Steps[None]:
        yield Remap(self.first, Bio.write(63, memoryview(b"the end".ljust(512))))
        self.life.append("closed")

    def stop(self) -> None:
        self.life.append("stop")


def table_of(*targets: Target) -> Table:
    entries, start = [], 0
    for target in targets:
        entries.append(TableEntry(start, target.sector_count, target))
        start += target.sector_count
    return Table(entries)


async def make(**options) -> tuple[MappedDevice, Copier]:
    """A mapped device with a live copier over two disks."""
    copier = Copier(make_disk("d0", 64), make_disk("d1", 64), **options)
    mapped = MappedDevice("dm0")
    mapped.load(table_of(copier))
    await mapped.resume()
    return mapped, copier


async def test_a_script_is_carried_out_step_by_step():
    mapped, copier = await make()
    await write(mapped, 8, pattern(1024))
    for disk in (copier.first, copier.second):
        assert medium(disk, 8, 1024) == pattern(1024)
    assert copier.life[-1] == "end of write"


async def test_a_script_is_not_carried_out_on_the_spot():
    mapped, copier = await make()
    with pytest.raises(WouldBlock):
        submit_bio_nowait(mapped, Bio.write(0, memoryview(bytes(512))))
    assert copier.life[-1] != "end of write"


async def test_the_error_of_a_step_is_thrown_into_the_script_and_may_be_dealt_with():
    mapped, copier = await make()
    copier.second = RecordingDevice("gone", 4)  # Too small: the bio is refused there.
    await write(mapped, 8, pattern(512))
    assert f"second failed: {errno.EIO}" in copier.life
    assert medium(copier.first, 8, 512) == pattern(512)


async def test_the_error_a_script_lets_through_is_the_bios():
    mapped, copier = await make()
    copier.first = RecordingDevice("gone", 4)
    with pytest.raises(BlockIOError, match="not within the device"):
        await write(mapped, 8, pattern(512))
    assert mapped.stats.in_flight == 0


async def test_overlapping_scripts_wait_for_the_lock_of_the_first():
    locks = RangeLocks()
    mapped, copier = await make(locks=locks)
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
    mapped, copier = await make()
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


# Turns.


async def test_a_target_is_started_at_load_and_opened_before_it_becomes_live():
    _, copier = await make()
    assert copier.life == ["start", r"opened on b'\x00\x00\x00\x00'", "resumed"]


async def test_a_target_that_is_suspended_and_resumed_is_told():
    mapped, copier = await make()
    await mapped.suspend()
    await mapped.resume()
    assert copier.life[3:] == ["suspended", "resumed"]


async def test_a_target_of_a_table_that_is_replaced_is_closed_and_stopped():
    mapped, copier = await make()
    other = Copier(copier.first, copier.second)
    mapped.load(table_of(other))
    await mapped.resume()
    assert copier.life[3:] == ["suspended", "closed", "stop"]
    assert medium(copier.first, 63, 7) == b"the end"
    assert other.life[:2] == ["start", r"opened on b'\x00\x00\x00\x00'"]


async def test_a_table_that_was_never_used_is_only_stopped():
    mapped, copier = await make()
    other = Copier(copier.first, copier.second)
    mapped.load(table_of(other))
    mapped.clear()
    assert other.life == ["start", "stop"]
    assert not copier.life[3:]


async def test_a_table_loaded_twice_is_started_once():
    mapped, copier = await make()
    mapped.load(mapped.live)
    await mapped.resume()
    assert copier.life.count("start") == 1
    assert "stop" not in copier.life


async def test_the_end_of_a_device_closes_its_targets():
    mapped, copier = await make()
    await mapped.end()
    assert copier.life[-2:] == ["closed", "stop"]
    assert mapped.live is None


async def test_a_target_that_cannot_be_closed_is_stopped_all_the_same(caplog):
    mapped, copier = await make()
    copier.first = RecordingDevice("gone", 4)
    await mapped.end()
    assert copier.life[-1] == "stop"
    assert "copier: at its end: gone: " in caplog.text
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
    mapped, copier = await make()
    mapped.load(table_of(Copier(copier.first, copier.second, refuses="opening")))
    with pytest.raises(StackError, match="no such magic"):
        await mapped.resume()
    assert mapped.live.entries[0].target is copier
    assert mapped.inactive is None
    assert not mapped.suspended


async def test_a_target_that_cannot_go_on_keeps_the_device_suspended():
    mapped, copier = await make()
    await mapped.suspend()
    copier.refuses = "resume"
    with pytest.raises(StackError, match="no key"):
        await mapped.resume()
    assert mapped.suspended
    copier.refuses = ""
    await mapped.resume()
    assert not mapped.suspended


# Messages and events.


async def test_a_message_is_answered_at_once_or_after_some_io():
    mapped, copier = await make()
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
    mapped, _ = await make()
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
    mapped, copier = await make()
    copier.second = RecordingDevice("gone", 4)
    with pytest.raises(BlockIOError) as caught:
        await mapped.message(0, ["sign"])
    assert caught.value.errno == Status.IOERR.value


async def test_an_event_wakes_those_who_wait_for_another_number():
    mapped, copier = await make()
    assert mapped.event_number == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapped.wait_event, 0)
        await wait_all_tasks_blocked()
        copier.raise_event()
    assert mapped.event_number == 1
    await mapped.wait_event(0)


async def test_the_end_is_an_event():
    mapped, _ = await make()
    mapped.close()
    assert mapped.event_number == 1
