"""Mirrors whose power is cut, at every call on their log and anywhere else, and come up again.

What was flushed is there, of what was written since each sector holds some version; what is read
does not change when the legs are made the same, and then they are. Each task owns a stretch.
FUSEDM_SIM_N and FUSEDM_SIM_SEED are as in test_random_stacks.py.
"""

import errno
from random import Random

import pytest
import trio

from fusedm.block import FLUSH
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice, format_status, parse_table
from fusedm.dm.mirror.log import RegionLog
from fusedm.stores import MemoryStore, VolatileCacheStore
from tests.helpers.builders import contents, make_disk, pattern, read, read_bio, write_bio
from tests.helpers.devices import lookup_in
from tests.helpers.mirror_stack import run
from tests.sim.test_random_stacks import FIRST_SEED, RUNS

TASKS, STEPS, STRETCH = 3, 12, 21
SECTORS = TASKS * STRETCH
NAMES = ("d0", "d1", "d2", "lg")
#: More calls than any run makes on its log.
MOST_LOG_CALLS = 80


class Power:
    """It is cut at the n-th call that changes one of some stores, before or after its effect."""

    def __init__(self, names: tuple[str, ...], call: int, is_late: bool) -> None:
        self.names, self.left, self.is_late = names, call, is_late
        self.is_off = False

    def strikes(self, name: str) -> bool:
        if name in self.names:
            self.left -= 1
        return self.left == 0 and name in self.names


class CutStore(VolatileCacheStore):
    """A medium with a cache, on that power."""

    def __init__(self, name: str, power: Power, seed: int) -> None:
        # Dice of its own, or all legs would lose the same.
        super().__init__(MemoryStore(SECTORS * 512), seed + NAMES.index(name))
        self.name, self.power = name, power

    def _change(self, change) -> None:
        self._check()
        strikes = self.power.strikes(self.name)
        if not strikes or self.power.is_late:
            change()
        self.power.is_off |= strikes
        self._check()

    def _check(self) -> None:
        if self.power.is_off:
            raise OSError(errno.EIO, "the power is off")

    def pread_into(self, offset, buffer):
        self._check()
        super().pread_into(offset, buffer)

    def pwrite(self, offset, data, durably=False):
        self._change(lambda: VolatileCacheStore.pwrite(self, offset, data, durably))

    def flush(self):
        self._change(lambda: VolatileCacheStore.flush(self))


class Run:
    """A mirror until its power is cut, and what each sector may hold then."""

    def __init__(self, seed: int, power: Power) -> None:
        self.random, self.power = Random(seed), power
        self.legs = self.random.choice([2, 3])
        self.stores = {name: CutStore(name, power, seed) for name in NAMES}
        for index in range(3):
            self.stores[f"d{index}"].inner.pwrite(0, memoryview(pattern(SECTORS * 512, index)))
        text = contents(self.stores["d0"].inner)
        self.versions = [[text[at * 512 : at * 512 + 512]] for at in range(SECTORS)]

    async def bring_up(self, stores) -> MappedDevice:
        disks = [make_disk(name, store=store) for name, store in stores.items()]
        legs = " ".join(f"d{index} 0" for index in range(self.legs))
        text = f"0 {SECTORS} mirror disk 2 lg 4 {self.legs} {legs}"
        device = MappedDevice("dm0")
        device.load(parse_table(text, lookup_in(*disks), trio.current_time))
        await device.resume()
        return device

    async def task(self, index: int, device: MappedDevice) -> None:
        random = Random(self.random.random())
        own = range(index * STRETCH, (index + 1) * STRETCH)
        for _ in range(STEPS):
            await trio.sleep(random.choice([0.0, 0.1, 0.7, 1.5]))
            if random.random() < 0.3:
                before = [len(self.versions[sector]) for sector in own]
                await submit_bio(device, FLUSH)
                for sector, count in zip(own, before, strict=True):
                    del self.versions[sector][: count - 1]
                continue
            count = random.randint(1, 6)
            first = random.randint(own.start, own.stop - count)
            text = random.randbytes(count * 512)
            for at in range(count):
                self.versions[first + at].append(text[at * 512 : at * 512 + 512])
            await submit_bio(device, write_bio(first, text))
            bio, got = read_bio(first, len(text))
            await submit_bio(device, bio)
            assert got == text

    async def work(self) -> None:
        async def ignoring(work, *arguments):
            try:
                await work(*arguments)
            except BlockIOError:
                assert self.power.is_off

        device = await self.bring_up(self.stores)
        async with trio.open_nursery() as nursery:
            for index in range(TASKS):
                nursery.start_soon(ignoring, self.task, index, device)
        await trio.sleep(self.random.choice([0.0, 5.0]))
        await device.end()

    async def check(self) -> None:
        """Bring it up again, on what the media hold."""
        for store in self.stores.values():
            store.lose_power()
        media = {name: store.inner for name, store in self.stores.items()}
        device = await self.bring_up(media)
        found = await read(device, 0, SECTORS * 512)
        for sector, versions in enumerate(self.versions):
            assert found[sector * 512 : sector * 512 + 512] in versions, f"sector {sector}"
        await trio.sleep(5)
        assert await read(device, 0, SECTORS * 512) == found
        total = -(-SECTORS // 4)
        assert f" {total}/{total} 1 {'A' * self.legs} " in format_status(device.live)
        for index in range(self.legs):
            assert contents(media[f"d{index}"]) == found, f"leg {index}"
        await device.end()

    async def main(self) -> None:
        await self.work()
        await self.check()


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("call", range(1, MOST_LOG_CALLS))
def test_the_power_is_cut_at_each_call_on_the_log(call, is_late):
    run(Run(call, Power(("lg",), call, is_late)).main)


@pytest.mark.parametrize("number", range(RUNS))
def test_the_power_is_cut_anywhere(number):
    seed = (FIRST_SEED + number) % (1 << 32)
    print(f"SEED: FUSEDM_SIM_SEED={seed} FUSEDM_SIM_N=1")
    random = Random(seed)
    run(Run(seed, Power(NAMES, random.randint(1, 150), random.random() < 0.5)).main)


def test_the_log_is_called_less_often_than_is_tried():
    power = Power(("lg",), 1000, False)
    run(Run(1, power).main)
    assert 10 < 1000 - power.left < MOST_LOG_CALLS


def test_the_simulation_notices_a_mark_that_is_not_there(monkeypatch):
    def mark(self, regions):
        yield from ()

    monkeypatch.setattr(RegionLog, "mark", mark)

    def run_all():
        for seed in range(40):
            run(Run(seed, Power(("d1",), 30, False)).main)

    with pytest.raises(AssertionError, match="leg 1"):
        run_all()
