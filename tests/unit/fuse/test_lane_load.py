"""The lane under load: requests that never pause, its helper, and changes and ends meanwhile."""

import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from random import Random

import pytest
import trio

from fusedm.block.errors import KeyBusy
from fusedm.crypto import evict_key
from fusedm.fuse.lane import MAX_REPLY_SIZE
from fusedm.stores import MemoryStore
from fusedm.system import System
from tests.helpers import reference_xts
from tests.helpers.builders import contents, make_disk, make_key, memory_file, pattern
from tests.helpers.express_loop import add_disk, add_mapped, swap
from tests.helpers.lane_kernel import (
    TEXT,
    Ends,
    done,
    failed,
    read_request,
    request,
    running,
    write_request,
    written,
)

SIZE = 1 << 18
SECTORS = SIZE // 512
GETATTR = 3
ONE, OTHER, FINE, RAW = 10, 11, 12, 13
#: Requests on the way at once.
WINDOW = 16


def ask_all(ends: Ends, messages: Iterable[bytes]) -> dict[int, bytes]:
    """Send requests, always some at once, and take their replies; those come once each."""
    replies: dict[int, bytes] = {}
    asking = ends.socket.dup()
    asking.setblocking(True)
    asking.settimeout(10)
    with asking:
        on_the_way = 0
        for message in messages:
            if on_the_way == WINDOW:
                keep_one(asking, replies)
                on_the_way -= 1
            asking.send(message)
            on_the_way += 1
        for _ in range(on_the_way):
            keep_one(asking, replies)
    return replies


def keep_one(asking: socket.socket, replies: dict[int, bytes]) -> None:
    reply = asking.recv(MAX_REPLY_SIZE)
    (unique,) = struct.unpack_from("=Q", reply, 8)
    assert unique not in replies, f"request {unique} was answered twice"
    replies[unique] = reply


async def make_ends() -> Ends:
    """Two disks with one keyslot each, a device over the first, and views under three keys."""
    system = System()
    for name in ("d0", "d1"):
        add_disk(system, make_disk(name, SECTORS, slots=1))
    await add_mapped(system, "dm0", f"0 {SECTORS} linear d0 0")
    for name, unit in (("one", 4096), ("other", 4096), ("fine", 512)):
        system.add_key(make_key(name, unit))
        system.add_view(name, "dm0", name)
    return Ends(system, {ONE: "one", OTHER: "other", FINE: "fine", RAW: "dm0"})


def plain(ends: Ends, handle: int, disk: str = "d0") -> bytes:
    """What a file shows while it lies on a disk, by the reference."""
    raw = contents(ends.system.disks[disk].store)
    if handle == RAW:
        return raw
    key = ends.system.keys[{ONE: "one", OTHER: "other", FINE: "fine"}[handle]]
    return reference_xts.decrypt(bytes(key.raw), key.config.data_unit_size, 0, raw)


@contextmanager
def no_thread_left() -> Iterator[None]:
    before = {thread for thread in threading.enumerate() if thread.name.startswith("fusedm-")}
    yield
    left = {thread for thread in threading.enumerate() if thread.name.startswith("fusedm-")}
    assert left <= before


def some_reads(content: dict[int, bytes], count: int, seed: int) -> dict[int, tuple[bytes, bytes]]:
    """READs by their number, mostly of whole blocks, each with its reply."""
    random, some = Random(seed), {}
    for unique in range(count):
        handle = random.choice(list(content))
        offset, size = random.randrange(SIZE // 4096) * 4096, random.choice([4096, 512, 16384])
        if random.random() < 0.1:
            offset, size = offset + 100, 1000
        reply = done(unique, content[handle][offset : offset + size])
        some[unique] = read_request(handle, unique, offset, size), reply
    return some


# With ciphers, and with requests for others between them.


@pytest.mark.parametrize("handles", [[RAW], [ONE], [FINE, RAW, TEXT], [ONE, OTHER]], ids=str)
async def test_every_read_of_many_is_answered_once_and_right(handles: list[int]) -> None:
    """Two keys have one keyslot: it is programmed anew all the time."""
    ends = await make_ends()
    content = {handle: plain(ends, handle) for handle in handles if handle != TEXT}
    if TEXT in handles:
        content[TEXT] = b"0123456789\n"
    some = some_reads(content, 600, len(handles))
    async with running(ends):
        messages = [message for message, _ in some.values()]
        replies = await trio.to_thread.run_sync(ask_all, ends, messages)
    assert replies == {unique: reply for unique, (_, reply) in some.items()}
    ends.close()


async def test_writes_of_many_through_views_all_arrive() -> None:
    ends = await make_ends()
    data = {ONE: bytes(pattern(SIZE // 2, 1)), FINE: bytes(pattern(SIZE // 2, 2))}
    messages = []
    for at in range(0, SIZE // 2, 4096):
        messages.append(write_request(ONE, at, at, data[ONE][at : at + 4096]))
        begin = SIZE // 2 + at
        messages.append(write_request(FINE, begin, begin, data[FINE][at : at + 4096]))
    async with running(ends):
        replies = await trio.to_thread.run_sync(ask_all, ends, messages)
    assert replies == {at: written(at, 4096) for at in range(0, SIZE, 4096)}
    assert plain(ends, ONE)[: SIZE // 2] == data[ONE]
    assert plain(ends, FINE)[SIZE // 2 :] == data[FINE]
    ends.close()


# Descriptors that fail.


async def test_a_file_that_was_cut_short_fails_reads_of_what_is_gone() -> None:
    system, store = System(), memory_file(SIZE)
    add_disk(system, make_disk("d0", store=store))
    ends = Ends(system, {RAW: "d0"})
    descriptor = store.direct_fd()
    assert descriptor is not None
    os.ftruncate(descriptor, SIZE // 2)
    data, wanted, messages = contents_of(descriptor), {}, []
    for unique in range(200):
        offset = unique * 512 if unique % 3 else SIZE // 2 + unique * 512
        messages.append(read_request(RAW, unique, offset, 512))
        there = offset < SIZE // 2
        found = done(unique, data[offset : offset + 512]) if there else failed(unique, errno.EIO)
        wanted[unique] = found
    async with running(ends):
        assert await trio.to_thread.run_sync(ask_all, ends, messages) == wanted
    ends.close()
    store.close()


async def test_a_file_that_may_not_be_written_any_more_fails_writes_with_its_errno() -> None:
    system, store = System(), memory_file(SIZE)
    add_disk(system, make_disk("d0", store=store))
    ends = Ends(system, {RAW: "d0"})
    descriptor = store.direct_fd()
    assert descriptor is not None
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    data, wanted, messages = contents_of(descriptor), {}, []
    for unique in range(200):
        if unique % 3:
            messages.append(read_request(RAW, unique, unique * 512, 512))
            wanted[unique] = done(unique, data[unique * 512 :][:512])
        else:
            messages.append(write_request(RAW, unique, unique * 512, b"x" * 512))
            wanted[unique] = failed(unique, errno.EPERM)
    system.names.written["d0"] = 0.0
    async with running(ends):
        assert await trio.to_thread.run_sync(ask_all, ends, messages) == wanted
    assert system.names.written["d0"] == 0.0
    ends.close()
    store.close()


def contents_of(descriptor: int) -> bytes:
    return os.pread(descriptor, SIZE, 0)


# Changes meanwhile.


async def test_tables_are_swapped_and_keys_evicted_under_load_and_every_read_is_right() -> None:
    """Each reply is what the file showed on one of the disks."""
    ends = await make_ends()
    handles = [ONE, OTHER, RAW]
    shown = [{handle: plain(ends, handle, disk) for handle in handles} for disk in ("d0", "d1")]
    some = some_reads(shown[0], 1500, 3)
    others = some_reads(shown[1], 1500, 3)
    replies: dict[int, bytes] = {}
    swaps = evictions = 0

    async def ask(finished: trio.Event) -> None:
        messages = [message for message, _ in some.values()]
        replies.update(await trio.to_thread.run_sync(ask_all, ends, messages))
        finished.set()

    async with running(ends), trio.open_nursery() as nursery:
        finished = trio.Event()
        nursery.start_soon(ask, finished)
        while not finished.is_set():
            await swap(ends.system, "dm0", f"0 {SECTORS} linear d{(swaps + 1) % 2} 0")
            swaps += 1
            with suppress(KeyBusy):
                evict_key(ends.system.mapped["dm0"], ends.system.keys["one"])
                evictions += 1
            await trio.lowlevel.checkpoint()
    assert len(replies) == len(some)
    wrong = [
        unique
        for unique, reply in replies.items()
        if reply not in (some[unique][1], others[unique][1])
    ]
    assert wrong == []
    assert swaps > 2
    assert evictions > 0
    ends.close()


# The end.


async def test_stopping_under_load_answers_what_was_taken_and_leaves_the_rest() -> None:
    """While libfuse has something in hand, the lane lets others run after each request."""
    with no_thread_left():
        ends = await make_ends()
        content = plain(ends, RAW)
        count = 150
        ends.socket.send(request(GETATTR, count))
        for unique in range(count):
            ends.socket.send(read_request(RAW, unique, 512 * unique, 512))
        replies = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.lane.run)
            replies.append(await ends.reply())
            ends.lane.stop()
        with suppress(BlockingIOError):
            while True:
                replies.append(ends.socket.recv(MAX_REPLY_SIZE))
        wanted = [done(at, content[512 * at :][:512]) for at in range(len(replies))]
        assert sorted(replies) == sorted(wanted)
        assert len(replies) + left_unread(ends) == count
        ends.close()


def left_unread(ends: Ends) -> int:
    """How many requests the lane has not taken."""
    count = 0
    with socket.socket(fileno=os.dup(ends.lane._device)) as device, suppress(BlockingIOError):
        while device.recv(4096):
            count += 1
    return count


@pytest.mark.parametrize("handles", [[RAW], [ONE, OTHER]], ids=["plain", "one keyslot for two"])
async def test_a_mount_that_goes_away_under_load_ends_the_lane(handles: list[int]) -> None:
    with no_thread_left():
        ends = await make_ends()
        for unique in range(200):
            ends.socket.send(read_request(handles[unique % len(handles)], unique, 4096, 4096))
        async with running(ends):
            await ends.reply()
        ends.close()


async def test_a_lane_that_is_closed_while_nothing_comes_leaves_no_thread() -> None:
    with no_thread_left():
        ends = Ends(System(), {})
        ends.system.add_disk(make_disk("d0", store=MemoryStore(4096)))
        async with running(ends):
            await ends.says_nothing()
        ends.close()
