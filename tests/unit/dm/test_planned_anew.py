"""Scripts that are given up, and their bios planned anew; what is read from no device at all."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import Bio, BlockDevice, CryptContext, KeyType, Op, RangeLocks
from fusedm.block.errors import Requeue
from fusedm.crypto import start_using_key, submit_bio
from fusedm.dm import (
    Action,
    Complete,
    Many,
    MappedDevice,
    Remap,
    Script,
    Segment,
    Signal,
    Steps,
)
from fusedm.dm.scripts import run_script
from fusedm.dm.stacking import stack_capabilities
from tests.helpers.builders import make_disk, make_key, make_mapped, medium, pattern, read, write
from tests.helpers.copier import Copier, table_of

DATA = bytes(pattern(8192))


@dataclass
class Patient(Copier):
    """Writes to its first device once there is room, the second half of a bio by a script."""

    passes_crypto = True

    room: Signal = field(default_factory=Signal)
    has_room: bool = True
    begun: int = 0
    undone: int = 0
    own: tuple[BlockDevice, ...] = ()

    def devices(self) -> Iterable[Segment]:
        return [Segment(self.first, 0, self.sector_count)]

    def own_devices(self) -> Iterable[BlockDevice]:
        return self.own

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.READ:
            return Complete()
        if bio.op is not Op.WRITE or bio.sector_count == 1:
            return Remap(self.first, bio)
        front, back = bio.split(bio.sector_count // 2)
        return Many((Remap(self.first, front), Script(lambda: self._write(back), (), True)))

    def _write(self, bio: Bio) -> Steps[None]:
        self.begun += 1
        if not self.has_room:
            raise Requeue(self.room)
        is_done = False
        try:
            yield Script(lambda: self._pass_on(bio))
            is_done = True
        finally:
            self.undone += not is_done

    def _pass_on(self, bio: Bio) -> Steps[None]:
        yield Remap(self.first, bio)


async def make() -> tuple[MappedDevice, Patient, MappedDevice]:
    """A patient target over a mapped device that can be suspended."""
    below = await make_mapped("0 64 linear d0 0", make_disk("d0", 64), name="below")
    patient = Patient(below, below)
    mapped = MappedDevice("dm0")
    mapped.load(table_of(patient))
    await mapped.resume()
    return mapped, patient, below


async def test_a_bio_without_room_holds_nothing_until_its_signal_and_is_planned_anew():
    mapped, patient, below = await make()
    patient.has_room = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, mapped, 0, DATA)
        await wait_all_tasks_blocked()
        assert mapped.stats.in_flight == below.stats.in_flight == 0
        await below.suspend()
        await below.resume()
        patient.room.notify()
        await wait_all_tasks_blocked()
        assert patient.begun == 2
        patient.has_room = True
        patient.room.notify()
    assert patient.begun == 3
    assert medium(below.live.devices()[0], 0, len(DATA)) == DATA


async def test_a_signal_that_comes_before_the_plan_has_ended_is_not_lost():
    mapped, patient, below = await make()
    patient.has_room = False
    disk = below.live.devices()[0]
    hold = disk.range_locks.take(((0, 8),))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, mapped, 0, DATA)
        await wait_all_tasks_blocked()
        disk.range_locks.release(hold)
        patient.has_room = True
        patient.room.notify()
        await wait_all_tasks_blocked()
        patient.room.notify()
    assert medium(disk, 0, len(DATA)) == DATA


async def test_a_repeatable_script_is_given_up_where_it_comes_to_a_suspended_device():
    mapped, patient, below = await make()
    began = below.stats.begin(Op.READ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(below.suspend)
        await wait_all_tasks_blocked()
        patient.map = lambda bio: Script(lambda: patient._write(bio), (), True)
        nursery.start_soon(write, mapped, 0, DATA)
        await wait_all_tasks_blocked()
        assert (patient.begun, patient.undone) == (1, 1)
        assert mapped.stats.in_flight == 0
        below.stats.end(Op.READ, 8, began)
        await wait_all_tasks_blocked()
        await below.resume()
    assert (patient.begun, patient.undone) == (2, 1)


async def test_a_suspend_does_not_wait_for_what_waits_for_it():
    """Half of the bio is in flight below, the other half would come there while that is closed."""
    mapped, patient, below = await make()
    disk = below.live.devices()[0]
    hold = disk.range_locks.take(((0, 8),))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, mapped, 0, DATA)
            await wait_all_tasks_blocked()
            nursery.start_soon(below.suspend)
            await wait_all_tasks_blocked()
            disk.range_locks.release(hold)
            await wait_all_tasks_blocked()
            assert below.suspended
            await below.resume()
    assert medium(disk, 0, len(DATA)) == DATA


async def test_a_step_that_is_repeatable_is_begun_anew_where_its_script_waits():
    below = await make_mapped("0 64 linear d0 0", make_disk("d0", 64), name="below")
    locks, tries = RangeLocks(), []

    def inner() -> Steps[str]:
        tries.append("begun")
        yield Remap(below, Bio.write(0, memoryview(DATA[:512])))
        return "done"

    def outer() -> Steps[str]:
        return (yield Script(inner, ((locks, 0, 1),), is_repeatable=True))

    await below.suspend()
    results = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: _keep(results, run_script(outer())))
        await wait_all_tasks_blocked()
        assert locks.is_free(0, 1)
        await below.resume()
    assert (tries, results) == (["begun", "begun"], ["done"])


async def test_a_step_that_is_not_repeatable_waits_within_a_script_that_is():
    mapped, patient, below = await make()

    def steps() -> Steps[None]:
        patient.begun += 1
        yield Script(lambda: patient._pass_on(Bio.write(0, memoryview(DATA))), (), False)

    patient.map = lambda bio: Script(steps, (), True)
    await below.suspend()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, mapped, 0, DATA)
        await wait_all_tasks_blocked()
        assert mapped.stats.in_flight == 1
        await below.resume()
    assert patient.begun == 1


async def _keep(results, work) -> None:
    results.append(await work)


# What is read from no device.


async def test_zeros_that_are_read_under_a_context_are_decrypted_as_a_mediums():
    mapped, patient, below = await make()
    key = make_key()
    start_using_key(mapped, key)
    found = await read(mapped, 0, 1024, key, 5)
    await write(below, 0, bytes(1024))
    start_using_key(below, key)
    assert found == await read(below, 0, 1024, key, 5) != bytes(1024)
    assert await read(mapped, 0, 1024) == bytes(1024)


async def test_zeros_are_zeros_where_they_are_holes():
    mapped, *_ = await make()
    key = make_key()
    start_using_key(mapped, key)
    data = bytearray(b"x" * 512)
    await submit_bio(mapped, Bio.read(0, memoryview(data), CryptContext(key, 0, True)))
    assert data == bytes(512)


async def test_zeros_are_zeros_where_no_software_could_decrypt_them():
    mapped, patient, below = await make()
    key = make_key()
    key.config = replace(key.config, key_type=KeyType.HW_WRAPPED)
    data = bytearray(b"x" * 512)
    await submit_bio(mapped, Bio.read(0, memoryview(data), CryptContext(key, 0)))
    assert data == bytes(512)


async def test_a_part_may_be_read_from_no_device():
    mapped, patient, below = await make()
    await write(below, 0, DATA)

    def map_part(bio: Bio) -> Action:
        front, back = bio.split(3)
        return Many((Remap(below, front), Complete(back)))

    patient.map = map_part
    assert await read(mapped, 0, 8 * 512) == DATA[: 3 * 512] + bytes(5 * 512)


# Devices of a target's own.


async def test_a_targets_own_devices_are_held_and_not_asked_what_bios_ask():
    own = make_disk("own", 8, block=4096)
    below = make_disk("d0", 64, slots=2)
    patient = Patient(below, below, own=(own,))
    mapped = MappedDevice("dm0")
    table = table_of(patient)
    mapped.load(table)
    await mapped.resume()
    assert mapped.underlying() == [below, own]
    assert mapped in own.holders
    assert mapped.limits.logical_block_size == 512
    assert stack_capabilities(table) == below.capabilities
    own.read_only = True
    mapped.refresh()
    assert not mapped.read_only
