"""The power is cut at each write of a pool's life: nothing is lost that was durable.

What test_faults.py of thin tries at random, here with all that caches may keep of a short story.
"""

from collections.abc import Sequence
from errno import ENODATA
from pathlib import Path

import pytest

from fusedm.block import FLUSH, FUA, Bio, Op
from fusedm.block.errors import FusedmError
from fusedm.crypto import submit_bio
from fusedm.disk import Disk
from fusedm.dm import MappedDevice
from tests.helpers.builders import medium, pattern, read, write
from tests.helpers.power import SEEDS, Power, PoweredStore, Versions, cut_at_each_write, disks_of
from tests.helpers.thin_metadata import Tools
from tests.helpers.thin_stack import BLOCK, METADATA_SECTORS, Stack

BLOCKS, SIZE = 12, 2 * BLOCK

#: Of so many cuts what is left of one is shown to thin_check, which takes long.
SHOWN = 8


class Story:
    """A new pool, a thin device of it, and a snapshot of that."""

    def __init__(self, power: Power, tools: Tools) -> None:
        self.power, self.tools = power, tools
        self.is_shown = power.left % SHOWN == 0
        sizes = {"meta": METADATA_SECTORS, "data": BLOCKS * BLOCK}
        self.stores = {n: PoweredStore(size * 512, power) for n, size in sizes.items()}
        #: Of each device that was asked for, and those of which it was told that they are there.
        self.versions: dict[int, Versions] = {}
        self.made: set[int] = set()

    async def write(self, thin: MappedDevice, sector: int, count: int, flags: int = 0) -> None:
        data = bytes(pattern(count * 512, sector + count + flags))
        versions = self.versions[int(thin.name[-1])]
        versions.write(sector, data)
        await submit_bio(thin, Bio.write(sector, memoryview(data), flags=flags))
        if flags & FUA:
            versions.durable(sector, count)

    async def flush(self, thin: MappedDevice) -> None:
        """All of the pool's devices are committed at once; data too, which are on one disk."""
        await submit_bio(thin, FLUSH)
        for versions in self.versions.values():
            versions.durable()

    async def new(self, stack: Stack, number: int, message: str) -> MappedDevice:
        """A device that a message makes."""
        await stack.say(message)
        if not self.power.is_off:
            self.made.add(number)
        return await stack.thin(number, SIZE, new=False)

    async def live(self) -> None:
        stack = await Stack(blocks=BLOCKS, **self.devices(disks_of(self.stores))).make()
        self.versions[0] = Versions(self.power, SIZE, bytes(SIZE * 512))
        thin = await self.new(stack, 0, "create_thin 0")
        await self.write(thin, 3, 9)
        await self.write(thin, BLOCK - 5, 12)
        await self.flush(thin)
        self.versions[1] = Versions(self.power, SIZE, await read(thin, 0, SIZE * 512))
        await thin.suspend()
        snap = await self.new(stack, 1, "create_snap 1 0")
        await thin.resume()
        await self.write(thin, 0, 4)
        await self.write(snap, BLOCK + 3, 5, FUA)
        await self.write(thin, 6, 2, FUA)
        self.versions[0].write(BLOCK, bytes(BLOCK * 512))
        await submit_bio(thin, Bio(Op.DISCARD, BLOCK, BLOCK))
        await self.flush(snap)
        await self.write(snap, 9, 1)
        await stack.end()

    def devices(self, disks: Sequence[Disk]) -> dict[str, Disk]:
        return dict(zip(("meta", "data"), disks, strict=True))

    async def check(self, disks: Sequence[Disk]) -> None:
        """Metadata are whole, devices hold what they may, and go on from there."""
        stack = await Stack(blocks=BLOCKS, **self.devices(disks)).make()
        assert stack.mode == "rw"
        assert "needs_check" not in stack.status
        for number, versions in self.versions.items():
            try:
                thin = await stack.thin(number, SIZE, new=False)
            except FusedmError as error:
                if error.errno != ENODATA or number in self.made:
                    raise
                continue
            versions.check(await read(thin, 0, SIZE * 512))
            await write(thin, 0, pattern(SIZE * 512, number))
        await submit_bio(stack.pool, FLUSH)
        for number in self.made:
            thin = stack.devices[f"thin{number}"]
            assert await read(thin, 0, SIZE * 512) == pattern(SIZE * 512, number)
        await stack.end()
        if self.is_shown:
            self.tools.check(medium(disks[0]))


def test_a_pool_comes_up_with_all_that_was_durable(tmp_path: Path) -> None:
    cut_at_each_write(lambda power: Story(power, Tools(tmp_path)), SEEDS)


@pytest.mark.parametrize("name", ["meta", "data"])
def test_what_is_not_flushed_before_a_commit_is_noticed(name: str, tmp_path: Path) -> None:
    def unflushed(power: Power) -> Story:
        story = Story(power, Tools(tmp_path))
        story.stores[name].flush = lambda: None
        return story

    with pytest.raises((AssertionError, FusedmError)):
        cut_at_each_write(unflushed)
