"""The power is cut at each write of a mirror's life: nothing is lost that was durable.

What test_mirrors.py tries at random, here with all that caches may keep of a short story.
"""

from collections.abc import Sequence

import pytest
import trio

from fusedm.block import FLUSH, FUA, Bio
from fusedm.crypto import submit_bio
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, format_status, parse_table
from fusedm.dm.mirror.log import RegionLog
from tests.helpers.builders import medium, pattern, read
from tests.helpers.devices import lookup_in
from tests.helpers.power import SEEDS, Power, PoweredStore, Versions, cut_at_each_write, disks_of

SECTORS, REGION, LEGS = 24, 4, 2
#: Seconds until all is copied, and marked clean.
PAUSE = 5


class Story:
    """Legs that hold something else each, and an empty log."""

    def __init__(self, power: Power) -> None:
        self.power = power
        contents = [bytes(pattern(SECTORS * 512, n)) for n in range(LEGS)]
        self.stores = {
            f"d{n}": PoweredStore(SECTORS * 512, power, data) for n, data in enumerate(contents)
        }
        self.stores["lg"] = PoweredStore(SECTORS * 512, power)
        # The first is copied to the others.
        self.versions = Versions(power, SECTORS, contents[0])

    async def begin(self, disks: Sequence[Disk]) -> MappedDevice:
        text = f"0 {SECTORS} mirror disk 2 lg {REGION} {LEGS} d0 0 d1 0"
        device = MappedDevice("dm0")
        device.load(parse_table(text, lookup_in(*disks), trio.current_time))
        await device.resume()
        return device

    async def write(self, device: MappedDevice, sector: int, count: int, flags: int = 0) -> None:
        data = bytes(pattern(count * 512, sector + flags))
        self.versions.write(sector, data)
        await submit_bio(device, Bio.write(sector, memoryview(data), flags=flags))
        if flags & FUA:
            self.versions.durable(sector, count)

    async def live(self) -> None:
        device = await self.begin(disks_of(self.stores))
        await self.write(device, 2, 5)
        await trio.sleep(PAUSE)
        await self.write(device, 3, 4)
        await trio.sleep(PAUSE)
        await self.write(device, 13, 3, FUA)
        await self.write(device, 14, 6)
        await submit_bio(device, FLUSH)
        self.versions.durable()
        await self.write(device, 2, 2)
        await device.end()

    async def check(self, disks: Sequence[Disk]) -> None:
        """It comes up, holds what it may, and in the end the legs are alike."""
        device = await self.begin(disks)
        found = await read(device, 0, SECTORS * 512)
        self.versions.check(found)
        await trio.sleep(PAUSE)
        assert await read(device, 0, SECTORS * 512) == found
        count = SECTORS // REGION
        assert f" {count}/{count} 1 {'A' * LEGS} " in format_status(device.live)
        assert [medium(disk) for disk in disks[:LEGS]] == [found] * LEGS
        await device.end()


def test_a_mirror_comes_up_with_all_that_was_durable() -> None:
    cut_at_each_write(Story, SEEDS)


def test_a_region_that_is_not_marked_in_time_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def mark(self, regions):
        yield from ()

    monkeypatch.setattr(RegionLog, "mark", mark)
    with pytest.raises(AssertionError):
        cut_at_each_write(Story)
