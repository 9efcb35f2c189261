"""What is known of thin devices for many bios, and what ends it."""

from random import Random

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice
from tests.helpers.builders import make_disk, pattern, read, write
from tests.helpers.by_span import carry_out_by_span
from tests.helpers.thin_stack import BLOCK, BLOCK_BYTES, Stack

NEW = bytes(pattern(8 * BLOCK_BYTES, 7))
BOTH, READS, NONE = {Op.READ, Op.WRITE}, {Op.READ}, set[Op]()


def outline(device: MappedDevice) -> list[tuple[int, int, set[Op], int | None]]:
    """All spans in blocks, each asked for at its first sector; asked at its last it is the same."""
    spans = [device.span(0)]
    while spans[-1].end < device.sector_count:
        assert device.span(spans[-1].end - 1) == spans[-1]
        spans.append(device.span(spans[-1].end))
    return [
        (
            span.begin // BLOCK,
            span.end // BLOCK,
            set(span.ops),
            (span.begin + span.shift) // BLOCK if span.legs else None,
        )
        for span in spans
    ]


async def test_mapped_blocks_that_lie_together_are_a_span_and_holes_have_none():
    stack = await Stack().make()
    thin = await stack.thin(0)
    assert outline(thin) == [(0, 8, NONE, None)]
    await write(thin, 2 * BLOCK, NEW[: 3 * BLOCK_BYTES])
    await write(thin, 0, NEW[:BLOCK_BYTES])
    assert outline(thin) == [
        (0, 1, BOTH, 3),
        (1, 2, NONE, None),
        (2, 5, BOTH, 0),
        (5, 8, NONE, None),
    ]
    await stack.end()


async def test_what_is_shared_is_known_to_reads_only():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[: 3 * BLOCK_BYTES])
    span = thin.span(0)
    await stack.say("create_snap 1 0")
    assert not span.is_current()
    assert outline(thin)[0] == (0, 3, READS, 0)
    span = thin.span(0)
    await write(thin, BLOCK, NEW[:512])
    assert not span.is_current()
    assert outline(thin)[:3] == [(0, 1, READS, 0), (1, 2, BOTH, 3), (2, 3, READS, 2)]
    await stack.end()


async def test_a_hole_is_known_until_it_is_filled():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[:512])
    mapped, hole = thin.span(0), thin.span(5 * BLOCK)
    await write(thin, 6 * BLOCK, NEW[:512])
    assert not hole.is_current()
    assert mapped.is_current()
    await submit_bio(thin, Bio(Op.DISCARD, 0, BLOCK))
    assert not mapped.is_current()
    await stack.end()


async def test_a_flush_is_known_while_nothing_is_to_be_committed():
    stack = await Stack().make()
    thin = await stack.thin(0)
    span = thin.flush_span()
    assert span is not None
    assert [leg.leaf for leg in span.legs] == [stack.data]
    await write(thin, 0, NEW[:512])
    assert not span.is_current()
    assert thin.flush_span() is None
    await submit_bio(thin, FLUSH)
    assert thin.flush_span() is not None
    await stack.end()


async def test_an_external_origin_is_known_to_reads():
    stack = Stack()
    stack.devices["base"] = base = make_disk("base", 3 * BLOCK + 8)
    await stack.make()
    thin = await stack.thin(0, 8 * BLOCK, "base")
    assert outline(thin) == [(0, 8, NONE, None)]
    del base
    thin = MappedDevice("short")
    await stack.say("create_thin 1")
    await stack.load(thin, f"0 {3 * BLOCK} thin pool 1 base")
    stack.devices["short"] = thin
    assert thin.span(0).ops == NONE
    await stack.end()


async def test_spans_end_when_the_pool_fails_or_is_suspended():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[:512])
    span = thin.span(0)
    await stack.pool.suspend()
    assert not span.is_current()
    await stack.pool.resume()
    assert outline(thin)[0] == (0, 1, BOTH, 0)
    await stack.end()


@pytest.mark.parametrize("seed", range(8))
async def test_bios_by_span_and_by_plan_give_what_a_flat_model_says(seed, autojump_clock):
    random = Random(seed)
    features = random.choice(["", "no_discard_passdown", "error_if_no_space"])
    stack = await Stack(features, blocks=200).make()
    thins, model = {0: await stack.thin(0, 24 * BLOCK)}, {0: bytearray(24 * BLOCK_BYTES)}
    by_span = 0
    for number in range(1, 151):
        name = random.choice(list(thins))
        thin, flat = thins[name], model[name]
        sector = random.randrange(24 * BLOCK)
        count = min(random.choice((1, 8, 130, 300)), 24 * BLOCK - sector)
        match random.choice(("write", "write", "read", "read", "discard", "flush", "snap")):
            case "write":
                data = random.randbytes(count * 512)
                bio = Bio.write(sector, memoryview(data))
                if carry_out_by_span(thin, bio):
                    by_span += 1
                else:
                    await submit_bio(thin, bio)
                flat[sector * 512 : (sector + count) * 512] = data
            case "read":
                data = bytearray(count * 512)
                bio = Bio.read(sector, memoryview(data))
                if carry_out_by_span(thin, bio):
                    by_span += 1
                else:
                    await submit_bio(thin, bio)
                assert data == flat[sector * 512 : (sector + count) * 512]
            case "discard":
                await submit_bio(thin, Bio(Op.DISCARD, sector, count))
                flat[sector * 512 : (sector + count) * 512] = bytes(count * 512)
            case "flush":
                if not carry_out_by_span(thin, FLUSH):
                    await submit_bio(thin, FLUSH)
            case "snap" if len(thins) < 5:
                await stack.say(f"create_snap {number} {name}")
                thins[number] = await stack.thin(number, 24 * BLOCK, new=False)
                model[number] = bytearray(flat)
    for name, thin in thins.items():
        assert await read(thin, 0, 24 * BLOCK_BYTES) == model[name]
    assert by_span > 5
    await stack.end()
