"""A disk over a store that waits without threads."""

import errno
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fusedm.block import FLUSH, FUA, PREFLUSH, Bio, Op
from fusedm.block.errors import BlockIOError, StackError, StoreError, WouldBlock
from fusedm.crypto import start_using_key, submit_bio, submit_bio_nowait
from fusedm.disk import MAX_STORE_REQUESTS
from fusedm.stack import Stack
from fusedm.stack.spec import DiskSpec, StackSpec
from fusedm.stores import WaitingKind, open_store, opening, prefixed_store, store_size
from tests.helpers import reference_xts
from tests.helpers.builders import make_disk, make_key, pattern, read, write
from tests.helpers.waiting import WaitingMemory

SIZE = 1 << 20
TEXT = bytes(pattern(8192))


@pytest.fixture
def store() -> WaitingMemory:
    return WaitingMemory(SIZE)


@pytest.mark.parametrize("slots", [None, 0, 2])
async def test_the_medium_holds_the_reference_ciphertext(store, slots):
    disk, key = make_disk(slots=slots, store=store), make_key(unit=4096)
    start_using_key(disk, key)
    await write(disk, 16, TEXT, key, 9)
    on_medium = bytearray(8192)
    store.inner.pread_into(16 * 512, memoryview(on_medium))
    assert on_medium == reference_xts.encrypt(bytes(key.raw), 4096, 9, TEXT)
    assert await read(disk, 16, 8192, key, 9) == TEXT
    assert (disk.counts.native, disk.counts.fallback) == ((0, 2) if slots is None else (2, 0))


@pytest.mark.parametrize("slots", [None, 2])
async def test_a_slow_cipher_is_done_beside_the_scheduler(store, slots):
    key = make_key(mode="Adiantum", unit=4096, dun_bytes=32)
    disk, text = make_disk(slots=slots, store=store, dun_bytes=32), bytes(pattern(1 << 18))
    start_using_key(disk, key)
    await write(disk, 0, text, key, 9)
    assert await read(disk, 0, len(text), key, 9) == text


async def test_nothing_is_done_on_the_spot(store):
    disk = make_disk(store=store)
    with pytest.raises(WouldBlock):
        submit_bio_nowait(disk, Bio(Op.READ, 0, 1, memoryview(bytearray(512))))
    assert store.calls == []
    assert disk.direct_fd() is None


async def test_each_operation_becomes_a_call_and_flags_are_kept(store):
    disk, data = make_disk(store=store), memoryview(bytes(512))
    await submit_bio(disk, Bio(Op.WRITE, 0, 1, data, flags=FUA))
    await submit_bio(disk, Bio(Op.WRITE, 0, 1, data, flags=PREFLUSH))
    await submit_bio(disk, FLUSH)
    await submit_bio(disk, Bio(Op.DISCARD, 0, 8))
    await submit_bio(disk, Bio(Op.WRITE_ZEROES, 0, 8))
    assert store.calls == ["write durably", "flush", "write", "flush", "discard", "write_zeroes"]
    assert (await disk.seek(0, for_data=False), await disk.seek(0, for_data=True)) == (0, SIZE)


@pytest.mark.parametrize(
    ("call", "bio"),
    [
        ("read", Bio(Op.READ, 0, 1, memoryview(bytearray(512)))),
        ("write", Bio(Op.WRITE, 0, 1, memoryview(bytes(512)))),
        ("flush", Bio(Op.WRITE, 0, 1, memoryview(bytes(512)), flags=PREFLUSH)),
        ("write durably", Bio(Op.WRITE, 0, 1, memoryview(bytes(512)), flags=FUA)),
        ("flush", FLUSH),
        ("discard", Bio(Op.DISCARD, 0, 8)),
        ("write_zeroes", Bio(Op.WRITE_ZEROES, 0, 8)),
    ],
)
async def test_what_a_call_fails_with_reaches_who_asked_and_nothing_is_left_in_flight(
    store, call, bio
):
    disk = make_disk(store=store)
    store.failing[call] = errno.ETIMEDOUT
    with pytest.raises(BlockIOError) as failed:
        await submit_bio(disk, bio)
    assert (failed.value.errno, disk.stats.in_flight) == (errno.ETIMEDOUT, 0)
    store.failing.clear()
    await submit_bio(disk, bio)


async def test_a_seek_that_fails_says_where(store):
    disk = make_disk(store=store)
    store.failing["seek"] = errno.EIO
    with pytest.raises(BlockIOError, match="seek of data from 512"):
        await disk.seek(512, for_data=True)


async def test_a_disk_lends_its_store_no_more_requests_than_its_bound(store):
    disk = make_disk(store=store)
    store.hold()
    async with trio.open_nursery() as nursery:
        for sector in range(MAX_STORE_REQUESTS + 20):
            nursery.start_soon(write, disk, sector, bytes(512))
        await wait_all_tasks_blocked()
        assert store.in_flight == MAX_STORE_REQUESTS
        assert disk.stats.in_flight == MAX_STORE_REQUESTS + 20
        store.release()
    assert store.most_in_flight == MAX_STORE_REQUESTS
    assert disk.stats.in_flight == 0


async def test_what_has_begun_is_not_given_up_and_what_waits_for_room_is(store):
    disk = make_disk(store=store)
    store.hold()
    scope = trio.CancelScope()

    async def write_all() -> None:
        with scope:
            async with trio.open_nursery() as writing:
                for sector in range(MAX_STORE_REQUESTS + 1):
                    writing.start_soon(write, disk, sector, b"\x55" * 512)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert disk.stats.in_flight == MAX_STORE_REQUESTS
        store.release()
    assert store.calls == ["write"] * MAX_STORE_REQUESTS
    assert disk.stats.in_flight == 0


# As a store of a stack.


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> dict[str, WaitingMemory]:
    """Stores that have been opened by `far:NAME`; a name has paths in it relative to a folder."""
    opened = {}

    async def open_far(text, size, read_only):
        await trio.lowlevel.checkpoint()
        if text.endswith("gone"):
            raise StoreError(f"{text}: the server does not answer", errno.ECONNREFUSED)
        opened[text] = WaitingMemory(size or SIZE, read_only=read_only)
        return opened[text]

    kind = WaitingKind(open_far, lambda text, folder: f"far:{folder / text.removeprefix('far:')}")
    monkeypatch.setitem(opening.SHELF, "far", ("far:NAME", "a module"))
    monkeypatch.setattr(opening, "import_module", lambda _: type("Module", (), {"KIND": kind}))
    return opened


async def test_a_word_on_the_shelf_opens_its_store_with_paths_made_absolute(shelf):
    store = await open_store("far:there", None, "/some", read_only=True)
    assert store is shelf["far:/some/there"]
    assert (store.size, store.read_only) == (SIZE, True)
    assert prefixed_store("far:there", "/some") == "far:/some/there"


async def test_the_size_of_a_store_is_asked_by_opening_it(shelf):
    assert await store_size("far:there", "/some") == SIZE
    assert shelf["far:/some/there"].is_closed


async def test_a_store_that_is_unknown_is_told_what_there_is(shelf):
    with pytest.raises(StoreError, match=r"volatile:file:PATH, .*, far:NAME"):
        await open_store("volatile:far:there", None, "/")


def stack() -> Stack:
    return Stack(StackSpec(), Path("/some"))


async def test_a_disk_over_it_is_added_written_and_removed(shelf):
    async with stack() as opened:
        disk = await opened.add_disk(DiskSpec("d0", None, "far:there"))
        await write(disk, 0, TEXT)
        assert await read(disk, 0, 8192) == TEXT
        assert opened.spec().disks["d0"].store == "far:/some/there"
        with pytest.raises(StackError, match="has no volatile cache"):
            await opened.lose_power("d0")
        await opened.remove_disk("d0")
        assert shelf["far:/some/there"].calls[-1] == "flush"
        assert shelf["far:/some/there"].is_closed


async def test_a_disk_whose_server_is_gone_is_removed_only_by_force(shelf):
    async with stack() as opened:
        await opened.add_disk(DiskSpec("d0", None, "far:there"))
        store = shelf["far:/some/there"]
        store.failing |= {"flush": errno.ETIMEDOUT, "aclose": errno.ETIMEDOUT}
        with pytest.raises(StoreError) as refused:
            await opened.remove_disk("d0")
        assert refused.value.errno == errno.ETIMEDOUT
        assert (list(opened.system.disks), store.is_closed) == (["d0"], False)
        await opened.remove_disk("d0", force=True)
        assert (list(opened.system.disks), store.is_closed) == ([], True)


async def test_a_store_that_cannot_be_opened_adds_no_disk(shelf):
    async with stack() as opened:
        with pytest.raises(StoreError, match="does not answer") as refused:
            await opened.add_disk(DiskSpec("d0", None, "far:gone"))
        assert refused.value.errno == errno.ECONNREFUSED
        assert not opened.system.disks


async def test_the_end_of_a_stack_closes_all_its_stores_whichever_fails(shelf):
    opened = await stack().__aenter__()
    for name in ("one", "two", "three"):
        await opened.add_disk(DiskSpec(name, None, f"far:{name}"))
    shelf["far:/some/one"].failing["aclose"] = errno.EIO
    with pytest.raises(OSError, match="Closing failed"):
        await opened.__aexit__(None, None, None)
    assert [store.is_closed for store in shelf.values()] == [True, True, True]
