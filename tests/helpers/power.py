"""Power that is cut at each write of a short story, with all that volatile caches may keep of it.

The write at which it is cut may have reached the medium, or some blocks of it; of what one step
writes to several devices the first devices may have got it, or the last: see BACKWARDS.
"""

import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, Literal, Protocol

import pytest
import trio
from trio.testing import MockClock

from fusedm.block.errors import FusedmError
from fusedm.crypto import carry_out
from fusedm.disk import Disk
from fusedm.dm import scripts
from fusedm.stores import MemoryStore, VolatileCacheStore
from tests.helpers.builders import contents

#: How often caches are given another choice of what to keep: as there are more simulated runs.
SEEDS = max(1, int(os.environ.get("FUSEDM_SIM_N", "30")) // 30)

FORWARDS, BACKWARDS = False, True
Keep = Literal["nothing", "random", "everything"]


class Power:
    """It is there for so many changes of the stores on it."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    @property
    def is_off(self) -> bool:
        return self.left < 0

    def check(self) -> None:
        """Raises: OSError once it is off."""
        if self.is_off:
            raise OSError(errno.EIO, "the power is off")


class PoweredStore(VolatileCacheStore):
    """A medium with a cache on some power."""

    def __init__(self, size: int, power: Power, initial: bytes = b"") -> None:
        super().__init__(MemoryStore(size))
        self.power = power
        #: Whether its device has failed, and takes nothing any more.
        self.is_lost = False
        self.inner.pwrite(0, memoryview(initial))

    def _check(self) -> None:
        if self.is_lost:
            raise OSError(errno.EIO, "lost")
        self.power.check()

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        self._check()
        super().pread_into(offset, buffer)

    def pwrite(self, offset: int, data: memoryview, durably: bool = False) -> None:
        self._check()
        self.power.left -= 1
        super().pwrite(offset, data, durably and not self.power.is_off)
        self.power.check()

    def flush(self) -> None:
        self._check()
        self.power.left -= 1
        self.power.check()
        super().flush()

    def remains(self, keep: Keep, seed: str) -> MemoryStore:
        """A medium with what may be left on this one."""
        inner = MemoryStore(self.size)
        inner.pwrite(0, memoryview(contents(self.inner)))
        copy = VolatileCacheStore(inner, Random(seed).randrange(1 << 30))
        copy._dirty = dict(self._dirty)
        copy.lose_power(keep)
        return inner


class Story(Protocol):
    """What is done with some stores, and what has to be true of what is left of them."""

    power: Power
    stores: Mapping[str, PoweredStore]

    async def live(self) -> None:
        """Do it; what fails for want of power may be raised."""

    async def check(self, disks: Sequence[Disk]) -> None:
        """Look at the disks after the power was cut; may be called with others again."""


def disks_of(stores: Mapping[str, Any]) -> list[Disk]:
    """A disk of its name over each store."""
    return [Disk(name, store) for name, store in stores.items()]


def cut_at_each_write(make: Callable[[Power], Story], seeds: int = SEEDS, least: int = 10) -> None:
    """Tell a story with power for no write, for one, and so on until it is enough.

    After each caches have kept nothing, everything, and of each block something, seeds times; of
    what reaches the last device first only that.
    """
    for order in (FORWARDS, BACKWARDS):
        for changes in count():
            power = Power(changes)
            story = make(power)
            with steps_in_order(order):
                _run(_until_power_is_off, story)
            for keep, seed in _ways(order, seeds):
                # Each store has dice of its own, or those that hold the same would keep the same.
                left = {
                    name: store.remains(keep, f"{name} {changes} {seed}")
                    for name, store in story.stores.items()
                }
                _run(_check, story, disks_of(left), f"cut at {changes}, {keep} kept, {order=}")
            if not power.is_off:
                assert changes >= least, "a story has something to tell"
                break


def _ways(order: bool, seeds: int) -> Iterator[tuple[Keep, int]]:
    if order is FORWARDS:
        yield from (("nothing", 0), ("everything", 0))
    yield from (("random", seed) for seed in range(seeds))


def _run(work: Callable[..., Awaitable[None]], *arguments: object) -> None:
    trio.run(work, *arguments, clock=MockClock(autojump_threshold=0))


async def _until_power_is_off(story: Story) -> None:
    try:
        await story.live()
    except FusedmError:
        assert story.power.is_off


async def _check(story: Story, disks: Sequence[Disk], when: str) -> None:
    try:
        await story.check(disks)
    except BaseException as error:
        error.add_note(when)
        raise


@contextmanager
def steps_in_order(order: bool) -> Iterator[None]:
    """Have what is done for several devices at once reach the last first."""
    do_all = carry_out.do_all

    async def backwards(works, at_once):
        errors = await do_all(works[::-1], at_once)
        return errors[::-1]

    with pytest.MonkeyPatch.context() as patch:
        if order is BACKWARDS:
            patch.setattr(carry_out, "do_all", backwards)
            patch.setattr(scripts, "do_all", backwards)
        yield


class Versions:
    """What each sector of a device may hold: what is durable, or anything written since."""

    def __init__(self, power: Power, sector_count: int, *initial: bytes) -> None:
        self.power = power
        self.sectors: list[list[bytes]] = [
            [each[at * 512 : at * 512 + 512] for each in initial] for at in range(sector_count)
        ]

    def write(self, sector: int, data: bytes) -> None:
        """It is about to be written; whether it gets there is open."""
        for at in range(len(data) // 512):
            self.sectors[sector + at].append(data[at * 512 : at * 512 + 512])

    def durable(self, sector: int = 0, sector_count: int = 1 << 30) -> None:
        """What was written last is there to stay; but nobody hears of it once the power is off."""
        if self.power.is_off:
            return
        for versions in self.sectors[sector : sector + sector_count]:
            del versions[:-1]

    def check(self, found: bytes) -> None:
        """All of the device."""
        for sector, versions in enumerate(self.sectors):
            assert found[sector * 512 : sector * 512 + 512] in versions, f"sector {sector}"
