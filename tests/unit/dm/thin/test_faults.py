"""Pools on devices that fail, at each step, and power that is cut."""

import errno
import shutil
import subprocess
from random import Random

import pytest
import trio

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.bio import FUA
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice
from fusedm.stores import FailOp, FaultyStore, MemoryStore, VolatileCacheStore
from tests.helpers.builders import contents, make_disk, pattern, read, write
from tests.helpers.thin_stack import (
    BLOCK,
    BLOCK_BYTES,
    METADATA_SECTORS,
    Stack,
    refused,
    thin_status,
)

NEW = bytes(pattern(4 * BLOCK_BYTES, 7))
OLD = bytes(pattern(4 * BLOCK_BYTES, 8))


def fail(disk, *rules) -> None:
    """Have calls of a disk's store fail from now on, or none."""
    inner = disk.store.inner if isinstance(disk.store, FaultyStore) else disk.store
    disk.store = FaultyStore(inner, 0, rules)


async def test_a_write_that_fails_maps_nothing_and_takes_no_block():
    stack = await Stack().make()
    thin = await stack.thin(0)
    fail(stack.data, FailOp(op=Op.WRITE))
    await refused(errno.EIO, write(thin, 0, NEW[:512]))
    fail(stack.data)
    assert thin_status(thin) == "0 -"
    await stack.say("set_transaction_id 0 0")
    assert stack.used == 0
    await write(thin, 0, NEW)
    await stack.end()


async def test_a_shared_block_that_cannot_be_read_stays_shared():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, OLD[:BLOCK_BYTES])
    await stack.say("create_snap 1 0")
    fail(stack.data, FailOp(op=Op.READ))
    await refused(errno.EIO, write(thin, 0, NEW[:512]))
    fail(stack.data)
    assert await read(thin, 0, BLOCK_BYTES) == OLD[:BLOCK_BYTES]
    await write(thin, 0, NEW[:512])
    await stack.end()


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_commit_that_fails_makes_the_pool_read_only(nth):
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, OLD[:BLOCK_BYTES])
    await submit_bio(thin, FLUSH)
    await write(thin, BLOCK, NEW[:BLOCK_BYTES])
    fail(stack.meta, FailOp(op=Op.WRITE, nth=nth))
    await refused(errno.EIO, submit_bio(thin, FLUSH))
    assert stack.mode == "ro"
    assert "needs_check" in stack.status
    # What was given up is told of again and again; what was committed is there.
    await refused(errno.EIO, submit_bio(thin, FLUSH))
    assert await read(thin, 0, BLOCK_BYTES) == OLD[:BLOCK_BYTES]
    assert await read(thin, BLOCK, BLOCK_BYTES) == bytes(BLOCK_BYTES)
    await refused(errno.EIO, write(thin, 2 * BLOCK, NEW[:512]))
    await write(thin, 4, NEW[:512])
    await refused(errno.EOPNOTSUPP, stack.say("create_thin 1"))
    # A new table does not help.
    await stack.load(stack.pool, stack.line)
    assert stack.mode == "ro"
    await stack.end()


async def test_data_that_cannot_be_flushed_fail_the_commit():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[:BLOCK_BYTES])
    fail(stack.data, FailOp(op=Op.FLUSH))
    await refused(errno.EIO, submit_bio(thin, FLUSH))
    assert stack.mode == "ro"
    assert await read(thin, 0, BLOCK_BYTES) == bytes(BLOCK_BYTES)
    await stack.end()


async def test_a_pool_that_cannot_be_marked_has_failed():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[:BLOCK_BYTES])
    fail(stack.meta, FailOp(op=Op.WRITE))
    await refused(errno.EIO, submit_bio(thin, FLUSH))
    assert stack.status == thin_status(thin) == "Fail"
    await refused(errno.EIO, read(thin, 0, 512))
    await refused(errno.EIO, submit_bio(thin, FLUSH))
    await refused(errno.EIO, submit_bio(thin, Bio(Op.DISCARD, 0, BLOCK)))
    await refused(errno.EOPNOTSUPP, stack.say("create_thin 1"))
    await refused(errno.EINVAL, stack.load(thin, "0 128 thin pool 0"))
    fail(stack.meta)
    await stack.load(stack.pool, stack.line)
    assert stack.status == "Fail"
    await stack.end()


async def test_metadata_that_cannot_be_read_refuse_the_table():
    stack = Stack()
    fail(stack.meta, FailOp(op=Op.READ))
    await refused(errno.EIO, stack.make())


async def test_a_commit_that_fails_in_the_background_is_seen_in_the_status(autojump_clock):
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[:512])
    fail(stack.meta, FailOp(op=Op.WRITE, nth=1))
    await trio.sleep(3)
    assert stack.mode == "ro"
    assert stack.pool.event_number == 1
    await stack.end()


async def test_a_discard_that_fails_below_unmaps_all_the_same():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW)
    fail(stack.data, FailOp(op=Op.DISCARD))
    await submit_bio(thin, Bio(Op.DISCARD, 0, 2 * BLOCK))
    assert await read(thin, 0, len(NEW)) == bytes(2 * BLOCK_BYTES) + NEW[2 * BLOCK_BYTES :]
    await submit_bio(thin, FLUSH)
    assert stack.used == 2
    await stack.end()


async def test_fua_makes_the_mapping_durable_too():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await submit_bio(thin, Bio.write(0, memoryview(NEW[:512]), flags=FUA))
    assert not stack.inside.metadata.has_changes
    await write(thin, BLOCK, NEW[:512])
    await submit_bio(thin, Bio.write(0, memoryview(NEW[:512]), flags=FUA))
    assert not stack.inside.metadata.has_changes
    await write(thin, 2 * BLOCK, NEW[:512])
    fail(stack.meta, FailOp(op=Op.WRITE, nth=1))
    await refused(errno.EIO, submit_bio(thin, Bio.write(0, memoryview(NEW[:512]), flags=FUA)))
    await stack.end()


async def test_without_room_for_metadata_the_pool_is_read_only_until_it_has_some():
    stack = Stack()
    stack.devices["disk"] = make_disk("disk", 8 * 256)
    stack.devices["meta"] = meta = MappedDevice("meta")
    await stack.load(meta, f"0 {8 * 128} linear disk 0")
    await stack.make()
    thin = await stack.thin(0)
    number = 0
    while stack.mode == "rw":
        number += 1
        await stack.say(f"create_thin {number}")
    assert stack.mode == "ro"
    assert "needs_check" not in stack.status
    await refused(errno.EIO, write(thin, 0, NEW[:512]))
    await refused(errno.EOPNOTSUPP, stack.say("create_thin 1000"))
    await stack.load(meta, f"0 {8 * 256} linear disk 0")
    await stack.load(stack.pool, stack.line)
    assert stack.mode == "rw"
    await write(thin, 0, NEW[:512])
    await stack.end()


async def test_a_commit_that_was_cut_off_is_given_up():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, NEW[:512])
    commit = stack.inside.commit()
    next(commit)
    commit.close()
    # Data are flushed first, which can be done again.
    await write(thin, BLOCK, NEW[:512])
    commit = stack.inside.commit()
    next(commit)
    next(commit)
    commit.close()
    await refused(errno.EIO, write(thin, 2 * BLOCK, NEW[:512]))
    assert stack.mode == "ro"
    await stack.end()


def thin_check(meta, folder) -> None:
    """What Debian's tools say of some metadata."""
    program = shutil.which("thin_check", path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        pytest.skip("thin-provisioning-tools are not here")
    image = folder / "meta"
    image.write_bytes(contents(meta))
    result = subprocess.run([program, str(image)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("seed", range(12))
async def test_a_power_cut_loses_nothing_that_was_flushed(seed, tmp_path, autojump_clock):
    """Both devices lose what they like of what was not flushed, at any moment."""
    random = Random(seed)
    inner = MemoryStore(METADATA_SECTORS * 512), MemoryStore(32 * BLOCK_BYTES)
    stores = [VolatileCacheStore(store, seed) for store in inner]
    disks = [
        make_disk(name, store=store) for name, store in zip(("meta", "data"), stores, strict=True)
    ]
    stack = await Stack(blocks=32, meta=disks[0], data=disks[1]).make()
    thins = {0: await stack.thin(0)}
    #: By device: what was flushed, and what may be there instead, block of 4 KiB by block.
    flushed = {0: bytearray(8 * BLOCK_BYTES)}
    maybe: dict[int, dict[int, set[bytes]]] = {0: {}}
    for number in range(random.randint(5, 40)):
        name = random.choice(list(thins))
        thin = thins[name]
        match random.choice(("write", "write", "write", "flush", "snapshot", "discard", "wait")):
            case "write":
                at, count = random.randrange(100), random.randint(1, 28)
                data = random.randbytes(count * 4096)
                await write(thin, at * 8, data)
                for index in range(count):
                    piece = data[index * 4096 : (index + 1) * 4096]
                    maybe[name].setdefault(at + index, set()).add(piece)
            case "discard":
                block = random.randrange(8)
                await submit_bio(thin, Bio(Op.DISCARD, block * BLOCK, BLOCK))
                for index in range(block * 16, block * 16 + 16):
                    maybe[name].setdefault(index, set()).add(bytes(4096))
            case "flush":
                await submit_bio(thin, FLUSH)
                flushed[name][:] = await read(thin, 0, 8 * BLOCK_BYTES)
                maybe[name].clear()
            case "snapshot" if len(thins) < 3:
                await submit_bio(thin, FLUSH)
                flushed[name][:] = await read(thin, 0, 8 * BLOCK_BYTES)
                maybe[name].clear()
                await stack.say(f"create_snap {number + 1} {name}")
                thins[number + 1] = await stack.thin(number + 1, new=False)
                flushed[number + 1], maybe[number + 1] = bytearray(flushed[name]), {}
            case "wait":
                await trio.sleep(1.5)
    for store in stores:
        store.lose_power("random")
    copies = [
        make_disk(name, store=MemoryStore(store.size))
        for name, store in zip(("meta", "data"), inner, strict=True)
    ]
    for copy, store in zip(copies, inner, strict=True):
        await write(copy, 0, contents(store))
    await stack.end()
    thin_check(copies[0].store, tmp_path)
    again = await Stack(blocks=32, meta=copies[0], data=copies[1]).make()
    for name in thins:
        found = await read(await again.thin(name, new=False), 0, 8 * BLOCK_BYTES)
        for index in range(8 * 16):
            piece = found[index * 4096 : (index + 1) * 4096]
            kept = bytes(flushed[name][index * 4096 : (index + 1) * 4096])
            assert piece == kept or index in maybe[name], f"{index} of {name}"
    await again.end()
