"""What a mirror does when its log fails, or a leg when regions are to be marked clean."""

import pytest
import trio

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError
from fusedm.crypto import submit_bio
from tests.helpers.builders import read, write
from tests.helpers.mirror_stack import KEEP, WAIT, Stack, fails, mirror, run

NEW = b"n" * 512


def test_a_flush_of_a_leg_that_fails_before_regions_are_marked_clean_leaves_none_clean():
    async def main():
        stack = await mirror(KEEP, "disk 3 lg 8 nosync")
        await write(stack.device, 17, NEW)
        stack.stores["d1"].fail(Op.FLUSH)
        await trio.sleep(5)
        assert stack.status == "8/8 1 AF 3 disk lg A"
        assert stack.clean == "00000000"

    run(main)


@pytest.mark.parametrize(("op", "letter"), [(Op.WRITE, "D"), (Op.FLUSH, "F")])
def test_a_log_that_fails_is_told_and_without_features_the_write_goes_on(op, letter):
    async def main():
        stack = await mirror("", "disk 3 lg 8 nosync")
        stack.stores["lg"].fail(op)
        for _ in range(2):
            await write(stack.device, 17, NEW)
        assert stack.leg(0)[17 * 512 : 18 * 512] == stack.leg(1)[17 * 512 : 18 * 512] == NEW
        assert stack.status == f"8/8 1 AA 3 disk lg {letter}"
        assert stack.device.event_number == 1

    run(main)


@pytest.mark.parametrize("op", [Op.WRITE, Op.FLUSH])
def test_a_log_that_fails_fails_writes_with_keep_log(op):
    async def main():
        stack = await mirror(KEEP, "disk 3 lg 8 nosync")
        before = stack.leg(0)
        stack.stores["lg"].fail(op)
        assert await fails(write, stack.device, 17, NEW)
        assert await fails(write, stack.device, 40, NEW)
        assert await fails(submit_bio, stack.device, FLUSH)
        assert stack.leg(0) == stack.leg(1) == before
        assert await read(stack.device, 17, 512) == before[17 * 512 : 18 * 512]

    run(main)


def test_a_log_that_fails_also_fails_what_was_planned_before():
    async def main():
        stack = await mirror(KEEP, "disk 3 lg 8 nosync")
        planned = stack.target.map(Bio.write(17, memoryview(NEW)))
        stack.stores["lg"].fail(Op.WRITE)
        assert await fails(write, stack.device, 40, NEW)
        with pytest.raises(BlockIOError):
            next(planned.steps())

    run(main)


def test_a_log_that_fails_makes_writes_wait_with_handle_errors():
    async def main():
        stack = await mirror(WAIT, "disk 3 lg 8 nosync")
        stack.stores["lg"].fail(Op.WRITE)
        async with trio.open_nursery() as nursery:
            for sector in (17, 18):
                nursery.start_soon(write, stack.device, sector, NEW)
            await trio.sleep(10)
            nursery.start_soon(write, stack.device, 19, NEW)
            await trio.sleep(10)
            assert NEW not in (stack.leg(0)[at * 512 : at * 512 + 512] for at in (17, 18, 19))
            await stack.make("core 2 8 nosync 2 d0 0 d1 0")
        assert stack.leg(1)[17 * 512 : 20 * 512] == 3 * NEW

    run(main)


def test_a_log_that_cannot_be_read_makes_nothing_be_in_sync():
    async def main():
        stack = Stack("disk 2 lg 8")
        stack.stores["lg"].fail(Op.READ)
        await stack.make()
        assert stack.status == "0/8 1 AA 3 disk lg D"
        await trio.sleep(5)
        assert stack.status == "8/8 1 AA 3 disk lg D"
        assert stack.leg(0) == stack.leg(1)

    run(main)


@pytest.mark.parametrize("op", [Op.WRITE, Op.FLUSH])
def test_a_log_that_cannot_be_written_at_the_start_is_told(op):
    async def main():
        stack = Stack("disk 3 lg 8 nosync")
        stack.stores["lg"].fail(op)
        await stack.copied()
        assert stack.status.endswith("D" if op is Op.WRITE else "F")
        assert stack.device.event_number == 1

    run(main)


def test_a_log_that_fails_when_regions_are_marked_clean_is_told():
    async def main():
        stack = await mirror("", "disk 3 lg 8 nosync")
        await write(stack.device, 17, NEW)
        stack.stores["lg"].fail(Op.WRITE)
        await trio.sleep(5)
        assert stack.status == "8/8 1 AA 3 disk lg D"
        assert stack.device.event_number == 1

    run(main)
