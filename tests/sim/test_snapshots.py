"""Seeded runs: an origin and two snapshots under load, by spans, on the spot and waiting.

Each task owns a stretch of one of the three devices, so the order of its operations is known;
chunks are shared by neighbours, and sectors of the origin by three tasks. FUSEDM_SIM_N and
FUSEDM_SIM_SEED are as in test_random_stacks.py.
"""

from random import Random

import pytest
import trio
from trio.testing import MockClock

from fusedm.block.errors import WouldBlock
from fusedm.crypto import submit_bio, submit_bio_nowait
from fusedm.dm import MappedDevice, parse_table
from tests.helpers.builders import (
    assert_nothing_is_held,
    make_disk,
    pattern,
    read,
    read_bio,
    write_bio,
)
from tests.helpers.by_span import carry_out_by_span_slowly
from tests.helpers.devices import lookup_in
from tests.helpers.snapshot_stack import SlowStore
from tests.sim.test_random_stacks import FIRST_SEED, RUNS

STRETCHES, STEPS, STRETCH = 3, 30, 21
SIZE = 64


class Run:
    """The devices, and what each must hold."""

    def __init__(self, seed):
        self.random = Random(seed)
        cow = SIZE * 8
        self.disks = [
            make_disk("base", store=SlowStore(SIZE * 512)),
            make_disk("cow0", store=SlowStore(cow * 512)),
            make_disk("cow1", store=SlowStore(cow * 512)),
        ]
        self.disks[0].store.pwrite(0, memoryview(pattern(SIZE * 512, seed)))
        self.by_span = 0

    async def add(self, name, line):
        device = MappedDevice(name)
        device.load(parse_table(f"0 {SIZE} {line}", lookup_in(*self.disks), lambda: 0.0))
        await device.resume()
        return device

    async def pause(self):
        await trio.sleep(self.random.choice([0.0, 0.001, 0.004]))

    async def submit(self, device, bio):
        way = self.random.choice(["by span", "by span", "on the spot", "waiting"])
        if way == "by span" and await carry_out_by_span_slowly(device, bio, self.pause):
            self.by_span += 1
            return
        if way == "on the spot":
            try:
                return submit_bio_nowait(device, bio)
            except WouldBlock:
                pass
        await submit_bio(device, bio)

    async def task(self, index, device, model):
        random = Random(self.random.random())
        for _ in range(STEPS):
            count = random.randint(1, 6)
            sector = index * STRETCH + random.randint(0, STRETCH - count)
            at = slice(sector * 512, (sector + count) * 512)
            if random.random() < 0.5:
                text = random.randbytes(count * 512)
                await self.submit(device, write_bio(sector, text))
                model[at] = text
            else:
                bio, got = read_bio(sector, count * 512)
                await self.submit(device, bio)
                assert got == model[at], f"{device.name}: {bio}"
            await self.pause()

    async def main(self):
        kinds = [f"{self.random.choice('PN')} {self.random.choice([1, 4, 8])}" for _ in range(2)]
        devices = [await self.add("origin", "snapshot-origin base")]
        for index, kind in enumerate(kinds):
            devices.append(await self.add(f"snap{index}", f"snapshot base cow{index} {kind}"))
        text = pattern(SIZE * 512)
        self.disks[0].store.pread_into(0, memoryview(text))
        self.held = [(device, bytearray(text)) for device in devices]
        async with trio.open_nursery() as nursery:
            for index in range(STRETCHES):
                for device, model in self.held:
                    nursery.start_soon(self.task, index, device, model)
        for device, model in self.held:
            assert await read(device, 0, SIZE * 512) == model, device.name
        assert_nothing_is_held(*devices, *self.disks)
        assert self.by_span, "some went by a span"


@pytest.mark.parametrize("number", range(RUNS))
def test_snapshots_under_load_are_flat_arrays(number):
    seed = (FIRST_SEED + number) % (1 << 32)
    print(f"SEED: FUSEDM_SIM_SEED={seed} FUSEDM_SIM_N=1")
    trio.run(Run(seed).main, clock=MockClock(autojump_threshold=0))
