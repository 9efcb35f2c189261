"""Arrays on disks in memory that can be made to fail, in a few words."""

from collections.abc import Callable, Sequence
from errno import EIO
from typing import Self

import trio

from fusedm.block import Op
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, Table, TableEntry
from fusedm.dm.raid.array import Options
from fusedm.dm.raid.personality import Shape
from fusedm.dm.raid.superblock import Superblock, parse
from fusedm.dm.targets.raid import Raid
from fusedm.stores import MemoryStore
from tests.helpers.builders import make_disk, medium

#: A metadata device, in sectors.
META_SECTORS = 64


class FailingStore(MemoryStore):
    """A store whose calls fail while they are told to; it counts writes and keeps them."""

    def __init__(self, size: int, block: int = 512) -> None:
        super().__init__(size, block)
        self.fails: Callable[[Op, int, int], bool] = lambda op, offset, length: False
        self.on_write: Callable[[int, bytes], None] = lambda offset, data: None
        self.is_slow = False

    def may_block(self, op: Op) -> bool:
        return self.is_slow

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        self._check(Op.READ, offset, len(buffer))
        super().pread_into(offset, buffer)

    def pwrite(self, offset: int, data: memoryview, **more: object) -> None:
        self._check(Op.WRITE, offset, len(data))
        self.on_write(offset, bytes(data))
        super().pwrite(offset, data)

    def flush(self) -> None:
        self._check(Op.FLUSH, 0, 0)
        super().flush()

    def _check(self, op: Op, offset: int, length: int) -> None:
        if self.fails(op, offset, length):
            raise OSError(EIO, "told to fail")


def disks(count: int, sectors: int) -> tuple[list[Disk], list[Disk]]:
    """Metadata and data disks of an array."""
    metas = [make_disk(f"m{n}", store=FailingStore(META_SECTORS * 512)) for n in range(count)]
    datas = [make_disk(f"d{n}", store=FailingStore(sectors * 512)) for n in range(count)]
    return metas, datas


def make_raid(
    kind: str,
    sectors: int,
    metas: Sequence[Disk | None],
    datas: Sequence[Disk | None],
    chunk: int = 0,
    copies: int = 2,
    clock: Callable[[], float] = trio.current_time,
    **options: object,
) -> Raid:
    """The target of an array."""
    shape = Shape(kind, len(datas), chunk, sectors, copies)
    pairs = tuple(zip(metas, datas, strict=True))
    mostly = options.pop("write_mostly", frozenset())
    words = {"daemon_sleep_ms": 5000, **options}
    return Raid(sectors, shape, pairs, Options(**words), mostly, (), clock)


async def load(device: MappedDevice, target: Raid) -> None:
    """Make a target a device's live table."""
    device.load(Table([TableEntry(0, target.sector_count, target)]))
    await device.resume()


async def started(target: Raid, name: str = "array") -> MappedDevice:
    """A device whose live table is one target."""
    device = MappedDevice(name)
    await load(device, target)
    return device


def superblock(disk: Disk) -> Superblock:
    """What a metadata disk holds."""
    found = parse(medium(disk, 0, 512))
    assert found is not None, f"{disk.name} has no superblock"
    return found


def bits(disk: Disk) -> bytes:
    """The first bits of a bitmap."""
    return medium(disk, 8, 512)[256:]


def failing(*ops: Op) -> Callable[[Op, int, int], bool]:
    """Fail some operations."""
    return lambda op, offset, length: op in ops


EVERYTHING = failing(Op.READ, Op.WRITE, Op.FLUSH)


def health(device: MappedDevice) -> str:
    """What its status says of members."""
    return said(device)[2]


def said(device: MappedDevice) -> list[str]:
    """Its status, word by word."""
    return [str(word) for word in target_of_device(device).status()]


def target_of_device(device: MappedDevice) -> Raid:
    """The array that a device is."""
    assert device.live is not None, "it has been started"
    target = device.live.entries[0].target
    assert isinstance(target, Raid), "it is an array"
    return target


async def until_idle(device: MappedDevice, seconds: float) -> None:
    """Look every so many seconds, until nothing is done in the background."""
    for _ in range(1 << 16):
        if said(device)[4] == "idle":
            return
        await trio.sleep(seconds)
    raise AssertionError(f"it is never idle: {said(device)}")


#: Of each member of a Mirror.
MIRROR_SECTORS = 2048


class Mirror:
    """A raid1 of two, or more, its disks, and its device; order has the writes to the first."""

    def __init__(self, count: int = 2) -> None:
        self.metas, self.datas = disks(count, MIRROR_SECTORS)
        self.order: list[tuple[str, int]] = []
        for disk in (self.metas[0], self.datas[0]):
            self._watch(disk)

    def _watch(self, disk: Disk) -> None:
        name = disk.name
        store_of(disk).on_write = lambda offset, data: self.order.append((name, offset))

    def target(self, **options: object) -> Raid:
        """Its target, not yet loaded."""
        words = {"region_sectors": 64, **options}
        return make_raid("raid1", MIRROR_SECTORS, self.metas, self.datas, **words)

    async def start(self, **options: object) -> Self:
        """Make a device of it."""
        self.device = await started(self.target(**options))
        return self

    async def restart(self, **options: object) -> Self:
        """End the device, and make another one."""
        await self.device.end()
        return await self.start(**options)

    async def settle(self) -> Self:
        """Let everything come to rest."""
        await trio.sleep(60)
        return self

    def bits(self) -> bytes:
        """What is in its bitmap."""
        return bits(self.metas[0])

    def alike(self) -> bool:
        """Whether the first two hold the same."""
        return medium(self.datas[0]) == medium(self.datas[1])


async def synced(count: int = 2, **options: object) -> Mirror:
    """One whose members agree, whose bits are clear."""
    mirror = await Mirror(count).start(nosync=True, **options)
    return await mirror.settle()


def store_of(disk: Disk) -> FailingStore:
    """Its store, which can be made to fail."""
    assert isinstance(disk.store, FailingStore), "it was made with one"
    return disk.store
