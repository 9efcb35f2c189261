"""What is special to thin-pool; the rest is in test_every_target.py."""

import errno

import pytest

from fusedm.block import Bio, Op
from fusedm.block.errors import TableError
from fusedm.crypto import submit_bio
from fusedm.dm import MappedDevice, parse_table
from tests.helpers.builders import make_disk, medium, pattern, read, write
from tests.helpers.devices import RecordingDevice, lookup_in
from tests.helpers.thin_stack import BLOCK, BLOCK_BYTES, Stack, refused, thin_status

DATA = bytes(pattern(8 * BLOCK_BYTES, 5))


async def test_a_metadata_device_of_zeros_is_made_a_new_pool():
    stack = await Stack().make()
    assert stack.status == "0 34/256 0/16 - rw discard_passdown queue_if_no_space - 64 "
    await stack.end()


async def test_a_pool_is_found_again():
    stack = await Stack().make()
    thin = await stack.thin(3)
    await write(thin, 0, DATA)
    await stack.end()
    again = await Stack(meta=stack.meta, data=stack.data).make()
    thin = await again.thin(3, new=False)
    assert await read(thin, 0, len(DATA)) == DATA
    await again.end()


async def test_a_metadata_device_of_something_else_is_refused():
    meta = make_disk("meta", 2048)
    await write(meta, 0, DATA[:4096])
    await refused(errno.EILSEQ, Stack(meta=meta).make())
    assert medium(meta, 0, 4096) == DATA[:4096]


async def test_a_table_and_its_features_are_printed_as_the_kernel_does():
    stack = await Stack("error_if_no_space Skip_Block_Zeroing", low_water=3).make()
    want = "0 2048 thin-pool meta data 128 3 2 skip_block_zeroing error_if_no_space "
    assert stack.table == want
    assert stack.status.split()[5:8] == ["discard_passdown", "error_if_no_space", "-"]
    await stack.end()


async def test_discards_are_not_passed_down_to_what_takes_none():
    data = make_disk("data", 16 * BLOCK)
    from dataclasses import replace

    data.limits = replace(data.limits, discard=False)
    stack = await Stack(data=data).make()
    assert "no_discard_passdown" in stack.status
    thin = await stack.thin(0)
    await write(thin, 0, DATA)
    await submit_bio(thin, Bio(Op.DISCARD, 0, 2 * BLOCK))
    assert await read(thin, 0, len(DATA)) == bytes(2 * BLOCK_BYTES) + DATA[2 * BLOCK_BYTES :]
    assert medium(data, 0, len(DATA)) == DATA
    await stack.end()


async def test_a_pool_that_ignores_discards_has_thin_devices_that_take_none():
    stack = await Stack("ignore_discard").make()
    thin = await stack.thin(0)
    await refused(errno.EOPNOTSUPP, submit_bio(thin, Bio(Op.DISCARD, 0, BLOCK)))
    assert "ignore_discard" in stack.status
    await stack.end()


# Messages.


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("create_thin 0", errno.EEXIST),
        ("create_thin 16777216", errno.EINVAL),
        ("create_thin x", errno.EINVAL),
        ("create_thin", errno.EINVAL),
        ("create_snap 0 0", errno.EEXIST),
        ("create_snap 1 9", errno.ENODATA),
        ("delete 0", errno.EBUSY),
        ("delete 9", errno.ENODATA),
        ("set_transaction_id 1 2", errno.EINVAL),
        ("release_metadata_snap", errno.EINVAL),
        ("nosuch", errno.EINVAL),
    ],
)
async def test_messages_are_refused_with_the_kernels_errnos(message, number):
    stack = await Stack().make()
    await stack.thin(0)
    await refused(number, stack.say(message))
    await stack.end()


async def test_a_message_is_committed():
    stack = await Stack().make()
    await stack.say("create_thin 0")
    await stack.say("SET_TRANSACTION_ID 0 5")
    assert not stack.inside.metadata.has_changes
    copy = make_disk("meta", 2048)
    await write(copy, 0, medium(stack.meta))
    again = await Stack(meta=copy).make()
    assert again.status.startswith("5 ")
    await again.thin(0, new=False)
    await again.end()
    await stack.end()


async def test_a_metadata_snapshot_is_held_until_it_is_released():
    stack = await Stack().make()
    await stack.say("reserve_metadata_snap")
    assert stack.status.split()[3] != "-"
    await refused(errno.EBUSY, stack.say("reserve_metadata_snap"))
    await stack.say("release_metadata_snap")
    assert stack.status.split()[3] == "-"
    await stack.end()


async def test_a_device_is_deleted_once_nobody_uses_it():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA)
    await stack.load(thin, f"0 {8 * BLOCK} thin pool 0")
    await refused(errno.EBUSY, stack.say("delete 0"))
    await thin.end()
    await stack.say("delete 0")
    assert stack.used == 0
    await refused(errno.ENODATA, stack.thin(0, new=False))
    await stack.pool.end()


# Tables.


async def test_a_new_table_takes_the_pool_over():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA)
    before = stack.inside
    stack.features, stack.low_water = "error_if_no_space", 5
    await stack.load(stack.pool, stack.line)
    assert stack.inside is before
    assert "error_if_no_space" in stack.status
    assert await read(thin, 0, len(DATA)) == DATA
    await stack.end()


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("thin-pool other data 128 0", errno.EINVAL),
        ("thin-pool meta other 128 0", errno.EBUSY),
        ("thin-pool meta data 128 0 1 ignore_discard", errno.EINVAL),
    ],
)
async def test_a_table_of_another_pool_is_refused(line, number):
    stack = Stack()
    stack.devices["other"] = make_disk("other", 2048)
    await stack.make()
    await refused(number, stack.only_load(stack.pool, f"0 2048 {line}"))
    await stack.end()


@pytest.mark.parametrize("words", ["meta other", "other data", "data other", "other meta"])
async def test_a_device_that_a_pool_uses_is_refused_to_another(words):
    stack = Stack()
    stack.devices["other"] = make_disk("other", 2048)
    await stack.make()
    second = MappedDevice("second")
    await refused(errno.EBUSY, stack.only_load(second, f"0 2048 thin-pool {words} 128 0"))
    await stack.end()


async def test_a_pool_that_was_only_loaded_has_its_devices_too():
    stack = Stack()
    await stack.only_load(stack.pool, stack.line)
    second = MappedDevice("second")
    await refused(errno.EBUSY, stack.only_load(second, stack.line))
    await stack.only_load(stack.pool, stack.line)
    await stack.pool.resume()
    await stack.end()


async def test_a_shorter_pool_is_refused_and_the_longer_goes_on():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await refused(errno.EINVAL, stack.load(stack.pool, f"0 1024 thin-pool meta data {BLOCK} 0"))
    await write(thin, 0, DATA)
    assert stack.status.split()[2] == "8/16"
    await stack.end()


async def test_a_longer_metadata_device_is_used():
    meta = make_disk("meta", 2048)
    stack = await Stack(meta=meta).make()
    await stack.end()
    longer = make_disk("meta", 4096)
    await write(longer, 0, medium(meta))
    again = await Stack(meta=longer, data=stack.data).make()
    assert again.status.split()[1].endswith("/512")
    assert again.status.split()[-1] == "128"
    await again.end()


async def test_a_thin_device_needs_a_pool_that_is_not_suspended():
    stack = await Stack().make()
    await stack.say("create_thin 0")
    await stack.pool.suspend()
    await refused(errno.EINVAL, stack.thin(0, new=False))
    await stack.pool.resume()
    thin = MappedDevice("thin")
    await refused(errno.EINVAL, stack.only_load(thin, "0 128 thin data 0"))
    await refused(errno.ENODATA, stack.only_load(thin, "0 128 thin pool 1"))
    await stack.pool.end()


async def test_a_read_only_pool_reads_and_writes_what_is_mapped():
    stack = await Stack().make()
    thin = await stack.thin(0)
    await write(thin, 0, DATA[:BLOCK_BYTES])
    stack.features = "read_only"
    await stack.load(stack.pool, stack.line)
    assert stack.mode == "ro"
    await write(thin, 4, DATA[:512])
    await refused(errno.EIO, write(thin, BLOCK, DATA[:512]))
    await refused(errno.EOPNOTSUPP, stack.say("create_thin 1"))
    await submit_bio(thin, Bio(Op.DISCARD, 0, BLOCK))
    assert thin_status(thin) == "128 127"
    stack.features = ""
    await stack.load(stack.pool, stack.line)
    await write(thin, BLOCK, DATA[:512])
    await stack.end()


# Arguments.

D = {"a": RecordingDevice("a", 4096), "b": RecordingDevice("b", 4096)}


@pytest.mark.parametrize(
    "words",
    [
        "a a 128 0",
        "a b 64 0",
        "a b 192 0",
        "a b 2097280 0",
        "a b 128 x",
        "a b 128 0 1",
        "a b 128 0 1 nosuch",
        "a b 128 0 5 read_only read_only read_only read_only read_only",
    ],
)
def test_wrong_arguments_are_refused(words):
    with pytest.raises(TableError, match="^table line 1: thin-pool: "):
        parse_table(f"0 2048 thin-pool {words}", lookup_in(*D.values()), lambda: 0.0)


# What a pool's table may be.


async def test_only_a_pool_or_errors_may_take_the_place_of_a_pool():
    stack = await Stack().make()
    with pytest.raises(TableError, match="linear cannot take the place of thin-pool") as caught:
        await stack.only_load(stack.pool, "0 64 linear data 0")
    assert caught.value.errno == errno.EINVAL
    await stack.only_load(stack.pool, "0 64 error\n64 64 linear data 0")
    await stack.only_load(stack.pool, stack.line)
    await stack.end()


async def test_a_pool_cannot_be_read_only():
    stack = Stack()
    table = parse_table(stack.line, lookup_in(stack.meta, stack.data), lambda: 0.0)
    with pytest.raises(TableError, match="thin-pool: cannot be in a read-only table") as caught:
        stack.pool.load(table, read_only=True)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("thin-pool a other 128 0", "data: a is the metadata device as well"),
        ("thin a 0 other", "external_origin: a is the pool itself"),
    ],
)
def test_one_device_by_two_names_is_one_device(line, text):
    device = RecordingDevice("a", 4096)
    with pytest.raises(TableError, match=text):
        parse_table(f"0 2048 {line}", lambda name: device, lambda: 0.0)
