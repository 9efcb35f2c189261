"""What is special to delay; the rest is in tests/contracts/test_every_target.py."""

from dataclasses import replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, Bio, Op
from fusedm.block.errors import TableError
from fusedm.crypto import submit_bio
from fusedm.dm import (
    Action,
    Defer,
    Many,
    Remap,
    Target,
    format_status,
    parse_table,
)
from tests.helpers.builders import make_disk, make_mapped, read_bio, write_bio
from tests.helpers.devices import RecordingDevice, lookup_in

DEVICES = [RecordingDevice(name, 4096) for name in ("d0", "d1", "d2")]
D0, D1, D2 = DEVICES
DISCARD = Bio(Op.DISCARD, 5, 8)
READ = Bio.read(5, memoryview(bytearray(512)))
WRITE = Bio.write(5, memoryview(bytes(512)))


def make(words: str) -> Target:
    table = parse_table(f"0 1024 delay {words}", lookup_in(*DEVICES), lambda: 0.0)
    return table.entries[0].target


def to(device: RecordingDevice, offset: int, bio: Bio) -> Remap:
    return Remap(device, bio if bio is FLUSH else bio.remap(bio.sector + offset))


def mapped(target: Target, bio: Bio) -> Action:
    """What becomes of the bio, without the note of its wait."""
    action = target.map(bio)
    return replace(action, note=None) if isinstance(action, Defer) else action


@pytest.mark.parametrize("bio", [READ, WRITE, DISCARD, FLUSH], ids=str)
def test_three_arguments_are_for_every_bio(bio):
    assert mapped(make("d0 10 1500"), bio) == Defer(1.5, to(D0, 10, bio))


@pytest.mark.parametrize("bio", [WRITE, DISCARD, FLUSH], ids=str)
def test_six_arguments_part_writes_from_reads(bio):
    target = make("d0 10 1500 d1 20 250")
    assert mapped(target, READ) == Defer(1.5, to(D0, 10, READ))
    assert mapped(target, bio) == Defer(0.25, to(D1, 20, bio))


def test_nine_arguments_part_flushes_as_well():
    target = make("d0 10 1500 d1 20 250 d1 30 1")
    assert mapped(target, READ) == Defer(1.5, to(D0, 10, READ))
    assert mapped(target, WRITE) == Defer(0.25, to(D1, 20, WRITE))
    assert mapped(target, FLUSH) == Defer(0.001, to(D1, 30, FLUSH))


def test_a_flush_goes_to_the_device_of_the_writes_too():
    target = make("d0 10 0 d1 20 0 d2 30 7")
    assert mapped(target, FLUSH) == Defer(0.007, Many((to(D1, 20, FLUSH), to(D2, 30, FLUSH))))


async def test_the_status_is_how_many_reads_writes_and_flushes_wait(autojump_clock, nursery):
    mapped = await make_mapped("0 64 delay d0 0 1000 d0 0 2000 d0 0 3000", make_disk("d0", 64))
    assert format_status(mapped.live) == "0 64 delay 0 0 0"
    bios = [read_bio(0, 512)[0], read_bio(8, 512)[0], write_bio(0, bytes(512)), FLUSH]
    for bio in bios:
        nursery.start_soon(submit_bio, mapped, bio)
    await wait_all_tasks_blocked()
    assert format_status(mapped.live) == "0 64 delay 2 1 1"
    await trio.sleep(1.5)
    assert format_status(mapped.live) == "0 64 delay 0 1 1"
    await mapped.suspend()
    assert format_status(mapped.live) == "0 64 delay 0 0 0"


def test_no_delay_goes_straight_on():
    assert make("d0 10 0").map(READ) == to(D0, 10, READ)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 7, 8, 10, 12])
def test_other_numbers_of_arguments_are_refused(count):
    words = " ".join(["d0", "0", "0"] * 4).split()[:count]
    with pytest.raises(TableError, match=f"line 1: delay: {count} arguments: it takes 3, 6 or 9"):
        make(" ".join(words))


def test_a_delay_longer_than_the_kernel_can_is_refused():
    with pytest.raises(TableError, match=r"argument 3: ms: 4294967296 is not in 0\.\.429496729"):
        make("d0 0 4294967296")
