"""Seeded runs: arrays that lose power at any write, and a member before it, and come up again.

Every write of bitmap, superblock and data goes to a store with a volatile cache. At some operation
the power is lost: of what was not flushed any of the contents may have reached the medium, block by
block. Then an array is made of what is left. Nothing that was acknowledged as durable is lost, and
in the end all members agree. FUSEDM_SIM_N and FUSEDM_SIM_SEED are as in test_random_stacks.py.
"""

from collections.abc import Iterator
from errno import EIO
from random import Random

import pytest
import trio
from trio.testing import MockClock

from fusedm.block import FLUSH, FUA, Bio, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.crypto import submit_bio
from fusedm.disk import Disk
from fusedm.dm import MappedDevice
from fusedm.dm.raid.layouts import LAYOUTS
from fusedm.stores import MemoryStore, VolatileCacheStore
from tests.helpers.arrays import load, make_raid, said, target_of_device
from tests.helpers.builders import read
from tests.sim.test_random_stacks import FIRST_SEED, RUNS

#: Sectors of a member, of a region, and of what is written at once.
MEMBER, REGION, BLOCK = 512, 32, 8

#: Type, members, chunk.
KINDS = (
    *(("raid1", 2, 0), ("raid1", 3, 0), ("raid10", 2, 8), ("raid10", 3, 16), ("raid10", 4, 8)),
    *(("raid4", 3, 16), ("raid5_ls", 4, 8), ("raid6_zr", 5, 8), ("raid6_la_6", 6, 8)),
)


class Machine:
    """Disks with volatile caches, and a count of what is asked of them."""

    def __init__(self, random: Random, count: int) -> None:
        self.random = random
        self.operations = 0
        self.off_at: int | None = None
        self.lost_at: dict[str, int] = {}
        self.caches: dict[str, VolatileCacheStore] = {}
        for index in range(count):
            # Blocks of data as large as what is written at once, which is then never torn.
            for name, sectors, block in ((f"m{index}", 64, 512), (f"d{index}", MEMBER, 4096)):
                inner = MemoryStore(sectors * 512, block)
                self.caches[name] = VolatileCacheStore(inner, random.randrange(1 << 30))

    def disks(self, letter: str) -> list[Disk]:
        """The disks of a kind, of what the caches are over."""
        names = sorted(name for name in self.caches if name[0] == letter)
        return [Disk(name, Watched(self, name)) for name in names]

    def operate(self, name: str) -> None:
        """Something is asked of a disk."""
        self.operations += 1
        if self.off_at is not None and self.operations >= self.off_at:
            raise OSError(EIO, "the machine is off")
        if self.operations >= self.lost_at.get(name[1:], self.operations + 1):
            raise OSError(EIO, "lost")

    def lose_power(self) -> None:
        """What is in caches reaches the medium, or does not."""
        for cache in self.caches.values():
            cache.lose_power()
        self.off_at, self.lost_at = None, {}


class Watched:
    """A store whose calls a machine looks at."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine, self._name = machine, name
        self._store = machine.caches[name]

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def may_block(self, op: Op) -> bool:
        """As little as memory."""
        return False

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Watched."""
        self._machine.operate(self._name)
        self._store.pread_into(offset, buffer)

    def pwrite(self, offset: int, data: memoryview, durably: bool = False) -> None:
        """Watched."""
        self._machine.operate(self._name)
        self._store.pwrite(offset, data, durably)

    def flush(self) -> None:
        """Watched."""
        self._machine.operate(self._name)
        self._store.flush()


class Model:
    """What each block of the array may hold: what is durable, or anything written since."""

    def __init__(self, block_count: int) -> None:
        self.may_hold: list[list[bytes]] = [[bytes(BLOCK * 512)] for _ in range(block_count)]
        self._before_flush: list[int] = []

    def write(self, block: int, data: bytes) -> None:
        """It is written; whether it gets there is open."""
        self.may_hold[block].append(data)

    def durable(self, block: int) -> None:
        """What was written last is there to stay."""
        del self.may_hold[block][:-1]

    def settle(self, block: int, data: bytes) -> None:
        """It was read: that is what it holds now."""
        assert data in self.may_hold[block], f"block {block} holds what it cannot"
        self.may_hold[block] = [data]


class Run:
    """One seed."""

    def __init__(self, seed: int, kind: tuple[str, int, int]) -> None:
        self.random = Random(seed)
        self.kind, self.count, self.chunk = kind
        copies = {"raid10": 2, "raid1": self.count}.get(self.kind, 1)
        # Without a member, a power cut may harm more than is written: the write hole.
        self.has_parity = self.kind in LAYOUTS
        parities = LAYOUTS[self.kind].parities if self.has_parity else 0
        self.sectors = MEMBER * (self.count - parities) // copies
        self.machine = Machine(self.random, self.count)
        self.model = Model(self.sectors // BLOCK)

    async def assembled(self) -> MappedDevice:
        """The array of what the disks hold."""
        metas, datas = self.machine.disks("m"), self.machine.disks("d")
        options = {"region_sectors": REGION, "daemon_sleep_ms": 50}
        target = make_raid(self.kind, self.sectors, metas, datas, self.chunk, **options)
        device = MappedDevice("array")
        await load(device, target)
        return device

    async def writer(self, device: MappedDevice, blocks: range) -> None:
        """Write to blocks of its own, and have some of it made durable."""
        random = Random(self.random.random())
        written: set[int] = set()
        while True:
            block = random.choice(blocks)
            data = random.randbytes(BLOCK * 512)
            flags = FUA if random.random() < 0.2 else 0
            self.model.write(block, data)
            await submit_bio(device, Bio.write(block * BLOCK, memoryview(data), flags=flags))
            written.add(block)
            if flags:
                self.model.durable(block)
            if random.random() < 0.1:
                await submit_bio(device, FLUSH)
                for each in written:
                    self.model.durable(each)
                written.clear()
            await trio.sleep(random.choice([0.0, 0.001, 0.1]))

    async def until_power_is_lost(self) -> None:
        """Writers, until the machine goes off."""
        device = await self.assembled()
        blocks = len(self.model.may_hold)
        async with trio.open_nursery() as nursery:
            for begin in range(0, blocks, blocks // 4):
                nursery.start_soon(self.writer, device, range(begin, begin + blocks // 4))

    async def checked(self) -> None:
        """All that is durable is there, and in the end members agree."""
        device = await self.assembled()
        for block in range(len(self.model.may_hold)):
            data = await read(device, block * BLOCK, BLOCK * 512)
            self.model.settle(block, data)
        await trio.sleep(5)
        words = said(device)
        assert words[4] == "idle", words
        assert words[2] == "A" * self.count, words
        for block, held in enumerate(self.model.may_hold):
            assert [await read(device, block * BLOCK, BLOCK * 512)] == held
        await device.message(0, ["check"])
        await trio.sleep(5)
        assert target_of_device(device).actions.mismatches == 0
        await device.end()

    def life(self) -> Iterator[None]:
        """Several times: on, off, and looked at; but first it is made."""
        trio.run(self.checked, clock=MockClock(autojump_threshold=0))
        for _ in range(3):
            begin = self.machine.operations
            self.machine.off_at = begin + self.random.randrange(1, 400)
            if not self.has_parity and self.random.random() < 0.5:
                index = str(self.random.randrange(self.count))
                self.machine.lost_at[index] = begin + self.random.randrange(1, 200)
            try:
                trio.run(self.until_power_is_lost, clock=MockClock(autojump_threshold=0))
            except* (BlockIOError, StackError):
                pass
            self.machine.lose_power()
            trio.run(self.checked, clock=MockClock(autojump_threshold=0))
            yield


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
@pytest.mark.parametrize("number", range(RUNS))
def test_arrays_lose_nothing_with_the_power(kind: tuple[str, int, int], number: int) -> None:
    seed = (FIRST_SEED + number) % (1 << 32)
    print(f"SEED: FUSEDM_SIM_SEED={seed} FUSEDM_SIM_N=1")
    for _ in Run(seed, kind).life():
        pass
