"""A pool over two disks in memory, and thin devices of it, for tests."""

from collections.abc import Awaitable

import pytest

from fusedm.block import BlockDevice
from fusedm.block.errors import FusedmError
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, format_status, format_table, open_targets, parse_table
from fusedm.dm.thin.pool import Pool
from fusedm.dm.thin.pool_target import live_pool
from tests.helpers.builders import make_disk
from tests.helpers.devices import lookup_in

BLOCK = 128
BLOCK_BYTES = BLOCK * 512
METADATA_SECTORS = 2048


class Stack:
    """Devices by name: `meta`, `data`, the pool `pool`, and what thin makes."""

    def __init__(
        self,
        features: str = "",
        *,
        blocks: int = 16,
        low_water: int = 0,
        meta: Disk | None = None,
        data: Disk | None = None,
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self.meta = meta or make_disk("meta", METADATA_SECTORS)
        self.data = data or make_disk("data", blocks * BLOCK)
        self.features = features
        self.blocks = blocks
        self.low_water = low_water
        self.pool = MappedDevice("pool", strict=strict)
        self.devices: dict[str, BlockDevice] = {
            "meta": self.meta,
            "data": self.data,
            "pool": self.pool,
        }

    @property
    def line(self) -> str:
        """The pool's table."""
        words = f" {len(self.features.split())} {self.features}" if self.features else ""
        return f"0 {self.blocks * BLOCK} thin-pool meta data {BLOCK} {self.low_water}{words}"

    @property
    def inside(self) -> Pool:
        """The pool itself."""
        pool = live_pool(self.pool)
        assert pool is not None
        return pool

    async def load(self, mapped: MappedDevice, text: str) -> None:
        """Load a table as the device mapper does, and make it live."""
        await self.only_load(mapped, text)
        await mapped.resume()

    async def only_load(self, mapped: MappedDevice, text: str) -> None:
        """Load a table."""
        table = parse_table(text, lookup_in(*self.devices.values()), lambda: 0.0)
        await open_targets(table, mapped)
        mapped.load(table)

    async def make(self) -> "Stack":
        """Have the pool live."""
        await self.load(self.pool, self.line)
        return self

    async def thin(
        self, number: int, sectors: int = 8 * BLOCK, origin: str = "", *, new: bool = True
    ) -> MappedDevice:
        """A thin device `thinN`, created first unless it is there."""
        if new:
            await self.say(f"create_thin {number}")
        mapped = MappedDevice(f"thin{number}", strict=self.strict)
        self.devices[mapped.name] = mapped
        await self.load(mapped, f"0 {sectors} thin pool {number} {origin}".rstrip())
        return mapped

    async def say(self, message: str) -> str:
        """Give the pool a message."""
        return await self.pool.message(0, message.split())

    @property
    def status(self) -> str:
        """What the pool says of itself."""
        assert self.pool.live is not None
        return format_status(self.pool.live).split(" thin-pool ")[1]

    @property
    def table(self) -> str:
        """What its table is."""
        assert self.pool.live is not None
        return format_table(self.pool.live)

    @property
    def mode(self) -> str:
        """The mode in the pool's status."""
        words = self.status.split()
        return words[4] if len(words) > 4 else words[0]

    @property
    def used(self) -> int:
        """How many data blocks are in use."""
        return int(self.status.split()[2].split("/")[0])

    async def end(self) -> None:
        """Remove everything, those above first."""
        for mapped in reversed(
            [each for each in self.devices.values() if isinstance(each, MappedDevice)]
        ):
            await mapped.end()


def thin_status(mapped: MappedDevice) -> str:
    """What a thin device says of itself."""
    assert mapped.live is not None
    return format_status(mapped.live).split(" thin ")[1]


async def refused(number: int, work: Awaitable[object]) -> None:
    """What is awaited fails with an errno."""
    with pytest.raises(FusedmError) as caught:
        await work
    assert caught.value.errno == number, str(caught.value)
