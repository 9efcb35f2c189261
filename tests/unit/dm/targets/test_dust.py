"""What is special to dust; the rest is in tests/contracts/test_every_target.py."""

import errno

import pytest

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError, Status, TableError
from fusedm.crypto import submit_bio
from fusedm.dm import Fail, MappedDevice, Remap, Target, format_status, format_table, parse_table
from tests.helpers.builders import make_disk, make_mapped, pattern, read, write
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096)
EIO = Fail(Status.IOERR)


def make(words: str) -> Target:
    return parse_table(f"0 1024 dust {words}", lookup_in(D0), lambda: 0.0).entries[0].target


async def dusty(words: str = "d0 0 512", *messages: str) -> MappedDevice:
    mapped = await make_mapped(f"0 64 dust {words}", make_disk("d0", 128))
    for text in ("enable", *messages):
        assert await mapped.message(0, text.split()) == ""
    return mapped


async def tell(mapped: MappedDevice, text: str) -> str:
    return await mapped.message(0, text.split())


async def fails(mapped: MappedDevice, bio: Bio) -> bool:
    try:
        await submit_bio(mapped, bio)
    except BlockIOError as error:
        return error.errno == errno.EIO
    return False


def read_bio(sector: int, sectors: int = 1) -> Bio:
    return Bio.read(sector, memoryview(bytearray(sectors * 512)))


def write_bio(sector: int, sectors: int = 1) -> Bio:
    return Bio.write(sector, memoryview(bytes(sectors * 512)))


async def test_bad_blocks_are_not_minded_until_it_is_enabled():
    mapped = await make_mapped("0 64 dust d0 0 512", make_disk("d0", 64))
    await tell(mapped, "addbadblock 5")
    assert not await fails(mapped, read_bio(5))
    assert not await fails(mapped, write_bio(5))
    await tell(mapped, "enable")
    assert await fails(mapped, read_bio(5))
    await tell(mapped, "disable")
    assert not await fails(mapped, read_bio(5))


async def test_a_bad_block_cannot_be_read_and_its_neighbours_can():
    mapped = await dusty("d0 0 512", "addbadblock 5")
    assert [await fails(mapped, read_bio(sector)) for sector in (4, 5, 6)] == [False, True, False]
    assert await fails(mapped, read_bio(0, 8))


async def test_a_write_makes_a_bad_block_good():
    mapped = await dusty("d0 0 512", "addbadblock 5")
    await write(mapped, 5, pattern(512))
    assert await read(mapped, 5, 512) == pattern(512)
    assert await tell(mapped, "countbadblocks") == "countbadblocks: 0 badblock(s) found"


async def test_as_many_writes_fail_as_it_was_told():
    mapped = await dusty("d0 0 512", "addbadblock 5 3")
    assert [await fails(mapped, write_bio(5)) for _ in range(4)] == [True, True, True, False]
    assert not await fails(mapped, read_bio(5))


async def test_a_write_of_several_blocks_is_one_to_each():
    mapped = await dusty("d0 0 512", "addbadblock 5", "addbadblock 6 1")
    assert await fails(mapped, write_bio(4, 4))
    assert await tell(mapped, "listbadblocks") == "6\n"
    assert not await fails(mapped, write_bio(4, 4))
    assert not await fails(mapped, read_bio(4, 4))


async def test_a_write_that_fails_below_leaves_the_block_bad():
    mapped = await make_mapped("0 64 dust e 0 512", await make_mapped("0 64 error", name="e"))
    await tell(mapped, "enable")
    await tell(mapped, "addbadblock 5")
    assert await fails(mapped, write_bio(5))
    assert await tell(mapped, "listbadblocks") == "5\n"


async def test_blocks_are_numbered_on_the_device_below():
    mapped = await dusty("d0 16 1024", "addbadblock 10")
    assert [await fails(mapped, read_bio(sector)) for sector in (3, 4, 5, 6)] == [
        False,
        True,
        True,
        False,
    ]


async def test_a_discard_is_a_write_to_the_block_of_its_first_sector():
    mapped = await dusty("d0 0 512", "addbadblock 5 1", "addbadblock 6")
    assert await fails(mapped, Bio(Op.DISCARD, 5, 2))
    assert not await fails(mapped, Bio(Op.DISCARD, 5, 2))
    assert await tell(mapped, "listbadblocks") == "6\n"


async def test_a_flush_touches_no_block():
    mapped = await dusty("d0 0 512", "addbadblock 0 1", "addbadblock 1")
    assert not await fails(mapped, FLUSH)
    assert await tell(mapped, "listbadblocks") == "0\n1\n"
    assert await fails(mapped, write_bio(0))


def test_reads_and_writes_are_split_at_blocks():
    assert make("d0 0 4096").max_io_sectors == 8


def test_without_bad_blocks_it_is_linear():
    target = make("d0 10 512")
    bio = write_bio(5, 8)
    assert target.map(bio) == Remap(D0, bio.remap(15))
    assert target.map(FLUSH) == Remap(D0, FLUSH)


# Messages: the words and replies of the kernel's.


async def test_the_replies_are_the_kernels():
    mapped = await dusty("d0 0 512")
    replies = [
        ("countbadblocks", "countbadblocks: 0 badblock(s) found"),
        ("listbadblocks", "No blocks in badblocklist"),
        ("addbadblock 60", ""),
        ("AddBadBlock 7 3", ""),
        ("queryblock 60", "dust_query_block: block 60 found in badblocklist"),
        ("queryblock 61", "dust_query_block: block 61 not found in badblocklist"),
        ("listbadblocks", "7\n60\n"),
        ("countbadblocks", "countbadblocks: 2 badblock(s) found"),
        ("removebadblock 60", ""),
        ("listbadblocks", "7\n"),
        ("clearbadblocks", "dust_clear_badblocks: badblocks cleared"),
        ("clearbadblocks", "dust_clear_badblocks: no badblocks found"),
        ("addbadblock 128", ""),
    ]
    assert [(text, await tell(mapped, text)) for text, _ in replies] == replies


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("addbadblock 5", "dust: block 5 is bad already"),
        ("removebadblock 6", "dust: block 6 is not bad"),
        ("addbadblock 129", "dust: block 129 is past d0 (128)"),
        ("removebadblock 129", "dust: block 129 is past d0 (128)"),
        ("queryblock 129", "dust: block 129 is past d0 (128)"),
        ("addbadblock 6 256", "dust: 256 failures of writes is not in 0..255"),
        ("addbadblock x", "dust: 'x' is not a number"),
        ("addbadblock 6 -1", "dust: '-1' is not a number"),
        ("addbadblock", "dust: message 'addbadblock' is not one of: addbadblock B [FAILS], "),
        ("removebadblock 5 1", "dust: message 'removebadblock 5 1' is not one of: "),
        ("addbadblock 5 1 1", "dust: message 'addbadblock 5 1 1' is not one of: "),
        ("enable 1", "dust: message 'enable 1' is not one of: "),
        ("nosuch", "dust: message 'nosuch' is not one of: "),
    ],
)
async def test_a_bad_message_is_einval_and_changes_nothing(text, why):
    mapped = await dusty("d0 0 512", "addbadblock 5")
    with pytest.raises(StackError) as caught:
        await tell(mapped, text)
    assert str(caught.value).startswith(why)
    assert caught.value.errno == errno.EINVAL
    assert await tell(mapped, "listbadblocks") == "5\n"


async def test_the_status_is_the_device_and_two_switches():
    mapped = await make_mapped("0 64 dust d0 0 512", make_disk("d0", 64))
    seen = [format_status(mapped.live)]
    for text in ("enable", "quiet", "disable", "quiet"):
        await tell(mapped, text)
        seen.append(format_status(mapped.live).removeprefix("0 64 dust "))
    assert seen == [
        "0 64 dust d0 bypass verbose",
        "d0 fail_read_on_bad_block verbose",
        "d0 fail_read_on_bad_block quiet",
        "d0 bypass quiet",
        "d0 bypass verbose",
    ]
    assert format_table(mapped.live) == "0 64 dust d0 0 512"


async def test_what_becomes_bad_or_good_is_logged_unless_it_is_quiet(caplog):
    caplog.set_level("INFO")
    mapped = await dusty("d0 0 512", "addbadblock 5 1", "quiet", "addbadblock 6", "quiet")
    await tell(mapped, "removebadblock 5")
    await write(mapped, 6, bytes(512))
    assert [record.getMessage() for record in caplog.records] == [
        "dust over d0: block 5 is bad, 1 writes to it fail",
        "dust over d0: block 5 is good again",
        "dust over d0: block 6 is good again, it was written",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("d0 0 256", r"argument 3: blksz: 256 is not in 512\.\.524288 bytes .*"),
        ("d0 0 1048576", r"argument 3: blksz: 1048576 is not in 512\.\.524288 bytes"),
        ("d0 0 1536", r"argument 3: blksz: 1536 is not a power of two"),
        ("d9 0 512", r"argument 1: dev: no device is named 'd9'"),
        ("d0 x 512", r"argument 2: offset: 'x' is not a number of sectors"),
    ],
)
def test_bad_arguments_are_einval_also_a_device_that_is_not_there(words, text):
    with pytest.raises(TableError, match=f"^table line 1: dust: {text}$") as caught:
        make(words)
    assert caught.value.errno == errno.EINVAL
