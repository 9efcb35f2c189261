"""Snapshots and merges whose disks lose power together, at every write and flush."""

from itertools import count
from math import inf
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, FUA, Bio
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.stores import MemoryStore, VolatileCacheStore
from tests.helpers.builders import make_disk, medium, read, write
from tests.helpers.snapshot_stack import NEW, OLD, SECTORS, Stack


class Power:
    """How many calls are left until it is gone."""

    left = inf

    def use(self) -> None:
        if self.left <= 0:
            raise OSError(5, "no power")
        self.left -= 1


class PoweredStore(VolatileCacheStore):
    """A disk with a cache that is lost."""

    def __init__(self, sectors: int, seed: int, power: Power) -> None:
        super().__init__(MemoryStore(sectors * 512), seed)
        self.power = power

    def pwrite(self, offset, data, durably=False):
        self.power.use()
        super().pwrite(offset, data, durably)

    def flush(self):
        self.power.use()
        super().flush()


class PoweredStack(Stack):
    """An origin and its snapshot, both on such disks."""

    def __init__(self, seed: int, chunk: int) -> None:
        self.power = Power()
        # Dice of its own for each, or both would lose alike.
        stores = [PoweredStore(size, seed + size, self.power) for size in (SECTORS, 600)]
        base, cow = make_disk("base", store=stores[0]), make_disk("cow", store=stores[1])
        super().__init__(chunk=chunk, origin=base, cow=cow)

    async def lose_power(self) -> Stack:
        """The same stack once there is power again, with nothing opened."""
        self.power.left = 0
        await self.close()
        for disk in (self.base, self.cow):
            disk.store.lose_power("random")
        self.power.left = inf
        again = Stack(origin=self.base, cow=self.cow)
        again.words = self.words
        return again


async def change(stack: Stack, name: str, sector: int, data: bytes, want: bytearray) -> bool:
    """Write durably, if there is power."""
    try:
        await submit_bio(getattr(stack, name), Bio.write(sector, memoryview(data), flags=FUA))
    except BlockIOError:
        return False
    want[sector * 512 : sector * 512 + len(data)] = data
    return True


@pytest.mark.parametrize("name", ["origin", "snap"])
@pytest.mark.parametrize("seed", range(2))
async def test_chunks_that_are_told_of_together_survive_a_power_cut_at_any_write(name, seed):
    for cut in count():
        random = Random(seed)
        stack = await PoweredStack(seed, random.choice([1, 4])).make()
        for device in (stack.base, stack.cow):
            await submit_bio(device, FLUSH)
        want, unsure = bytearray(OLD), set()

        async def work(own: int, random=random, stack=stack, want=want, unsure=unsure) -> None:
            for _ in range(3):
                sector, length = own * 24 + random.randrange(16), random.randint(1, 8)
                data = random.randbytes(512 * length)
                if not await change(stack, name, sector, data, want):
                    unsure.update(range(sector, sector + length))

        stack.power.left = cut
        async with trio.open_nursery() as nursery:
            for own in range(5):
                nursery.start_soon(work, own)
        is_over = stack.power.left > 0
        again = await stack.lose_power()
        await again.open()
        found = {"origin": medium(stack.base), "snap": await read(again.snap, 0, SECTORS * 512)}
        for sector in set(range(SECTORS)) - unsure:
            at = slice(sector * 512, sector * 512 + 512)
            assert found[name][at] == want[at], (cut, sector)
        if name == "origin":
            assert found["snap"] == OLD, cut
        await again.close()
        if is_over:
            return


@pytest.mark.parametrize("seed", range(3))
async def test_a_merge_survives_a_power_cut_at_any_write(seed):
    for cut in count():
        random = Random(seed)
        stack = await PoweredStack(seed, random.choice([1, 4, 8])).make()
        for _ in range(12):
            sector = random.randrange(SECTORS - 8)
            await write(stack.snap, sector, random.randbytes(512 * random.randint(1, 8)))
        for device in (stack.base, stack.cow):
            await submit_bio(device, FLUSH)
        want = bytearray(await read(stack.snap, 0, SECTORS * 512))
        await stack.origin.suspend()
        await stack.snap.suspend()
        stack.power.left = cut
        merge = f"snapshot-merge {stack.words}"
        await stack.load(stack.origin, merge)
        unsure = range(0)
        for _ in range(6):
            sector, length = random.randrange(SECTORS - 8), random.randint(1, 8)
            if not await change(stack, "origin", sector, NEW[: length * 512], want):
                unsure = range(sector, sector + length)
                break
        await wait_all_tasks_blocked()
        is_over = stack.power.left > 0
        again = await stack.lose_power()
        await again.load(again.origin, merge)
        await wait_all_tasks_blocked()
        found = medium(stack.base)
        for sector in set(range(SECTORS)) - {*unsure}:
            at = slice(sector * 512, sector * 512 + 512)
            assert found[at] == want[at], (cut, sector)
        assert not again.origin.live.entries[0].target.copy.store.chunks
        await again.close()
        if is_over:
            return
