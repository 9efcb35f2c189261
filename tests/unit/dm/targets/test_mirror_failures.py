"""What a mirror does when a leg fails, at each step and with each feature."""

import errno

import pytest
import trio

from fusedm.block import FLUSH, Bio, Op
from fusedm.crypto import submit_bio
from tests.helpers.builders import assert_nothing_is_held, pattern, read, write
from tests.helpers.mirror_stack import KEEP, SECTORS, WAIT, Stack, fails, mirror, run

NEW, NEWER = b"n" * 512, b"N" * 512
every_feature = pytest.mark.parametrize("features", ["", WAIT, KEEP])


# Reads.


@every_feature
def test_a_read_that_fails_is_done_on_another_leg(features):
    async def main():
        stack = await mirror(features, legs=3)
        text = stack.leg(0)
        stack.stores["d0"].fail(Op.READ, 8, 16)
        assert await read(stack.device, 0, SECTORS * 512) == text
        assert stack.status.split()[2] == "RAA"
        assert stack.device.event_number == bool(features)
        assert_nothing_is_held(stack.device, *stack.disks)

    run(main)


@every_feature
def test_a_read_fails_if_it_fails_on_all_legs(features):
    async def main():
        stack = await mirror(features, legs=3)
        for index in range(3):
            stack.stores[f"d{index}"].fail(Op.READ, 8, 16)
        assert await fails(read, stack.device, 9, 512)
        assert stack.status.split()[2] == "RRR"
        # As in the kernel, where none of them is read any more.
        assert await fails(read, stack.device, 40, 512)

    run(main)


def test_what_is_not_in_sync_is_not_read_from_another_leg():
    async def main():
        stack = Stack("core 2 8 sync")
        stack.stores["d1"].fail(Op.WRITE, 16, 24)
        await stack.copied()
        assert stack.status == "7/8 1 AS 1 core"
        stack.stores["d0"].fail(Op.READ)
        assert await fails(read, stack.device, 17, 512)

    run(main)


# Copying.


@pytest.mark.parametrize("features", ["", WAIT])
def test_a_region_that_cannot_be_copied_is_not_in_sync_and_the_others_are(features):
    async def main():
        stack = Stack("core 1 8", 3, features)
        stack.stores["d2"].fail(Op.WRITE, 16, 24)
        await stack.copied()
        assert stack.status == "7/8 1 AAS 1 core"
        assert stack.device.event_number == bool(features)
        assert stack.leg(0) == stack.leg(1) != stack.leg(2)

    run(main)


@pytest.mark.parametrize("features", ["", WAIT])
def test_a_region_that_cannot_be_read_is_not_copied(features):
    async def main():
        stack = Stack("core 1 8", 2, features)
        before = stack.leg(1)
        stack.stores["d0"].fail(Op.READ, 16, 24)
        await stack.copied()
        assert stack.status == "7/8 1 SA 1 core"
        assert stack.leg(1)[16 * 512 : 24 * 512] == before[16 * 512 : 24 * 512]
        assert await fails(read, stack.device, 17, 512), "nobody knows what the others hold"

    run(main)


def test_what_could_not_be_copied_is_copied_after_the_next_resume():
    async def main():
        stack = Stack("core 1 8")
        stack.stores["d1"].fail(Op.WRITE, 16, 24)
        await stack.copied()
        stack.stores["d1"].failing.clear()
        await stack.device.suspend()
        await stack.device.resume()
        await trio.sleep(1)
        assert stack.status == "8/8 1 AS 1 core"
        assert stack.leg(0) == stack.leg(1)

    run(main)


# Writes.


@pytest.mark.parametrize("features", ["", KEEP])
@pytest.mark.parametrize("leg", [0, 1])
def test_a_write_that_fails_on_one_leg_succeeds_and_its_region_is_out_of_sync(features, leg):
    async def main():
        stack = await mirror(features)
        stack.stores[f"d{leg}"].fail(Op.WRITE, 16, 24)
        await write(stack.device, 17, NEW)
        letters = "DA" if leg == 0 else "AD"
        assert stack.status == f"7/8 1 {letters} 1 core"
        assert stack.leg(1 - leg)[17 * 512 : 18 * 512] == NEW
        assert stack.device.event_number == bool(features)
        await write(stack.device, 40, NEW)
        assert stack.leg(0)[40 * 512 : 41 * 512] == stack.leg(1)[40 * 512 : 41 * 512] == NEW
        assert_nothing_is_held(stack.device, *stack.disks)

    run(main)


def test_with_keep_log_what_has_been_acknowledged_is_read_from_the_leg_that_has_it():
    async def main():
        stack = await mirror(KEEP)
        stack.stores["d0"].fail(Op.WRITE, 16, 24)
        await write(stack.device, 17, NEW)
        assert await read(stack.device, 17, 512) == NEW
        await write(stack.device, 17, NEWER)
        assert await read(stack.device, 17, 512) == NEWER

    run(main)


def test_without_features_what_only_others_have_is_not_read_as_it_was():
    async def main():
        stack = await mirror()
        stack.stores["d0"].fail(Op.WRITE, 16, 24)
        await write(stack.device, 17, NEW)
        assert await fails(read, stack.device, 17, 512)
        assert await read(stack.device, 40, 512) == stack.leg(1)[40 * 512 : 41 * 512]

    run(main)


@every_feature
def test_a_write_that_fails_on_all_legs_fails(features):
    async def main():
        stack = await mirror(features)
        for index in range(2):
            stack.stores[f"d{index}"].fail(Op.WRITE, 16, 24)
        assert await fails(write, stack.device, 17, NEW)
        assert stack.status == "7/8 1 DD 1 core"

    run(main)


@pytest.mark.parametrize("op", [Op.WRITE, Op.FLUSH])
def test_with_handle_errors_it_waits_for_a_table_without_the_leg(op):
    async def main():
        stack = await mirror(WAIT)
        stack.stores["d1"].fail(op)
        done = []

        async def submit():
            bio = FLUSH if op is Op.FLUSH else Bio.write(17, memoryview(NEW))
            await submit_bio(stack.device, bio)
            done.append(op)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            await trio.sleep(10)
            assert done == []
            assert stack.device.event_number == 1
            assert await read(stack.device, 40, 512) == stack.leg(0)[40 * 512 : 41 * 512]
            await stack.device.suspend()
            assert done == []
            await stack.device.resume()
            await trio.sleep(10)
            assert done == [], "the table is the same"
            await stack.make("core 2 8 nosync 2 d0 0 lg 0")
        assert done == [op]
        assert op is Op.FLUSH or stack.leg(2)[17 * 512 : 18 * 512] == NEW
        assert_nothing_is_held(stack.device, *stack.disks)

    run(main)


def test_with_handle_errors_a_write_to_what_is_not_in_sync_waits_after_a_failure():
    async def main():
        stack = Stack("core 1 8", 2, WAIT)
        stack.stores["d1"].fail(Op.WRITE, 16, 24)
        await stack.copied()
        with trio.move_on_after(10) as waited:
            await write(stack.device, 17, NEW)
        assert waited.cancelled_caught
        await write(stack.device, 40, NEW)

    run(main)


@every_feature
def test_a_discard_that_fails_makes_no_leg_a_bad_one(features):
    async def main():
        stack = await mirror(features)
        stack.stores["d1"].fail(Op.DISCARD)
        assert await fails(submit_bio, stack.device, Bio(Op.DISCARD, 8, 8))
        assert stack.status == "8/8 1 AA 1 core"

    run(main)


@pytest.mark.parametrize("features", ["", KEEP])
def test_after_a_flush_has_failed_nothing_is_marked_clean_any_more(features):
    async def main():
        stack = await mirror(features, "disk 3 lg 8 nosync")
        await write(stack.device, 17, NEW)
        stack.stores["d1"].fail(Op.FLUSH)
        await submit_bio(stack.device, FLUSH)
        assert stack.status == "8/8 1 AD 3 disk lg A"
        await trio.sleep(10)
        assert stack.clean == "11011111"
        await stack.device.suspend()
        assert stack.clean == "11011111"

    run(main)


def test_a_region_out_of_sync_is_never_marked_clean():
    async def main():
        stack = await mirror(KEEP, "disk 3 lg 8 nosync")
        stack.stores["d1"].fail(Op.WRITE, 16, 24)
        await write(stack.device, 17, NEW)
        await trio.sleep(10)
        await stack.device.suspend()
        assert stack.clean == "11011111"
        stack.stores["d1"].failing.clear()
        await stack.make("disk 2 lg 8 2 d0 0 d1 0")
        await trio.sleep(5)
        assert stack.clean == "11111111"
        assert stack.leg(1)[17 * 512 : 18 * 512] == NEW

    run(main)


@pytest.mark.parametrize("step", range(12))
def test_a_leg_that_fails_at_any_step_loses_nothing_that_others_have(step):
    """All legs but the first fail for good after so many calls."""

    async def main():
        stack = Stack("disk 2 lg 8", 3, KEEP)
        calls = 0
        for name in ("d1", "d2"):
            store = stack.stores[name]

            def call(op, offset=0, length=1, store=store, inner=store._call):
                nonlocal calls
                calls += 1
                if calls > step:
                    raise OSError(errno.EIO, "told to fail")
                inner(op, offset, length)

            store._call = call
        await stack.make()
        texts = {sector: bytes(pattern(512, sector)) for sector in range(0, SECTORS, 5)}
        for sector, text in texts.items():
            await write(stack.device, sector, text)
        await trio.sleep(5)
        for sector, text in texts.items():
            assert await read(stack.device, sector, 512) == text
        assert_nothing_is_held(stack.device, *stack.disks)

    run(main)
