"""Seeded runs: thin devices of a small pool under load, while tables change and space runs short.

Each task owns a stretch of one device, so the order of its operations is known; blocks are shared
by neighbours, and by snapshots. FUSEDM_SIM_N and FUSEDM_SIM_SEED are as in test_random_stacks.py.
"""

import errno
from random import Random

import pytest
import trio

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError, WouldBlock
from fusedm.crypto import submit_bio, submit_bio_nowait
from fusedm.dm import MappedDevice
from fusedm.stores import MemoryStore
from tests.helpers.builders import assert_nothing_is_held, make_disk, read, read_bio, write_bio
from tests.helpers.by_span import carry_out_by_span_slowly
from tests.helpers.seeded_scheduler import run_seeded
from tests.helpers.thin_stack import BLOCK, METADATA_SECTORS, Stack
from tests.sim.test_random_stacks import FIRST_SEED, RUNS

TASKS, STEPS = 3, 25
SIZE = 6 * BLOCK
STRETCH = SIZE // TASKS


class SlowStore(MemoryStore):
    """A store whose calls are made in a worker thread, so that tasks come in between."""

    def may_block(self, op: Op) -> bool:
        return True


def check_no_space(error: BlockIOError) -> None:
    """Nothing else may go wrong."""
    assert error.errno == errno.ENOSPC


class Run:
    """The pool, its devices, and what each must hold."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        features = self.random.choice(["", "no_discard_passdown", "error_if_no_space"])
        # Room for three devices written all over, or for less.
        self.blocks = self.random.choice([12, 19, 30])
        self.disk = make_disk("disk", store=SlowStore(40 * BLOCK * 512))
        meta = make_disk("meta", store=SlowStore(METADATA_SECTORS * 512))
        self.stack = Stack(features, blocks=self.blocks, meta=meta)
        self.data = MappedDevice("data")
        self.stack.devices |= {"disk": self.disk, "data": self.data}
        self.models: dict[MappedDevice, bytearray] = {}
        self.by_span = 0
        self.is_over = False

    async def pause(self) -> None:
        await trio.sleep(self.random.choice([0.0, 0.001, 0.3]))

    async def submit(self, device: MappedDevice, bio: Bio) -> None:
        way = self.random.choice(["by span", "by span", "on the spot", "waiting"])
        try:
            if way == "by span" and await carry_out_by_span_slowly(device, bio, self.pause):
                self.by_span += 1
                return
            if way == "on the spot":
                return submit_bio_nowait(device, bio)
        except WouldBlock:
            pass
        await submit_bio(device, bio)

    async def task(self, device: MappedDevice, index: int) -> None:
        random, model = Random(self.random.random()), self.models[device]
        for _ in range(STEPS):
            count = random.choice([1, random.randint(1, 40), random.randint(1, STRETCH)])
            sector = index * STRETCH + random.randint(0, STRETCH - count)
            own = slice(sector * 512, (sector + count) * 512)
            match random.choice(["write", "write", "read", "discard", "flush", "pause"]):
                case "write":
                    data = random.randbytes(count * 512)
                    try:
                        await self.submit(device, write_bio(sector, data))
                        model[own] = data
                    except BlockIOError as error:
                        # Some of its blocks may have had room.
                        check_no_space(error)
                        model[own] = await read(device, sector, count * 512)
                case "read":
                    bio, found = read_bio(sector, count * 512)
                    await self.submit(device, bio)
                    assert found == model[own]
                case "discard":
                    try:
                        await submit_bio(device, Bio(Op.DISCARD, sector, count))
                        model[own] = bytes(count * 512)
                    except BlockIOError as error:
                        # Some of its blocks may have had room.
                        check_no_space(error)
                        model[own] = await read(device, sector, count * 512)
                case "flush":
                    await submit_bio(device, FLUSH)
                case "pause":
                    await self.pause()

    async def change_tables(self) -> None:
        """Suspend and resume, reload, and in the end give the pool all the room there is."""
        thins = list(self.models)
        for turn in range(12):
            await trio.sleep(self.random.choice([0.01, 0.4, 2]))
            match self.random.choice(["pool", "thin", "data", "reload", "reload thin"]):
                case "data":
                    await self.data.suspend()
                    await self.pause()
                    await self.stack.only_load(self.data, self.line)
                    await self.data.resume()
                case "pool":
                    await self.stack.pool.suspend()
                    await self.pause()
                    await self.stack.pool.resume()
                case "thin":
                    thin = self.random.choice(thins)
                    await thin.suspend()
                    await self.pause()
                    await thin.resume()
                case "reload":
                    self.stack.blocks = min(40, max(self.stack.blocks, self.blocks + turn))
                    await self.stack.load(self.stack.pool, self.stack.line)
                case "reload thin":
                    number = self.random.randrange(len(thins))
                    await self.stack.load(thins[number], f"0 {SIZE} thin pool {number}")
        self.stack.blocks = 40
        await self.stack.load(self.stack.pool, self.stack.line)

    line = f"0 {40 * BLOCK} linear disk 0"

    async def main(self) -> None:
        await self.stack.load(self.data, self.line)
        await self.stack.make()
        first = await self.stack.thin(0, SIZE)
        self.models[first] = bytearray(SIZE * 512)
        for number in range(3):
            async with trio.open_nursery() as nursery:
                for device in self.models:
                    for index in range(TASKS):
                        nursery.start_soon(self.task, device, index)
                nursery.start_soon(self.change_tables)
            for device, model in self.models.items():
                assert await read(device, 0, SIZE * 512) == model
            if number < 2:
                await first.suspend()
                await self.stack.say(f"create_snap {number + 1} 0")
                await first.resume()
                snap = await self.stack.thin(number + 1, SIZE, new=False)
                self.models[snap] = bytearray(self.models[first])
        assert_nothing_is_held(self.disk, self.stack.meta, self.stack.pool, *self.models)
        await self.stack.end()
        await self.look_again()

    async def look_again(self) -> None:
        again = Stack(blocks=40, meta=self.stack.meta)
        again.devices |= {"disk": self.disk, "data": MappedDevice("data")}
        await again.load(again.devices["data"], self.line)
        await again.make()
        for number, model in enumerate(self.models.values()):
            thin = await again.thin(number, SIZE, new=False)
            assert await read(thin, 0, SIZE * 512) == model
        for number in range(len(self.models)):
            with pytest.raises(StackError):
                await again.say(f"delete {number}")
        await again.end()


@pytest.mark.parametrize("number", range(RUNS))
def test_thin_devices_hold_what_was_written_whatever_happens_to_their_pool(number: int) -> None:
    seed = (FIRST_SEED + number) % (1 << 32)
    print(f"SEED: FUSEDM_SIM_SEED={seed} FUSEDM_SIM_N=1")
    run = Run(seed)
    run_seeded(seed, run.main)
    assert run.by_span
