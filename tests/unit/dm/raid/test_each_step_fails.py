"""raid1 and raid10, of whose members one fails at each step of what they do, once or for good."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from fusedm.block import FLUSH, FUA, Bio, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.crypto import submit_bio
from fusedm.dm.raid.superblock import parse
from tests.helpers.arrays import disks, health, make_raid, started, store_of, target_of_device
from tests.helpers.builders import assert_nothing_is_held, medium, pattern, read
from tests.helpers.mirror_stack import run
from tests.helpers.model import FlatModel

#: Sectors of a member and of a region; seconds until bits have been cleared, and all is done.
MEMBER, REGION, PAUSE = 64, 32, 1.7

#: Type, members, chunk; and members of which one fails: the others are like them.
KINDS = ((("raid1", 2, 0), (0, 1)), (("raid10", 3, 16), (0, 1, 2)), (("raid10", 4, 16), (3,)))

#: The same while the first is rebuilt.
REBUILT = ((("raid1", 2, 0), (0, 1)), (("raid1", 3, 0), (1,)), (("raid10", 4, 16), (0, 1)))

#: More calls than anything here makes on one member.
MANY = 1000

each_way = pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])


class Case:
    """An array, what it should hold, and a member that fails from some call on it on, or at it."""

    def __init__(self, kind: tuple[str, int, int]) -> None:
        self.type, self.count, self.chunk = kind
        self.sectors = MEMBER if self.type == "raid1" else MEMBER * self.count // 2
        self.metas, self.datas = disks(self.count, MEMBER)
        self.model = FlatModel(self.sectors)
        self.calls_left = MANY
        self.may_fail = False

    async def start(self, **options: object) -> None:
        words = {"region_sectors": REGION, "daemon_sleep_ms": 800, **options}
        target = make_raid(self.type, self.sectors, self.metas, self.datas, self.chunk, **words)
        self.device = await started(target)

    def have_fail(self, index: int, step: int, for_good: bool) -> None:
        """Count calls on a member, on either of its devices."""
        self.calls_left = step

        def fails(op: Op, offset: int, length: int) -> bool:
            self.calls_left -= 1
            return self.calls_left < 0 if for_good else self.calls_left == -1

        for disk in (self.metas[index], self.datas[index]):
            store_of(disk).fails = fails

    def heal(self) -> bool:
        """Nothing fails any more; whether anything has."""
        for disk in (*self.metas, *self.datas):
            store_of(disk).fails = lambda op, offset, length: False
        return self.calls_left < 0

    async def write(self, sector: int, count: int, seed: int, flags: int = 0) -> None:
        data = bytes(pattern(count * 512, seed))
        try:
            await submit_bio(self.device, Bio.write(sector, memoryview(data), flags=flags))
        except BlockIOError:
            assert self.may_fail
            self.model.forget(sector, len(data))
        else:
            self.model.write(sector, data)

    async def check(self, sector: int, count: int) -> None:
        try:
            found = await read(self.device, sector, count * 512)
        except BlockIOError:
            assert self.may_fail
        else:
            assert self.model.mismatch(sector, found) is None

    async def flush(self) -> None:
        try:
            await submit_bio(self.device, FLUSH)
        except BlockIOError:
            assert self.may_fail

    async def used(self) -> None:
        """All that can be done with an array, a little of each."""
        await self.write(3, 9, 1)
        await self.flush()
        await self.check(0, self.sectors)
        await trio.sleep(PAUSE)
        await self.write(30, 5, 2, FUA)
        await self.device.message(0, ["check"])
        await trio.sleep(PAUSE)
        await self.device.suspend()
        await self.device.resume()
        await self.write(50, 14, 3)
        await trio.sleep(PAUSE)
        await self.check(0, self.sectors)

    async def ends_whole(self) -> None:
        """Once all members work again, all is there, and in the end they agree."""
        await self.device.end()
        # What has never been told that it is a member has to be named once more.
        new = frozenset(n for n, meta in enumerate(self.metas) if parse(medium(meta)) is None)
        await self.start(rebuild=new)
        self.may_fail = False
        await self.check(0, self.sectors)
        await trio.sleep(PAUSE)
        assert health(self.device) == "A" * self.count
        await self.check(0, self.sectors)
        await self.device.message(0, ["check"])
        await trio.sleep(PAUSE)
        assert target_of_device(self.device).actions.mismatches == 0
        await self.device.end()
        assert_nothing_is_held(self.device, *self.metas, *self.datas)


async def at_each_step(
    kind: tuple[str, int, int],
    index: int,
    for_good: bool,
    prepare: Callable[[Case], Awaitable[None]],
    do: Callable[[Case], Awaitable[None]],
) -> None:
    """Do the same with new arrays until nothing has failed, each time a call later."""
    for step in range(MANY):
        case = Case(kind)
        await prepare(case)
        case.have_fail(index, step, for_good)
        await do(case)
        if not case.heal():
            assert step > 10
            return
        await case.ends_whole()
    raise AssertionError(f"more than {MANY} calls on one member")


async def whole(case: Case) -> None:
    """An array whose members agree, not all of it zeros."""
    await case.start(nosync=True)
    await case.write(0, case.sectors, 9)
    await trio.sleep(PAUSE)
    assert health(case.device) == "A" * case.count


async def with_a_new_member(case: Case) -> None:
    """The first member is another one than before."""
    await whole(case)
    await case.device.end()
    (case.metas[0],), (case.datas[0],) = disks(1, MEMBER)


async def rebuilt(case: Case) -> None:
    """It is rebuilt while the array is in use; without it and another, data may be missing."""
    case.may_fail = True
    try:
        await case.start(rebuild=frozenset({0}))
    except (StackError, BlockIOError):
        return
    await case.write(3, 9, 1)
    await case.flush()
    await trio.sleep(PAUSE)
    await case.write(30, 5, 2, FUA)
    await case.check(0, case.sectors)
    await trio.sleep(PAUSE)


def ids(value: object) -> str:
    """Of a kind: raid10-4-8."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


@each_way
@pytest.mark.parametrize(("kind", "indices"), KINDS, ids=ids)
def test_a_member_that_fails_at_any_step_is_not_noticed_above(kind, indices, for_good):
    async def main():
        for index in indices:
            await at_each_step(kind, index, for_good, whole, Case.used)

    run(main)


@each_way
@pytest.mark.parametrize(("kind", "indices"), REBUILT, ids=ids)
def test_a_member_that_fails_at_any_step_of_a_rebuild_loses_nothing(kind, indices, for_good):
    async def main():
        for index in indices:
            await at_each_step(kind, index, for_good, with_a_new_member, rebuilt)

    run(main)
