"""What is special to ebs; the rest is in tests/contracts/test_every_target.py."""

import errno
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import FLUSH, FUA, Bio, Op
from fusedm.block.errors import BlockIOError, TableError
from fusedm.crypto import submit_bio
from fusedm.dm import Complete, MappedDevice, Remap, Script, Target, parse_table
from fusedm.stores import FailOp, FaultyStore, MemoryStore
from tests.helpers.builders import (
    assert_nothing_is_held,
    make_disk,
    make_key,
    make_mapped,
    medium,
    pattern,
    read,
    write,
)
from tests.helpers.devices import RecordingDevice, lookup_in

D0, B4 = RecordingDevice("d0", 4096), make_disk("b4", 4096, block=4096)
SECTORS = 64


def make(words: str, length: int = SECTORS) -> Target:
    table = parse_table(f"0 {length} ebs {words}", lookup_in(D0, B4), lambda: 0.0)
    return table.entries[0].target


def read_at(sector: int, sector_count: int = 1) -> Bio:
    return Bio.read(sector, memoryview(bytearray(512 * sector_count)))


async def over_4k(length: int = SECTORS, faults=()) -> MappedDevice:
    store = MemoryStore(128 * 512, 4096)
    store.pwrite(0, memoryview(pattern(store.size, 7)))
    disk = make_disk("b4", store=FaultyStore(store, 1, faults) if faults else store)
    return await make_mapped(f"0 {length} ebs b4 8 1", disk)


def disk_of(device: MappedDevice):
    [disk] = device.underlying()
    return disk


async def test_its_logical_block_is_the_emulated_one():
    device = await over_4k()
    assert device.limits.logical_block_size == 512
    assert device.limits.io_min_bytes == 4096
    assert disk_of(device).limits.logical_block_size == 4096


async def test_the_underlying_block_is_that_of_the_device_unless_it_is_told():
    assert make("b4 8 1").underlying_sectors == 8
    assert make("b4 16 1 16").underlying_sectors == 16
    assert make("b4 8 1").params() == [B4, "8", "1"]
    assert make("b4 16 1 16").params() == [B4, "16", "1", "16"]


@given(st.integers(0, SECTORS - 1), st.integers(1, 30), st.integers(0, 99))
def test_a_part_of_blocks_is_written_and_read_as_if_it_were_alone(sector, count, seed):
    async def main():
        device = await over_4k()
        end = min(sector + count, SECTORS)
        text = bytes(pattern((end - sector) * 512, seed))
        before = medium(disk_of(device))
        await write(device, sector, text)
        expected = bytearray(before)
        expected[(8 + sector) * 512 : (8 + end) * 512] = text
        assert medium(disk_of(device)) == expected
        assert await read(device, sector, len(text)) == text
        assert_nothing_is_held(device, disk_of(device))

    trio.run(main)


@pytest.mark.parametrize(
    ("sector", "count", "reads", "writes"),
    [
        (0, 8, [], [(8, 8)]),
        (3, 2, [(8, 8)], [(8, 8)]),
        (3, 5, [(8, 8)], [(8, 8)]),
        (6, 4, [(8, 8), (16, 8)], [(8, 8), (16, 8)]),
        (6, 20, [(8, 8), (32, 8)], [(8, 8), (32, 8), (16, 16)]),
        (8, 9, [(24, 8)], [(24, 8), (16, 8)]),
    ],
)
def test_only_blocks_that_are_partly_written_are_read_before(sector, count, reads, writes):
    target = make("d0 8 1 8")
    bio = Bio.write(sector, memoryview(bytes(count * 512)))
    steps = [
        [(remap.bio.sector, remap.bio.sector_count) for remap in step.actions]
        for step in target.map(bio).steps()
    ]
    assert steps == ([reads] if reads else []) + [writes]


def test_what_is_to_be_durable_at_once_is_so_in_every_block():
    bio = Bio.write(6, memoryview(bytes(20 * 512)), flags=FUA)
    _, writes = make("d0 8 1 8").map(bio).steps()
    assert [remap.bio.flags for remap in writes.actions] == [FUA] * 3


def test_a_read_of_parts_reads_the_rest_of_its_data_in_place():
    bio = read_at(6, 20)
    [step] = make("d0 8 1 8").map(bio).steps()
    places = [(remap.bio.sector, remap.bio.sector_count) for remap in step.actions]
    assert places == [(8, 8), (32, 8), (16, 16)]
    assert step.actions[2].bio.data.obj is bio.data.obj


def test_neighbours_within_a_block_lock_each_other_out():
    target = make("d0 8 1 8")
    locks = [target.map(Bio.write(at, memoryview(bytes(512)))).locks for at in (0, 7, 8)]
    assert locks[0] == locks[1] == ((target.locks, 0, 8),)
    assert locks[2] == ((target.locks, 8, 16),)
    assert target.map(Bio.write(0, memoryview(bytes(4096)))).locks == locks[0]


async def test_writers_of_one_block_lose_nothing_of_each_other():
    random = Random(3)
    for _ in range(20):
        device = await over_4k()
        texts = [bytes(pattern(512, seed)) for seed in range(24)]
        order = random.sample(range(24), 24)
        async with trio.open_nursery() as nursery:
            for sector in order:
                nursery.start_soon(write, device, sector, texts[sector])
        assert await read(device, 0, 24 * 512) == b"".join(texts)


@pytest.mark.parametrize("words", ["d0 8 8 8", "d0 8 4 2", "d0 8 1"])
def test_where_blocks_are_not_larger_below_it_is_linear(words):
    target = make(words)
    assert target.map(read_at(8, 8)) == Remap(D0, read_at(16, 8))
    assert {Op.READ, Op.WRITE, Op.FLUSH} == target.steady(0).ops


async def test_bios_that_fit_go_by_a_span_and_others_do_not():
    device = await make_mapped("0 64 ebs b4 8 8", make_disk("b4", 128, block=4096))
    assert device.span(9).ops == {Op.READ, Op.WRITE}
    device = await over_4k()
    assert device.span(9).ops == set()
    assert device.flush_span() is not None


def test_a_flush_goes_to_the_device():
    assert make("d0 8 1 8").map(FLUSH) == Remap(D0, FLUSH)


def test_a_discard_keeps_blocks_that_are_only_partly_its():
    target = make("d0 8 1 8")
    assert target.map(Bio(Op.DISCARD, 1, 14)) == Complete()
    action = target.map(Bio(Op.DISCARD, 3, 22))
    assert isinstance(action, Script)
    assert list(action.steps()) == [Remap(D0, Bio(Op.DISCARD, 16, 16))]
    assert action.locks == ((target.locks, 8, 24),)


async def test_the_rest_of_a_last_block_is_kept():
    device = await over_4k(length=5)
    before = medium(disk_of(device))
    await write(device, 4, b"x" * 512)
    assert medium(disk_of(device))[13 * 512 :] == before[13 * 512 :]


def test_the_last_block_must_be_on_the_device():
    with pytest.raises(TableError, match=r"4088 \+ 16 sectors ends past d0 \(4096 sectors\)"):
        make("d0 4088 1 8", 9)


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
async def test_an_error_of_each_step_is_that_of_the_bio_and_changes_nothing_else(op):
    device = await over_4k(faults=[FailOp(op=op)])
    with pytest.raises(BlockIOError) as caught:
        await write(device, 3, b"x" * 512)
    assert caught.value.errno == errno.EIO
    assert_nothing_is_held(device, disk_of(device))
    if op is Op.READ:
        with pytest.raises(BlockIOError):
            await read(device, 3, 512)


async def test_data_under_a_key_are_encrypted_above():
    key = make_key()
    device = await make_mapped("0 64 ebs b4 8 1", make_disk("b4", 128, block=4096), keys=[key])
    text = bytes(pattern(1024))
    await write(device, 3, text, key, 5)
    assert await read(device, 3, 1024, key, 5) == text
    assert await read(device, 3, 1024) != text


async def test_a_bio_that_is_not_aligned_to_the_emulated_block_is_refused():
    device = await make_mapped("0 64 ebs b4 8 2", make_disk("b4", 128, block=4096))
    with pytest.raises(BlockIOError):
        await submit_bio(device, read_at(1))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("d0 0 0", r"argument 3: emulated: 0 is not in 1\.\.8"),
        ("d0 0 16", r"argument 3: emulated: 16 is not in 1\.\.8"),
        ("d0 0 3", r"argument 3: emulated: 3 is not a power of two"),
        ("d0 0 1 3", r"argument 4: underlying: 3 is not a power of two"),
        ("b4 0 1 4", r"argument 4: underlying: 4 is less than 8 sectors, the block of b4"),
        (
            "d0 4 1 8",
            r"argument 2: offset:? 4:? is not a multiple of the underlying block of 8 sectors",
        ),
        (
            "b4 4 1",
            r"argument 2: offset:? 4:? is not a multiple of the underlying block of 8 sectors",
        ),
    ],
)
def test_bad_arguments_are_refused(words, text):
    with pytest.raises(TableError, match=f"^table line 1: ebs: {text}"):
        make(words)
