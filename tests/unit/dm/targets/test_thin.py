"""What is special to thin; the rest is in test_every_target.py."""

import trio

from fusedm.block import FLUSH, Bio, Op
from fusedm.crypto import submit_bio
from tests.helpers.builders import medium, pattern, read, write
from tests.helpers.devices import RecordingDevice
from tests.helpers.thin_stack import BLOCK, BLOCK_BYTES, Stack, thin_status

NEW = bytes(pattern(4 * BLOCK_BYTES, 7))
OTHER = bytes(pattern(4 * BLOCK_BYTES, 8))


async def test_what_was_never_written_reads_as_zeros():
    stack = await Stack().make()
    thin = await stack.thin(0)
    assert await read(thin, 0, 8 * BLOCK_BYTES) == bytes(8 * BLOCK_BYTES)
    assert thin_status(thin) == "0 -"
    await stack.end()


async def test_what_is_written_is_read_back_and_takes_blocks():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 100, NEW)
    want = bytes(100 * 512) + NEW + bytes(3 * BLOCK_BYTES - 100 * 512)
    assert await read(thin, 0, 7 * BLOCK_BYTES) == want
    assert thin_status(thin) == f"{5 * BLOCK} {5 * BLOCK - 1}"
    assert stack.used == 5
    await stack.end()


async def test_blocks_that_one_bio_wants_lie_together_in_order():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    assert medium(stack.data, 0, len(NEW)) == NEW
    await stack.end()


async def test_what_a_write_does_not_cover_of_its_block_is_zeroed():
    stack = await Stack().make()
    await write(stack.data, 0, OTHER)
    thin = await stack.thin(0)
    await write(thin, 5, NEW[:512])
    want = bytes(5 * 512) + NEW[:512] + bytes(BLOCK_BYTES - 6 * 512)
    assert medium(stack.data, 0, BLOCK_BYTES) == want
    await stack.end()


async def test_with_skip_block_zeroing_it_is_left_as_it_is():
    stack = await Stack("skip_block_zeroing").make()
    await write(stack.data, 0, OTHER)
    thin = await stack.thin(0)
    await write(thin, 5, NEW[:512])
    want = OTHER[: 5 * 512] + NEW[:512] + OTHER[6 * 512 : BLOCK_BYTES]
    assert await read(thin, 0, BLOCK_BYTES) == want
    await stack.end()


async def test_a_snapshot_keeps_what_was_and_its_origin_goes_on():
    stack = await Stack().make()
    origin = await stack.thin(0)
    await write(origin, 0, NEW)
    await origin.suspend()
    await stack.say("create_snap 1 0")
    await origin.resume()
    snap = await stack.thin(1, new=False)
    await write(origin, 3, OTHER[:1024])
    await write(snap, BLOCK, OTHER[:512])
    assert await read(origin, 0, len(NEW)) == NEW[: 3 * 512] + OTHER[:1024] + NEW[5 * 512 :]
    assert (
        await read(snap, 0, len(NEW)) == NEW[:BLOCK_BYTES] + OTHER[:512] + NEW[BLOCK_BYTES + 512 :]
    )
    assert stack.used == 6
    await stack.end()


async def test_a_block_written_since_a_snapshot_is_written_in_place():
    stack = await Stack().make()
    origin = await stack.thin(0)
    await write(origin, 0, NEW[:BLOCK_BYTES])
    await stack.say("create_snap 1 0")
    for _ in range(3):
        await write(origin, 0, OTHER[:4096])
    assert stack.used == 2
    await stack.end()


async def test_a_whole_block_written_to_a_shared_one_is_not_copied():
    stack = await Stack().make()
    origin = await stack.thin(0)
    await write(origin, 0, NEW[:BLOCK_BYTES])
    await stack.say("create_snap 1 0")
    reads = stack.data.stats.ios[0]
    await write(origin, 0, OTHER[:BLOCK_BYTES])
    assert stack.data.stats.ios[0] == reads
    await stack.end()


async def test_what_an_external_origin_has_is_read_and_copied_from_it():
    stack = Stack()
    base = RecordingDevice("unused", 1)
    from tests.helpers.builders import make_disk

    stack.devices["base"] = base = make_disk("base", BLOCK + 64)
    await write(base, 0, NEW[: (BLOCK + 64) * 512])
    await stack.make()
    thin = await stack.thin(0, 4 * BLOCK, "base")
    content = NEW[: (BLOCK + 64) * 512] + bytes((2 * BLOCK + 64) * 512)
    assert await read(thin, 0, 4 * BLOCK_BYTES) == content
    await write(thin, 10, OTHER[:512])
    await write(thin, BLOCK + 63, OTHER[:1024])
    content = bytearray(content)
    content[10 * 512 : 11 * 512] = OTHER[:512]
    content[(BLOCK + 63) * 512 : (BLOCK + 65) * 512] = OTHER[:1024]
    assert await read(thin, 0, 4 * BLOCK_BYTES) == content
    assert medium(base) == NEW[: (BLOCK + 64) * 512]
    await stack.end()


async def test_a_discard_gives_whole_blocks_up_and_passes_them_down():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    await submit_bio(thin, Bio(Op.DISCARD, BLOCK, 2 * BLOCK))
    want = NEW[:BLOCK_BYTES] + bytes(2 * BLOCK_BYTES) + NEW[3 * BLOCK_BYTES :]
    assert await read(thin, 0, len(NEW)) == want
    assert thin_status(thin) == f"{2 * BLOCK} {4 * BLOCK - 1}"
    assert medium(stack.data, BLOCK, 2 * BLOCK_BYTES) == bytes(2 * BLOCK_BYTES)
    await submit_bio(thin, FLUSH)
    assert stack.used == 2
    await stack.end()


async def test_a_discard_zeroes_what_it_covers_of_other_blocks():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    await submit_bio(thin, Bio(Op.DISCARD, 100, 2 * BLOCK))
    want = NEW[: 100 * 512] + bytes(2 * BLOCK_BYTES) + NEW[2 * BLOCK_BYTES + 100 * 512 :]
    assert await read(thin, 0, len(NEW)) == want
    await submit_bio(thin, Bio(Op.DISCARD, 5, 6))
    assert (await read(thin, 0, 20 * 512)) == NEW[: 5 * 512] + bytes(6 * 512) + NEW[
        11 * 512 : 20 * 512
    ]
    await stack.end()


async def test_what_a_snapshot_shares_is_not_discarded_below():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    await stack.say("create_snap 1 0")
    await submit_bio(thin, Bio(Op.DISCARD, 0, 4 * BLOCK))
    assert await read(thin, 0, len(NEW)) == bytes(len(NEW))
    snap = await stack.thin(1, new=False)
    assert await read(snap, 0, len(NEW)) == NEW
    await stack.end()


async def test_what_was_freed_is_given_out_again():
    stack = await Stack(blocks=4).make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    await submit_bio(thin, Bio(Op.DISCARD, 0, 4 * BLOCK))
    with trio.fail_after(30):
        await write(thin, 4 * BLOCK, OTHER)
    assert await read(thin, 4 * BLOCK, len(NEW)) == OTHER
    await stack.end()
