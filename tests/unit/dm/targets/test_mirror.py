"""What is special to mirror; the rest is in tests/contracts/test_every_target.py."""

import pytest
import trio

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError, TableError
from fusedm.crypto import submit_bio
from fusedm.dm import format_table
from fusedm.dm.targets import mirror
from fusedm.tables.grammars import mirror as grammar
from tests.helpers.builders import assert_nothing_is_held, make_key, pattern, read, write
from tests.helpers.mirror_stack import REGION, SECTORS, Stack, run

NEW = b"n" * 512


# What is in sync.


def test_all_legs_become_the_same_as_the_first_in_the_background():
    async def main():
        stack = await Stack(legs=3).make()
        text = stack.leg(0)
        assert stack.status == "0/8 1 AAA 1 core"
        await trio.sleep(1)
        assert stack.status == "8/8 1 AAA 1 core"
        assert stack.leg(1) == stack.leg(2) == text
        assert_nothing_is_held(stack.device, *stack.disks)

    run(main)


def test_with_nosync_nothing_is_copied():
    async def main():
        stack = Stack("core 2 8 nosync")
        before = stack.leg(1)
        await stack.copied()
        assert stack.status == "8/8 1 AA 1 core"
        assert stack.leg(1) == before

    run(main)


def test_that_all_is_in_sync_is_an_event_unless_it_was_from_the_start():
    async def main():
        stack = await Stack("core 2 8 sync").make()
        assert stack.device.event_number == 0
        await trio.sleep(1)
        assert stack.device.event_number == 1
        assert (await Stack("core 2 8 nosync").copied()).device.event_number == 0

    run(main)


def test_a_write_goes_to_all_legs_where_they_are_in_sync():
    async def main():
        stack = await Stack("core 2 8 nosync", legs=3).make()
        await write(stack.device, 9, NEW)
        assert all(stack.leg(index)[9 * 512 : 10 * 512] == NEW for index in range(3))
        assert await read(stack.device, 9, 512) == NEW

    run(main)


def test_a_write_goes_to_the_default_leg_only_where_they_are_not():
    async def main():
        stack = Stack()
        stack.stores["d1"].fail(Op.WRITE)
        await stack.copied()
        before = stack.leg(1)
        await write(stack.device, 9, NEW)
        assert stack.leg(0)[9 * 512 : 10 * 512] == NEW
        assert stack.leg(1) == before
        assert await read(stack.device, 9, 512) == NEW

    run(main)


def test_a_write_while_legs_are_copied_is_on_all_of_them_in_the_end():
    async def main():
        stack = await Stack(legs=3).make()
        async with trio.open_nursery() as nursery:
            for sector in range(0, SECTORS, 3):
                nursery.start_soon(write, stack.device, sector, bytes(pattern(512, sector)))
        await trio.sleep(1)
        assert stack.leg(0) == stack.leg(1) == stack.leg(2)
        for sector in range(0, SECTORS, 3):
            assert await read(stack.device, sector, 512) == pattern(512, sector)

    run(main)


def test_it_goes_on_copying_where_it_was_when_it_is_resumed():
    async def main():
        stack = await Stack("core 2 8 sync").make()
        for _ in range(20):
            await stack.device.suspend()
            await stack.device.resume()
            await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        assert stack.status == "8/8 1 AA 1 core"
        assert stack.leg(0) == stack.leg(1)

    run(main)


def test_nothing_is_copied_while_it_is_suspended():
    async def main():
        stack = await Stack().make()
        await stack.device.suspend()
        status, before = stack.status, stack.leg(1)
        await trio.sleep(5)
        assert (stack.status, stack.leg(1)) == (status, before)

    run(main)


def test_bios_are_split_at_regions():
    async def main():
        stack = await Stack("core 2 8 nosync").make()
        assert stack.target.max_io_sectors == REGION
        text = bytes(pattern(SECTORS * 512, 9))
        await write(stack.device, 0, text)
        assert stack.leg(1) == text

    run(main)


# The log.


def test_what_the_log_says_is_clean_is_not_copied():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        assert (stack.status, stack.clean) == ("8/8 1 AA 3 disk lg A", "11111111")
        await stack.device.end()
        stack.device = type(stack.device)("dm0")
        stack.stores["d1"].noted.clear()
        await stack.make()
        assert stack.status == "8/8 1 AA 3 disk lg A"
        await trio.sleep(5)
        assert stack.stores["d1"].noted == []

    run(main)


def test_a_region_is_marked_on_the_medium_before_it_is_written_to():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        for store in stack.stores.values():
            store.noted.clear()
        noted = stack.stores["d0"].noted = stack.stores["d1"].noted = stack.stores["lg"].noted
        await write(stack.device, 17, NEW)
        assert noted == [(Op.WRITE, 2), (Op.FLUSH, 0), (Op.WRITE, 17), (Op.WRITE, 17)]
        assert stack.clean == "11011111"

    run(main)


def test_another_write_to_a_region_that_is_marked_needs_no_log():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        await write(stack.device, 17, NEW)
        stack.stores["lg"].noted.clear()
        await write(stack.device, 18, NEW)
        assert stack.stores["lg"].noted == []

    run(main)


def test_a_region_is_marked_clean_some_time_after_the_last_write_when_all_is_durable():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        for _ in range(6):
            await write(stack.device, 17, NEW)
            await trio.sleep(mirror.CLEAN_AFTER_SECONDS / 2)
            assert stack.clean == "11011111"
        for store in stack.stores.values():
            store.noted.clear()
        noted = stack.stores["d0"].noted = stack.stores["d1"].noted = stack.stores["lg"].noted
        await trio.sleep(3 * mirror.CLEAN_AFTER_SECONDS)
        assert stack.clean == "11111111"
        assert noted == [(Op.FLUSH, 0), (Op.FLUSH, 0), (Op.WRITE, 2)]

    run(main)


def test_a_region_that_is_written_to_while_it_is_being_marked_clean_stays_marked():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        await write(stack.device, 17, NEW)
        target = stack.target
        target.cleaning, target.dirty = {2}, set()
        steps = target._mark_clean()
        next(steps)
        await write(stack.device, 18, NEW)
        with pytest.raises(StopIteration):
            steps.send([None, None])
        assert target.dirty == {2}
        assert stack.clean == "11011111"

    run(main)


def test_when_it_is_suspended_all_is_clean():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        await write(stack.device, 17, NEW)
        await stack.device.suspend()
        assert stack.clean == "11111111"
        await stack.device.resume()
        await write(stack.device, 17, NEW)
        assert stack.clean == "11011111"

    run(main)


def test_what_is_suspended_between_two_steps_of_marking_clean_is_clean_once():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        for _ in range(8):
            await write(stack.device, 17, NEW)
            await trio.sleep(mirror.CLEAN_AFTER_SECONDS)
            await stack.device.suspend()
            assert stack.clean == "11111111"
            await stack.device.resume()

    run(main)


def test_a_discard_is_marked_like_a_write():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        await submit_bio(stack.device, Bio(Op.DISCARD, 7, 10))
        assert stack.clean == "00011111"
        zeros = bytes(10 * 512)
        assert all(stack.leg(index)[7 * 512 : 17 * 512] == zeros for index in range(2))
        stack.stores["lg"].noted.clear()
        await submit_bio(stack.device, Bio(Op.DISCARD, 7, 10))
        assert stack.stores["lg"].noted == []

    run(main)


def test_a_flush_goes_to_all_legs():
    async def main():
        stack = await Stack("core 2 8 nosync", legs=3).make()
        await submit_bio(stack.device, FLUSH)
        assert [stack.stores[f"d{index}"].noted for index in range(3)] == [[(Op.FLUSH, 0)]] * 3

    run(main)


def test_a_table_that_takes_the_place_of_another_goes_on_with_its_log():
    async def main():
        stack = await Stack("disk 2 lg 8").copied()
        await write(stack.device, 17, NEW)
        stack.stores["d1"].noted.clear()
        await stack.make("disk 2 lg 8 2 d0 0 d1 0 1 handle_errors")
        assert stack.status == "8/8 1 AA 3 disk lg A"
        await trio.sleep(5)
        assert (Op.WRITE, 16) not in stack.stores["d1"].noted

    run(main)


def test_a_log_of_a_version_that_is_not_known_leaves_the_table_before_in_place():
    async def main():
        stack = await Stack("core 2 8 nosync").make()
        header = memoryview(bytes.fromhex("7252694d09000000") + bytes(504))
        stack.stores["lg"].pwrite(0, header)
        with pytest.raises(StackError, match="the log on lg has version 9"):
            await stack.make("disk 2 lg 8 2 d0 0 d1 0")
        assert stack.status == "8/8 1 AA 1 core"
        await write(stack.device, 3, NEW)

    run(main)


# Crypto and spans.


def test_data_are_encrypted_once_and_all_legs_hold_the_same():
    async def main():
        key = make_key()
        stack = await Stack("core 2 8 nosync").make()
        text = bytes(pattern(4096))
        stack.device.start_using_key(key)
        await write(stack.device, 3, text, key, 5)
        assert stack.leg(0)[3 * 512 : 11 * 512] == stack.leg(1)[3 * 512 : 11 * 512] != text
        assert await read(stack.device, 3, 4096, key, 5) == text

    run(main)


def test_reads_go_by_one_span_to_the_default_leg():
    async def main():
        stack = await Stack().copied()
        span = stack.device.span(9)
        assert (span.begin, span.end, span.ops) == (0, SECTORS, {Op.READ})
        assert span.leaf is stack.disks[0]
        flushes = stack.device.flush_span()
        assert {leg.leaf for leg in flushes.legs} == set(stack.disks[:2])

    run(main)


def test_a_log_that_stops_writes_stops_flushes_on_their_way():
    async def main():
        stack = await Stack("disk 3 lg 8 nosync", features="2 handle_errors keep_log").copied()
        span = stack.device.flush_span()
        stack.stores["lg"].fail(Op.WRITE)
        with pytest.raises(BlockIOError):
            await write(stack.device, 9, NEW)
        assert not span.is_current()
        assert stack.device.flush_span() is None

    run(main)


def test_when_the_default_leg_fails_the_span_is_another():
    async def main():
        stack = await Stack("core 2 8 nosync", features="1 handle_errors").make()
        await trio.sleep(1)
        span = stack.device.span(9)
        stack.stores["d0"].fail(Op.READ)
        await read(stack.device, 9, 512)
        assert not span.is_current()
        assert stack.device.span(9).leaf is stack.disks[1]

    run(main)


def test_without_a_leg_that_all_can_be_read_from_reads_are_planned():
    async def main():
        stack = await Stack("core 2 8 nosync").make()
        stack.stores["d0"].fail(Op.READ)
        await read(stack.device, 9, 512)
        assert stack.device.span(9).ops == set()
        assert await read(stack.device, 9, 512) == stack.leg(1)[9 * 512 : 10 * 512]

    run(main)


# The table.


@pytest.mark.parametrize(
    "words",
    [
        "core 1 8 2 d0 0 d1 0",
        "core 2 8 sync 2 d0 0 d1 0 1 handle_errors",
        "disk 2 lg 8 2 d0 0 d1 0",
        "disk 3 lg 8 nosync 2 d0 0 d1 0 2 handle_errors keep_log",
    ],
)
def test_a_table_is_printed_as_it_is_read(words):
    table = Stack().table(words)
    assert format_table(table) == f"0 {SECTORS} mirror {words}"


def test_features_are_printed_in_one_order():
    table = Stack().table("core 1 8 2 d0 0 d1 0 2 keep_log handle_errors")
    assert format_table(table).endswith("d1 0 2 handle_errors keep_log")


def test_more_regions_than_there_is_memory_for_are_refused(monkeypatch):
    assert grammar.MAX_REGIONS == 1 << 26
    monkeypatch.setattr(grammar, "MAX_REGIONS", 7)
    with pytest.raises(TableError, match="region 8: 8 regions, more than 7"):
        Stack().table()


def test_no_features_are_printed_as_nothing():
    assert format_table(Stack().table("core 1 8 2 d0 0 d1 0 0")).endswith("d1 0")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("userspace 2 x 8 2 d0 0 d1 0", "log"),
        ("core 3 8 nosync block_on_error 2 d0 0 d1 0", "log arguments"),
        ("disk 1 8 2 d0 0 d1 0", "log arguments"),
        ("core 1 1 2 d0 0 d1 0", "region"),
        ("core 1 24 2 d0 0 d1 0", "24 is not a power of two"),
        ("core 1 128 2 d0 0 d1 0", "region"),
        ("core 2 8 maybe 2 d0 0 d1 0", "'maybe'"),
        ("core 1 8 1 d0 0", "mirrors"),
        ("core 1 8 2 d0 0 d1 0 1 what", "'what'"),
        ("core 1 8 2 d0 0 d1 0 1 keep_log", "keep_log needs handle_errors"),
        ("core 1 8 2 d0 0 d1 8", "ends past d1"),
        ("nosuch 1 8 2 d0 0 d1 0", "log"),
        ("disk 2 small 8 2 d0 0 d1 0", "small has 2 sectors, the log takes 1536 bytes"),
        ("disk 2 nosuch 8 2 d0 0 d1 0", "no device is named 'nosuch'"),
    ],
)
def test_bad_arguments_are_refused(words, text):
    with pytest.raises(TableError, match=f"mirror: .*{text}"):
        Stack().table(words)
