"""Long seeded runs: random stacks and I/O by many tasks, tables and engines changing, faults.

Some lines of tables are of targets with disks of their own (own_disks.py), which do not fail:
arrays lose members that are rebuilt meanwhile, snapshots are merged, thin devices are copied.

Each task owns a stretch of the device, so the order of its operations is known; the stretches are
not aligned to anything, so data units of neighbours meet on the same boundaries. Faults come from
the stores: what a failed write touched is unknown to the model until it is written again.

FUSEDM_SIM_N runs; FUSEDM_SIM_SEED makes the first of them this one, as printed by a failed run.
"""

import os
from random import Random, SystemRandom

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError, WouldBlock
from fusedm.crypto import start_using_key, submit, submit_nowait
from fusedm.dm import MappedDevice
from fusedm.stores import FailOp, FaultyStore, Latency, MemoryStore
from tests.helpers.builders import (
    assert_nothing_is_held,
    make_disk,
    make_key,
    make_mapped,
    patch,
    read,
    read_bio,
    write_bio,
)
from tests.helpers.by_span import carry_out_by_span
from tests.helpers.model import FlatModel
from tests.helpers.own_disks import (
    assert_members_agree,
    is_too_early,
    load_opened,
    make_disks,
    make_piece,
    make_pool,
)

RUNS = int(os.environ.get("FUSEDM_SIM_N", "30"))
FIRST_SEED = int(os.environ.get("FUSEDM_SIM_SEED", SystemRandom().randrange(1 << 32)))
TASKS, STEPS, STRETCH = 5, 25, 88
SIZE = TASKS * STRETCH
#: As many as the pool has room for.
SNAPSHOTS = 8
KEYS = [make_key(f"{unit}{name}", unit) for unit in (512, 4096) for name in "abc"]


class Run:
    """One stack under load, and the model of it."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.block = self.random.choice([512, 512, 4096])
        self.faulty = self.random.random() < 0.5
        self.disks = [self.make_disk(index) for index in range(self.random.choice([2, 3]))]
        self.spare = make_disk("spare", store=MemoryStore(SIZE * 512, self.block))
        self.model = FlatModel(SIZE)
        self.failures = 0
        self.has_own = self.random.random() < 0.6
        self.pieces = []
        self.changing = trio.Lock()
        self.snapshots = {}

    def make_disk(self, index):
        random = self.random
        store = MemoryStore(2 * SIZE * 512, self.block)
        rules = [Latency(seconds=0.0, op=random.choice([Op.READ, Op.WRITE, Op.FLUSH]))]
        if self.faulty:
            rules += [FailOp(op=op, probability=0.03) for op in (Op.READ, Op.WRITE)]
        if self.faulty or random.random() < 0.2:
            store = FaultyStore(store, random.random(), rules, sleep=lambda seconds: None)
        slots, latency = random.choice([None, 0, 1, 1, 2, 3]), random.choice([0.0, 0.001])
        return make_disk(f"d{index}", slots=slots, latency=latency, store=store)

    def layout(self):
        """Where each part of the device lies: (start, length, kind, disks); never overlapping."""
        step, left, parts, start = self.block // 512, SIZE, [], 0
        while left:
            length = min(self.random.randint(1, 20) * self.random.randint(1, 6) * step, left)
            kind = self.random.choice(["linear", "linear", "striped", "zero"])
            if length % (4 * step):
                kind = "linear"
            first, second = self.random.sample(self.disks, 2)
            piece = make_piece(self.random, start, length, step) if self.has_own else None
            if piece is not None and self.random.random() < 0.6:
                self.pieces.append(piece)
                start, left = start + piece.count, left - piece.count
                continue
            parts.append((start, length, kind, first.name, second.name))
            start, left = start + length, left - length
        return parts

    def table(self, parts, is_new=False):
        """One of many tables of the same layout: lines split, delayed or flakey at will."""
        lines, step = [], self.block // 512
        lines += [piece.line if is_new else piece.other_line(self.random) for piece in self.pieces]
        for start, length, kind, first, second in parts:
            if kind == "striped":
                place = SIZE + start // 2 // step * step
                words = [f"striped 2 {2 * step} {first} {place} {second} {place}"]
                lines.append(f"{start} {length} {words[0]}")
            elif kind == "zero":
                lines.append(f"{start} {length} zero")
                self.model.holes.update(range(start, start + length))
            else:
                cut = self.random.randrange(0, length, step)
                for begin, count in [(start, cut), (start + cut, length - cut)]:
                    kinds = ["linear {}", "delay {} 2", "delay {} 0", "flakey {} 1 0"]
                    kinds += [f"dust {{}} {self.block}", f"switch 1 {3 * step} 0 {{}}"]
                    if count >= 8 and not self.faulty:  # What differs is on the other leg only.
                        kinds.append(f"mirror core 2 8 nosync 2 {{}} spare {begin}")
                    how = self.random.choice(kinds)
                    if count:
                        lines.append(f"{begin} {count} {how.format(f'{first} {begin}')}")
        return "\n".join(sorted(lines, key=lambda line: int(line.split()[0])))

    async def submit(self, request):
        """By a span or on the spot if possible, a third of the time each; whether it succeeded."""
        try:
            way = self.random.choice(["by span", "on the spot", "waiting"])
            if way == "by span" and isinstance(request, Bio):
                if carry_out_by_span(self.top, request, now=0.0):
                    return True
            elif way == "on the spot":
                try:
                    submit_nowait(self.top, [request])
                    return True
                except WouldBlock:
                    pass
            await submit(self.top, [request])
        except BlockIOError:
            if not self.faulty:
                raise
            self.failures += 1
            return False
        return True

    async def task(self, index):
        random, step = Random(self.random.random()), self.block // 512
        begin, end = index * STRETCH, (index + 1) * STRETCH
        for _ in range(STEPS):
            key = random.choice([None, *KEYS])
            unit = max(step, key.config.data_unit_size // 512 if key else 1)
            count = random.randint(1, 40 // unit) * unit
            sector = random.randrange(begin, end - count + 1, step)
            dun = random.choice([0, 1000 + sector, (1 << 64) - 500])
            await random.choice([self.write, self.write, self.patch, self.read, self.flush])(
                random, sector, count * 512, unit * 512, key, dun
            )

    async def write(self, random, sector, length, unit, key, dun):
        text = random.randbytes(length)
        if await self.submit(write_bio(sector, text, key, dun)):
            self.model.write(sector, text, key, dun)
        else:
            self.model.forget(sector, length)

    async def patch(self, random, sector, length, unit, key, dun):
        payload, offset = random.randbytes(random.randint(1, 300)), random.randint(0, 200)
        before = bytearray(self.model.read(sector, unit, key, dun))
        known = not self.model.unknown.intersection(range(sector, sector + unit // 512))
        before[offset : offset + len(payload)] = payload
        done = await self.submit(patch(sector, unit, offset, payload, key, dun))
        if done and known:
            self.model.write(sector, bytes(before), key, dun)
        else:
            self.model.forget(sector, unit)

    async def read(self, random, sector, length, unit, key, dun):
        bio, got = read_bio(sector, length, key, dun)
        if await self.submit(bio):
            wrong = self.model.mismatch(sector, bytes(got), key, dun)
            assert wrong is None, f"sector {wrong} reads wrong under {key}"

    async def flush(self, random, sector, length, unit, key, dun):
        await self.submit(FLUSH)

    async def change_tables(self, parts):
        while True:
            await trio.sleep(self.random.choice([0.001, 0.004]))
            async with self.changing:
                try:
                    await load_opened(self.device, self.table(parts), self.below)
                except StackError as error:
                    if not is_too_early(error):
                        raise
                if self.random.random() < 0.5:
                    await self.device.suspend()
                    await trio.sleep(self.random.choice([0.0, 0.003]))
                await self.device.resume()

    async def take_snapshots(self):
        """Of a thin device: a copy of the model, which goes its own ways."""
        thin = [piece for piece in self.pieces if piece.kind == "thin"]
        for number in range(1000, 1000 + SNAPSHOTS if thin else 1000):
            await trio.sleep(self.random.choice([0.001, 0.01]))
            piece = self.random.choice(thin)
            async with self.changing:
                await self.device.suspend()
                await wait_all_tasks_blocked()  # What is over has been told to the model.
                copy = self.model.part(piece.start, piece.count)
                await self.pool.message(0, ["create_snap", str(number), str(piece.start)])
                await self.device.resume()
            snap = MappedDevice(f"snap{number}")
            await load_opened(snap, f"0 {piece.count} thin pool {number}", self.below)
            await snap.resume()
            self.snapshots[snap] = copy
            text = self.random.randbytes(512)
            await submit(snap, [write_bio(0, text)])
            copy.write(0, text)
            if self.random.random() < 0.3:
                await self.check_snapshot(snap)
                await snap.end()
                del self.snapshots[snap]
                await self.pool.message(0, ["delete", str(number)])

    async def check_snapshot(self, snap):
        assert (
            self.snapshots[snap].mismatch(0, await read(snap, 0, snap.sector_count * 512)) is None
        )

    async def change_engines(self):
        """Engines come and go, of every kind; nobody waits for the last bio on one."""
        while True:
            await trio.sleep(self.random.choice([0.001, 0.004]))
            disk = self.random.choice(self.disks)
            slots = self.random.choice([None, None, 0, 1, 3])
            units = self.random.choice([(512,), (4096,), (512, 4096)])
            engine = make_disk(slots=slots, units=units).engine
            disk.prepare_engine(engine, KEYS)
            disk.swap_engine(engine)

    async def main(self):
        parts = self.layout()
        own = await make_disks(self.pieces, self.random)
        self.pool, *pool_disks = await make_pool(self.pieces) or [None]
        self.below = [*self.disks, self.spare, *own, *([self.pool] if self.pool else [])]
        self.device = MappedDevice("dm0")
        await load_opened(self.device, self.table(parts, is_new=True), self.below)
        await self.device.resume()
        await trio.sleep(self.random.choice([0.0, 1, 1]))  # New arrays are made alike, or not yet.
        self.top = self.device
        if self.random.random() < 0.5:
            self.top = await make_mapped(f"0 {SIZE} linear dm0 0", self.device, name="top")
        for key in KEYS:
            start_using_key(self.top, key)
        async with trio.open_nursery() as changing:
            changing.start_soon(self.change_tables, parts)
            changing.start_soon(self.take_snapshots)
            if self.random.random() < 0.7:
                changing.start_soon(self.change_engines)
            async with trio.open_nursery() as nursery:
                for index in range(TASKS):
                    nursery.start_soon(self.task, index)
            changing.cancel_scope.cancel()
        await load_opened(self.device, self.table(parts, is_new=True), self.below)
        await self.device.resume()
        await self.check_all()
        await assert_members_agree(self.device)
        for snap in self.snapshots:
            await self.check_snapshot(snap)
            await snap.end()
        if self.top is not self.device:
            await self.top.end()
        await self.device.end()
        assert_nothing_is_held(self.top, self.device, *self.disks, *own, *pool_disks)

    async def check_all(self):
        for sector in range(0, SIZE, 8):
            bio, got = read_bio(sector, 4096)
            while not await self.submit(bio):
                pass
            assert self.model.mismatch(sector, bytes(got)) is None


@pytest.mark.parametrize("number", range(RUNS))
def test_a_random_stack_under_load_is_a_flat_array(number):
    seed = (FIRST_SEED + number) % (1 << 32)
    print(f"SEED: FUSEDM_SIM_SEED={seed} FUSEDM_SIM_N=1")
    run = Run(seed)
    trio.run(run.main, clock=MockClock(autojump_threshold=0))


def test_the_simulation_notices_a_wrong_sector():
    async def main():
        disk = make_disk("d0", SIZE)
        model = FlatModel(SIZE)
        device = await make_mapped(f"0 {SIZE} linear d0 0", disk, keys=KEYS)
        await submit(device, [write_bio(0, b"x" * 4096, KEYS[3], 5)])
        model.write(0, b"x" * 4096, KEYS[3], 5)
        assert model.mismatch(0, await read(device, 0, 4096, KEYS[3], 5), KEYS[3], 5) is None
        await submit(device, [Bio.write(3, memoryview(b"y" * 512))])
        assert model.mismatch(0, await read(device, 0, 4096, KEYS[3], 5), KEYS[3], 5) == 0
        assert model.mismatch(0, await read(device, 0, 4096)) == 3
        model.forget(3, 512)
        assert model.mismatch(0, await read(device, 0, 4096)) is None

    trio.run(main)
