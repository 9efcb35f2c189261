"""The power is cut at each write of short stories of arrays: nothing is lost that was durable.

FUSEDM_SIM_N is as in test_random_stacks.py: with more, more of what caches may keep is tried.
"""

from collections.abc import Iterator, Sequence
from functools import cache, partial

import pytest
import trio
from trio.testing import MockClock

from fusedm.block import FLUSH, FUA, Bio
from fusedm.block.errors import BlockIOError, StackError
from fusedm.crypto import submit_bio
from fusedm.disk import Disk
from fusedm.dm import MappedDevice
from fusedm.dm.raid.array import Array
from fusedm.dm.raid.layouts import LAYOUTS
from fusedm.dm.raid.superblock import parse
from fusedm.stores import MemoryStore
from tests.helpers.arrays import META_SECTORS, health, make_raid, started, target_of_device
from tests.helpers.builders import medium, pattern, read, write
from tests.helpers.power import SEEDS, Power, PoweredStore, Versions, cut_at_each_write, disks_of

#: Sectors of a member and of a region; seconds until bits have been cleared, and all is done.
MEMBER, REGION, PAUSE = 64, 32, 1.7

#: Type, members, chunk.
Kind = tuple[str, int, int]
ARRAYS: tuple[Kind, ...] = (("raid1", 2, 0), ("raid5_ls", 3, 16))
REBUILT: tuple[Kind, ...] = (("raid1", 2, 0),)
if SEEDS > 1:
    ARRAYS += (("raid6_zr", 4, 16), ("raid1", 3, 0), ("raid10", 3, 16))
    REBUILT += (("raid10", 3, 16),)


def every(kinds: Sequence[Kind]) -> pytest.MarkDecorator:
    """A test for each of some kinds."""
    return pytest.mark.parametrize("kind", kinds, ids=["-".join(map(str, each)) for each in kinds])


def sectors_of(kind: Kind) -> int:
    """The size of an array."""
    name, count, _ = kind
    if name in LAYOUTS:
        return MEMBER * (count - LAYOUTS[name].parities)
    return MEMBER if name == "raid1" else MEMBER * count // 2


async def start(kind: Kind, disks: Sequence[Disk], **options: object) -> MappedDevice:
    """Make a device of metadata and data disks, in turn."""
    name, _, chunk = kind
    words = {"region_sectors": REGION, "daemon_sleep_ms": 800, **options}
    return await started(make_raid(name, sectors_of(kind), disks[::2], disks[1::2], chunk, **words))


def names_of(kind: Kind) -> dict[str, int]:
    """The disks of an array and their sizes in sectors."""
    return {f"{letter}{n}": size for n in range(kind[1]) for letter, size in SIZES}


SIZES = (("m", META_SECTORS), ("d", MEMBER))


@cache
def whole(kind: Kind) -> dict[str, bytes]:
    """What is on the disks of an array that holds pattern(), where all is done."""
    stores = {name: MemoryStore(size * 512) for name, size in names_of(kind).items()}
    disks = disks_of(stores)

    async def main() -> None:
        device = await start(kind, disks)
        await write(device, 0, pattern(sectors_of(kind) * 512))
        await trio.sleep(PAUSE)
        assert health(device) == "A" * kind[1]
        await device.end()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return {disk.name: medium(disk) for disk in disks}


class Story:
    """An array in which all is done, and is used."""

    def __init__(self, kind: Kind, power: Power) -> None:
        self.kind, self.power = kind, power
        initial = self.initial()
        self.stores = {
            name: PoweredStore(size * 512, power, initial.get(name, b""))
            for name, size in names_of(kind).items()
        }
        self.versions = Versions(power, sectors_of(kind), *self.contents())

    def initial(self) -> dict[str, bytes]:
        """What is on the disks before."""
        return whole(self.kind)

    def contents(self) -> list[bytes]:
        """What may be in the array before."""
        return [bytes(pattern(sectors_of(self.kind) * 512))]

    async def begin(self, disks: Sequence[Disk]) -> MappedDevice:
        """Have the array come up, the first time and again."""
        return await start(self.kind, disks)

    async def write(self, sector: int, count: int, seed: int, flags: int = 0) -> None:
        data = bytes(pattern(count * 512, seed))
        self.versions.write(sector, data)
        await submit_bio(self.device, Bio.write(sector, memoryview(data), flags=flags))
        if flags & FUA:
            self.versions.durable(sector, count)

    async def flush(self) -> None:
        await submit_bio(self.device, FLUSH)
        self.versions.durable()

    async def live(self) -> None:
        self.device = await self.begin(disks_of(self.stores))
        await self.write(3, 9, 1)
        await trio.sleep(PAUSE)
        await self.write(24, 17, 2)
        await self.flush()
        await self.write(30, 5, 3, FUA)
        await self.write(3, 4, 4)
        await self.device.end()

    async def check(self, disks: Sequence[Disk]) -> None:
        """All comes up, holds what it may, and in the end members agree."""
        size = sectors_of(self.kind) * 512
        device = await self.begin(disks)
        found = await read(device, 0, size)
        self.versions.check(found)
        await trio.sleep(PAUSE)
        assert health(device) == "A" * self.kind[1]
        assert await read(device, 0, size) == found
        await device.message(0, ["check"])
        await trio.sleep(PAUSE)
        assert target_of_device(device).actions.mismatches == 0
        await device.end()


@every(ARRAYS)
def test_an_array_in_use_comes_up_with_all_that_was_durable(kind: Kind) -> None:
    cut_at_each_write(partial(Story, kind), SEEDS)


class Rebuilt(Story):
    """The first member is another one than before, and is rebuilt."""

    def initial(self) -> dict[str, bytes]:
        return {name: data for name, data in whole(self.kind).items() if name not in ("m0", "d0")}

    async def begin(self, disks: Sequence[Disk]) -> MappedDevice:
        """What has never been told that it is a member has to be named once more."""
        is_new = self.power.is_off is False or parse(medium(disks[0])) is None
        return await start(self.kind, disks, rebuild=frozenset({0} if is_new else ()))


@every(REBUILT)
def test_an_array_whose_member_is_being_rebuilt_comes_up_too(kind: Kind) -> None:
    cut_at_each_write(partial(Rebuilt, kind), SEEDS)


class Degraded(Story):
    """A member fails on the way, and is back when there is power again."""

    async def live(self) -> None:
        self.device = await self.begin(disks_of(self.stores))
        await self.write(3, 9, 1)
        self.stores["d0"].is_lost = True  # That which others would be made alike from.
        await self.write(24, 17, 2)
        await self.flush()
        await trio.sleep(PAUSE)
        await self.write(4, 5, 3, FUA)
        await self.device.end()


@every(REBUILT)
def test_a_member_that_failed_before_is_not_taken_for_good(kind: Kind) -> None:
    cut_at_each_write(partial(Degraded, kind), SEEDS)


class Made(Story):
    """A new array of disks that hold something else each, or nothing where there is parity."""

    refusals = 0

    def initial(self) -> dict[str, bytes]:
        return {f"d{n}": bytes(pattern(MEMBER * 512, n)) for n in range(self.kind[1])}

    def contents(self) -> list[bytes]:
        return list(self.initial().values())

    async def live(self) -> None:
        self.device = await self.begin(disks_of(self.stores))
        await trio.sleep(PAUSE)
        await self.device.end()

    async def check(self, disks: Sequence[Disk]) -> None:
        """As in the kernel, it is refused if some superblocks were written, and some not."""
        superblocks = [parse(medium(disk)) for disk in disks[::2]]
        if None in superblocks and superblocks.count(None) < len(superblocks):
            with pytest.raises(StackError, match="no superblock, and there is no rebuild"):
                await self.begin(disks)
            for disk in disks[::2]:
                await write(disk, 0, bytes(512))
            type(self).refusals += 1
        await super().check(disks)


def test_an_array_that_is_being_made_comes_up_or_can_be_made_anew() -> None:
    cut_at_each_write(partial(Made, ARRAYS[0]), SEEDS)
    assert Made.refusals


def nothing(*_: object) -> Iterator[None]:
    """Steps, none."""
    yield from ()


def test_a_failure_that_is_not_written_down_in_time_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: Array, errors: dict[int, BlockIOError]) -> Iterator[None]:
        self._give_up({index for index in errors if self.members[index].writable}, errors)
        yield from ()

    whole(ARRAYS[0])
    monkeypatch.setattr(Array, "fail", fail)
    with pytest.raises(AssertionError):
        cut_at_each_write(partial(Degraded, ARRAYS[0]))


@pytest.mark.parametrize("is_lost", ["bits", "flushes"])
def test_it_is_noticed_what_is_not_written_in_time(
    is_lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(ARRAYS[0])
    if is_lost == "bits":
        monkeypatch.setattr(Array, "begin_write", nothing)
        monkeypatch.setattr(Array, "end_write", lambda *_: None)
    else:
        monkeypatch.setattr(Array, "flush_members", nothing)
    with pytest.raises(AssertionError):
        cut_at_each_write(partial(Story, ARRAYS[0]))
