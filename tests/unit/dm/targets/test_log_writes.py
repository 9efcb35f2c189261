"""What is special to log-writes; the rest is in tests/contracts/test_every_target.py."""

import errno
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError, TableError
from fusedm.crypto import submit_bio, submit_bio_nowait
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, format_table, parse_table
from fusedm.dm.targets import log_writes
from tests.helpers import write_log
from tests.helpers.builders import (
    load,
    make_disk,
    make_key,
    make_mapped,
    medium,
    pattern,
    read,
    write,
)
from tests.helpers.devices import RecordingDevice, lookup_in
from tests.helpers.logged_device import entries, flush, kinds, logged, mark, status
from tests.helpers.write_log import Entry, replayed


async def test_nothing_is_logged_before_the_first_flush():
    mapped, disk, log = await logged()
    await write(mapped, 8, pattern(1024))
    assert medium(disk, 8, 1024) == pattern(1024)
    assert not any(medium(log))
    assert status(mapped) == "0 0"


async def test_a_flush_logs_what_was_written_in_its_order_and_then_itself():
    mapped, _, log = await logged()
    await write(mapped, 9, pattern(1024))
    await write(mapped, 3, pattern(512, 1))
    await flush(mapped)
    assert entries(log) == [
        Entry("write", 9 * 512, 1024, bytes(pattern(1024)), ""),
        Entry("durable", 3 * 512, 512, bytes(pattern(512, 1)), ""),
        Entry("flush", 0, 0, b"", ""),
    ]
    assert status(mapped) == "3 6"


async def test_the_last_write_before_a_flush_is_durable_whatever_follows_it():
    mapped, _, log = await logged()
    for sector in (1, 2):
        await write(mapped, sector, pattern(512))
    await submit_bio(mapped, Bio(Op.DISCARD, 4, 3))
    await flush(mapped)
    await flush(mapped)
    await submit_bio(mapped, Bio(Op.DISCARD, 8, 1))
    await flush(mapped)
    assert kinds(log) == [
        *("write 1", "durable 2", "discard 4", "flush", "flush", "discard 8", "flush")
    ]


async def test_what_was_flushed_before_anything_was_written_is_not_logged():
    mapped, disk, log = await logged()
    await flush(mapped)
    assert (disk.stats.ios[3], status(mapped)) == (1, "0 0")
    await write(mapped, 1, pattern(512))
    await flush(mapped)
    assert kinds(log) == ["durable 1", "flush"]


async def test_a_flush_behind_a_mark_is_logged():
    mapped, _, log = await logged()
    await mark(mapped, "begin")
    await flush(mapped)
    assert kinds(log) == ["begin", "flush"]


async def test_the_log_has_the_format_that_replay_tools_read():
    mapped, _, log = await logged()
    await write(mapped, 2, pattern(512))
    await submit_bio(mapped, Bio(Op.DISCARD, 4, 3))
    await mark(mapped, "here")
    await flush(mapped)
    raw = medium(log, 0, 512 * 7)
    blocks = [raw[at : at + 512] for at in range(0, len(raw), 512)]
    head = "7268737766736a00 0100000000000000 0400000000000000 00020000"
    assert blocks[0] == bytes.fromhex(head).ljust(512, b"\0")
    assert blocks[1] == (bytes(16) + b"\x08" + bytes(7) + b"\x04" + bytes(7) + b"here").ljust(
        512, b"\0"
    )
    assert blocks[2] == (b"\x02" + bytes(7) + b"\x01" + bytes(7) + b"\x02" + bytes(15)).ljust(
        512, b"\0"
    )
    assert blocks[3] == pattern(512)
    assert blocks[4] == (b"\x04" + bytes(7) + b"\x03" + bytes(7) + b"\x04" + bytes(15)).ljust(
        512, b"\0"
    )
    assert blocks[5] == (bytes(16) + b"\x01" + bytes(15)).ljust(512, b"\0")
    assert not any(blocks[6])


async def test_places_are_counted_in_logical_blocks():
    mapped, _, log = await logged(block=4096)
    await write(mapped, 16, pattern(8192))
    await flush(mapped)
    raw = medium(log)
    assert int.from_bytes(raw[24:28], "little") == 4096
    assert raw[4096:4112] == bytes([2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    assert entries(log)[0] == Entry("durable", 8192, 8192, bytes(pattern(8192)), "")


async def test_a_mark_is_logged_at_once_and_leaves_what_is_not_flushed():
    mapped, _, log = await logged()
    await write(mapped, 8, bytes(512))
    await mark(mapped, "first")
    assert (kinds(log), status(mapped)) == (["first"], "1 1")
    await flush(mapped)
    assert kinds(log) == ["first", "durable 8", "flush"]


async def test_the_end_logs_what_is_left_and_a_mark():
    mapped, _, log = await logged()
    await write(mapped, 8, bytes(512))
    await mapped.end()
    assert kinds(log) == ["write 8", "dm-log-writes-end"]


async def test_another_table_ends_the_log():
    mapped, disk, log = await logged()
    await load(mapped, "0 64 linear d0 0", disk)
    await mapped.resume()
    assert kinds(log) == ["dm-log-writes-end"]


async def test_the_data_logged_are_those_of_the_moment_at_which_the_write_ended():
    mapped, _, log = await logged()
    data = pattern(512)
    await write(mapped, 8, data)
    data[:] = bytes(512)
    await flush(mapped)
    assert entries(log)[0].data == pattern(512)


async def test_reads_are_not_logged():
    mapped, _, log = await logged()
    await mark(mapped, "begin")
    await read(mapped, 8, 512)
    await flush(mapped)
    assert kinds(log) == ["begin", "flush"]


async def held_below(mapped: MappedDevice, disk: Disk, log: Disk) -> MappedDevice:
    """The device that is logged, as one that can be suspended."""
    held = await make_mapped("0 64 linear d0 0", disk, name="held")
    await load(mapped, "0 64 log-writes held d1", held, log)
    await mapped.resume()
    return held


async def test_a_write_that_ends_while_a_flush_is_under_way_is_logged_behind_it(nursery):
    mapped, disk, log = await logged()
    held = await held_below(mapped, disk, log)
    await write(mapped, 1, bytes(512))
    target = mapped.live.entries[0].target
    steps = target.map(FLUSH).steps()
    next(steps)
    await write(mapped, 2, bytes(512))
    for step in steps:
        await submit_bio(step.device, step.bio)
    await held.suspend()
    nursery.start_soon(flush, mapped)
    await wait_all_tasks_blocked()
    nursery.start_soon(flush, mapped)
    await wait_all_tasks_blocked()
    await held.resume()
    await wait_all_tasks_blocked()
    assert kinds(log) == ["durable 1", "flush", "durable 2", "flush", "flush"]


async def test_a_write_or_flush_that_failed_is_not_logged():
    mapped, disk, log = await logged()
    bad = await make_mapped("0 8 linear d0 0\n8 56 error", disk, name="bad")
    await load(mapped, "0 64 log-writes bad d1", bad, log)
    await mapped.resume()
    with pytest.raises(BlockIOError):
        await write(mapped, 8, bytes(512))
    await write(mapped, 1, bytes(512))
    await load(bad, "0 64 flakey d0 0 0 1 1 error_writes", disk)
    await bad.resume()
    with pytest.raises(BlockIOError):
        await flush(mapped)
    await load(bad, "0 64 linear d0 0", disk)
    await bad.resume()
    await flush(mapped)
    assert kinds(log) == ["durable 1", "flush"]


async def test_io_goes_on_when_the_log_is_full(caplog):
    mapped, disk, log = await logged(log=8)
    await write(mapped, 0, pattern(1024))
    await flush(mapped)
    assert status(mapped) == "2 4"
    await write(mapped, 2, pattern(1024))
    await flush(mapped)
    assert "log-writes over d0: logging stops: d1 is full" in caplog.text
    caplog.clear()
    assert status(mapped).endswith(" logging_disabled")
    await write(mapped, 4, pattern(512))
    await submit_bio(mapped, FLUSH)
    await mark(mapped, "lost")
    await mapped.end()
    assert medium(disk, 2, 1024) == pattern(1024)
    assert kinds(log) == ["durable 0", "flush"]


async def test_io_goes_on_when_the_log_fails(caplog):
    disk = make_disk("d0", 64)
    broken = await make_mapped("0 64 error", name="d1")
    mapped = await make_mapped("0 64 log-writes d0 d1", disk, broken)
    await write(mapped, 0, pattern(1024))
    await flush(mapped)
    assert "log-writes over d0: logging stops: d1: write of sectors 1..4" in caplog.text
    caplog.clear()
    assert medium(disk, 0, 1024) == pattern(1024)
    assert status(mapped).endswith(" logging_disabled")


async def test_when_too_much_is_not_flushed_it_is_logged_before_the_next_write(monkeypatch):
    monkeypatch.setattr(log_writes, "MAX_UNFLUSHED_BYTES", 4000)
    mapped, disk, log = await logged()
    target = mapped.live.entries[0].target
    for sector in range(20):
        await write(mapped, sector, pattern(512, sector))
        assert target.log.unflushed_bytes <= 5120
    assert target.log.entry_count == 18
    await flush(mapped)
    assert kinds(log) == [*(f"write {sector}" for sector in range(19)), "durable 19", "flush"]
    assert replayed(bytes(64 * 512), entries(log)) == medium(disk)


async def test_the_last_write_is_kept_for_its_flush_however_much_is_kept(monkeypatch):
    monkeypatch.setattr(log_writes, "MAX_UNFLUSHED_BYTES", 600)
    mapped, _, log = await logged()
    for sector in range(3):
        await write(mapped, sector, pattern(512))
    await flush(mapped)
    assert kinds(log) == ["write 0", "write 1", "durable 2", "flush"]


@pytest.mark.parametrize("seed", range(4))
async def test_a_replay_up_to_each_mark_is_the_device_at_that_time(seed):
    random = Random(seed)
    mapped, disk, log = await logged()
    images = {}

    async def worker(own: int) -> None:
        for _ in range(random.randrange(1, 8)):
            sector = random.randrange(own * 16, own * 16 + 15)
            if random.randrange(4):
                await write(
                    mapped,
                    sector,
                    random.randbytes(512 * random.randrange(1, 3))
                    if sector < own * 16 + 14
                    else bytes(512),
                )
            elif random.randrange(2):
                await submit_bio(mapped, Bio(Op.DISCARD, sector, 1))
            else:
                await flush(mapped)
            await trio.lowlevel.checkpoint()

    for number in range(10):
        async with trio.open_nursery() as nursery:
            for own in range(4):
                nursery.start_soon(worker, own)
        await flush(mapped)
        await mark(mapped, f"mark-{number}")
        images[f"mark-{number}"] = medium(disk)
    await mapped.end()
    image, found = bytearray(64 * 512), []
    for entry in entries(log):
        write_log.apply(image, entry)
        if entry.text in images:
            found.append(entry.text)
            assert image == images[entry.text]
    assert found == list(images)


async def test_what_is_logged_under_a_key_is_ciphertext():
    disk, log, key = make_disk("d0", 64, slots=2), make_disk("d1", 64), make_key()
    mapped = await make_mapped("0 64 log-writes d0 d1", disk, log, keys=[key])
    await write(mapped, 8, pattern(512), key)
    await flush(mapped)
    assert entries(log)[0].data == medium(disk, 8, 512) != pattern(512)


def test_a_write_is_linear_and_may_be_done_on_the_spot():
    devices = RecordingDevice("d0", 64), RecordingDevice("d1", 64)
    mapped = MappedDevice("dm0")
    mapped.load(parse_table("0 64 log-writes d0 d1", lookup_in(*devices), lambda: 0.0))
    trio.run(mapped.resume)
    bio = Bio.write(5, memoryview(bytes(512)))
    submit_bio_nowait(mapped, bio)
    assert devices[0].performed == [bio]


async def test_a_discard_is_logged_although_the_device_takes_none():
    log, key = make_disk("d1", 4096), bytes(range(1, 65)).hex()
    below = await make_mapped(
        f"0 64 crypt aes-xts-plain64 {key} 0 d0 0", make_disk("d0", 64), name="c"
    )
    mapped = await make_mapped("0 64 log-writes c d1", below, log)
    await write(mapped, 8, pattern(512))
    await submit_bio(mapped, Bio(Op.DISCARD, 8, 8))
    await flush(mapped)
    assert bytes(await read(mapped, 8, 512)) == pattern(512)
    assert kinds(log) == ["durable 8", "discard 8", "flush"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["mark"], "log-writes: message 'mark' is not: mark TEXT"),
        (["mark", "a", "b"], "log-writes: message 'mark a b' is not: mark TEXT"),
        (["nosuch", "x"], "log-writes: message 'nosuch x' is not: mark TEXT"),
        (["mark", "x" * 480], "log-writes: a mark of 480 bytes: at most 479"),
    ],
)
async def test_another_message_is_einval(words, why):
    mapped, _, _ = await logged()
    with pytest.raises(StackError) as caught:
        await mapped.message(0, words)
    assert (str(caught.value), caught.value.errno) == (why, errno.EINVAL)
    assert status(mapped) == "0 0"


async def test_the_longest_mark_fits_its_block():
    mapped, _, log = await logged()
    await mark(mapped, "x" * 479)
    assert kinds(log) == ["x" * 479]


async def test_the_table_names_both_devices():
    mapped, disk, log = await logged()
    assert format_table(mapped.live) == "0 64 log-writes d0 d1"
    assert mapped.live.devices() == [disk, log]


@pytest.mark.parametrize(
    ("words", "number", "text"),
    [
        ("d0 d0", errno.EINVAL, r"argument 2: logdev: the log is written to dev 'd0' itself"),
        ("d0 d9", errno.ENXIO, r"argument 2: logdev: no device is named 'd9'"),
        ("d9 d0", errno.ENXIO, r"argument 1: dev: no device is named 'd9'"),
    ],
)
def test_bad_arguments_are_refused(words, number, text):
    with pytest.raises(TableError, match=f"^table line 1: log-writes: {text}$") as caught:
        parse_table(f"0 64 log-writes {words}", lookup_in(RecordingDevice("d0", 64)), lambda: 0.0)
    assert caught.value.errno == number
