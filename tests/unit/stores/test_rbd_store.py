"""The store over a library that fails, answers late, or not at all."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest
import trio

from fusedm.block.errors import StoreError
from fusedm.stores.rbd import store as module
from fusedm.stores.rbd.library import Library
from fusedm.stores.rbd.store import RbdStore, open_rbd
from tests.helpers.fake_librbd import EXCLUSIVE_LOCK, OBJECT, FakeLibrbd

TEXT = "rbd:pool/image?timeout=1"
SIZE = 4 * OBJECT


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrbd:
    fake = FakeLibrbd(SIZE)
    monkeypatch.setattr(module, "load_library", lambda: cast(Library, fake))
    return fake


async def call(store: RbdStore, name: str) -> object:
    """One call of each kind."""
    arguments: dict[str, tuple[object, ...]] = {
        "read_into": (0, memoryview(bytearray(512))),
        "write": (0, memoryview(b"x" * 512)),
        "discard": (0, 512),
        "write_zeroes": (0, 512),
    }
    return await getattr(store, name)(*arguments.get(name, ()))


CALLS = ["read_into", "write", "discard", "write_zeroes", "flush"]
RESULTS = dict(zip(CALLS, ["read", "write", "write_zeroes", "write_zeroes", "flush"], strict=True))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("number", "state"),
    [
        (errno.ETIMEDOUT, "the cluster does not answer in time"),
        (errno.ESHUTDOWN, "blocklisted: another client has taken the image"),
        (errno.EROFS, "the exclusive lock is lost"),
        (errno.ENOENT, "the image or its pool has been removed"),
        (errno.ENOSPC, "an error of the cluster: No space left on device"),
    ],
)
async def test_a_call_that_fails_has_its_errno_and_the_state_tells_of_it(
    library: FakeLibrbd, name: str, number: int, state: str
) -> None:
    store = await open_rbd(TEXT, None, False)
    library.results[RESULTS[name]] = -number
    with pytest.raises(OSError, match=os.strerror(number)) as failed:
        await call(store, name)
    assert failed.value.errno == number
    assert store.state == state
    library.results.clear()
    await call(store, name)
    # What is only late may be well again.
    assert store.state == ("connected, no write cache" if number == errno.ETIMEDOUT else state)
    await store.aclose()
    assert library.left_open() == {}


async def test_what_is_worse_than_late_is_told_of_instead(library: FakeLibrbd) -> None:
    store = await open_rbd(TEXT, None, False)
    for number in (errno.ETIMEDOUT, errno.ESHUTDOWN, errno.ETIMEDOUT):
        library.results["flush"] = -number
        with pytest.raises(OSError, match=os.strerror(number)):
            await store.flush()
    assert store.state == "blocklisted: another client has taken the image"
    with pytest.raises(OSError, match="timed out"):
        await store.aclose()


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_cannot_begin_fails(library: FakeLibrbd, name: str) -> None:
    store = await open_rbd(TEXT, None, False)
    library.failing[f"rbd_aio_{RESULTS[name]}"] = errno.ENOMEM
    with pytest.raises(OSError, match="Cannot allocate memory"):
        await call(store, name)
    library.failing.clear()
    await store.aclose()


async def test_a_durable_write_whose_flush_fails_fails(library: FakeLibrbd) -> None:
    store = await open_rbd(TEXT, None, False)
    library.results["flush"] = -errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        await store.write(0, memoryview(b"x" * 512), durably=True)
    library.results.clear()
    await store.aclose()


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_read_beyond_the_end_of_a_cut_image_is_an_io_error(
    library: FakeLibrbd, is_told: bool
) -> None:
    store = await open_rbd(TEXT, None, False)
    del library.medium[OBJECT:]
    if not is_told:
        library.failing["rbd_stat"] = errno.ETIMEDOUT
    for offset in (OBJECT - 512, OBJECT):
        with pytest.raises(OSError, match="Input/output error"):
            await store.read_into(offset, memoryview(bytearray(1024)))
    cut = f"the image has been cut to {OBJECT} of {SIZE} bytes"
    assert store.state == (cut if is_told else "connected, no write cache")
    await store.aclose()


async def test_a_late_answer_is_told_of_while_it_is_waited_for(
    library: FakeLibrbd, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_rbd(TEXT, None, False)
    library.is_answering = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.flush)
        nursery.start_soon(store.flush)
        await trio.testing.wait_all_tasks_blocked()
        assert store.state == "connected, no write cache"
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 7)
        assert store.state == "the cluster has not answered for 7 s, 2 wait"
        library.ring()
    library.is_answering = True
    await store.aclose()


async def test_a_library_that_tells_no_more_is_an_error_of_what_comes(
    library: FakeLibrbd, autojump_clock: trio.testing.MockClock
) -> None:
    store = await open_rbd(TEXT, None, False)
    library.failing["rbd_poll_io_events"] = errno.EINVAL
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.flush)
        await trio.testing.wait_all_tasks_blocked()
        state = store.state
        failures = []
        for ask in (store.flush, store.aclose):
            try:
                await ask()
            except OSError as error:
                failures.append(error.errno)
        # What is in flight has its buffers lent: it neither ends nor is closed, but for this.
        open_still = library.left_open()
        library.failing.clear()
        store._wake()
    assert state == "librbd does not tell what has finished: Input/output error"
    assert failures == [errno.ENODEV, errno.ETIMEDOUT]
    assert open_still["rbd_close"] == open_still["rbd_aio_release"] == 1
    assert "rbd_aio_release" not in library.left_open()


async def test_closing_waits_for_what_is_in_flight(library: FakeLibrbd) -> None:
    store = await open_rbd(TEXT, None, False)
    library.is_answering = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.flush)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(store.aclose)
        await trio.testing.wait_all_tasks_blocked()
        assert "rbd_close" not in library.calls
        library.ring()
    assert store.state == "closed"
    assert library.left_open() == {}
    await store.aclose()
    with pytest.raises(OSError, match="No such device"):
        await store.flush()


async def test_closing_does_not_wait_for_a_library_that_never_closes(
    library: FakeLibrbd, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_rbd(TEXT, None, False)
    never = trio.Event()

    async def hang(*_: object, **__: object) -> None:
        await never.wait()

    monkeypatch.setattr(trio.to_thread, "run_sync", hang)
    await store.aclose()
    assert store.state == "closed"


async def test_a_long_range_is_zeroed_in_pieces_and_given_up_when_one_takes_too_long(
    library: FakeLibrbd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ZERO_BYTES", OBJECT)
    store = await open_rbd(TEXT, None, False)
    await store.write(0, memoryview(b"x" * SIZE))
    await store.discard(512, SIZE - 1024)
    assert library.calls.count("rbd_aio_write_zeroes") == 4
    assert library.medium == b"x" * 512 + bytes(SIZE - 1024) + b"x" * 512
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(OSError, match="timed out"):
        await store.discard(0, SIZE)
    monkeypatch.undo()
    assert library.calls.count("rbd_aio_write_zeroes") == 5
    await store.aclose()


async def test_data_written_while_they_are_looked_for_are_found(library: FakeLibrbd) -> None:
    store = await open_rbd(TEXT, None, False)
    await store.discard(0, SIZE)
    look = library.do_rbd_diff_iterate2
    token = trio.lowlevel.current_trio_token()

    def look_and_write(*arguments: object) -> int:
        result = look(*arguments)
        data = memoryview(b"x" * 512)
        trio.from_thread.run(store.write, OBJECT, data, trio_token=token)
        return result

    library.do_rbd_diff_iterate2 = look_and_write  # type: ignore[method-assign]  # for this test
    assert await store.seek_data(0) == OBJECT
    assert await store.seek_hole(OBJECT) == 2 * OBJECT
    assert store.allocated_bytes == OBJECT
    await store.aclose()


async def test_looking_for_data_fails_and_works_the_next_time(library: FakeLibrbd) -> None:
    store = await open_rbd(TEXT, None, False)
    await store.discard(0, 512)
    library.failing["rbd_diff_iterate2"] = errno.ETIMEDOUT
    for seek in (store.seek_data, store.seek_hole):
        with pytest.raises(OSError, match="timed out"):
            await seek(0)
    library.failing.clear()
    assert await store.seek_data(0) == SIZE
    await store.aclose()


async def test_an_image_whose_data_cannot_be_found_at_once_opens_all_the_same(
    library: FakeLibrbd,
) -> None:
    library.failing["rbd_diff_iterate2"] = errno.EIO
    store = await open_rbd(TEXT, None, False)
    assert store.allocated_bytes == SIZE
    await store.aclose()


async def test_an_image_without_a_map_is_not_looked_through_when_it_opens(
    library: FakeLibrbd,
) -> None:
    library.features = EXCLUSIVE_LOCK
    store = await open_rbd(TEXT, None, False)
    assert "rbd_diff_iterate2" not in library.calls
    await store.aclose()


async def test_an_image_without_a_lock_says_so_where_it_is_written(library: FakeLibrbd) -> None:
    library.features = 0
    for read_only, state in (
        (False, "connected, no write cache, no exclusive lock"),
        (True, "connected, no write cache"),
    ):
        store = await open_rbd(TEXT, None, read_only)
        assert store.state == state
        await store.aclose()


async def test_what_is_cancelled_while_data_are_looked_for_is_open_after_all(
    library: FakeLibrbd,
) -> None:
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        look = library.do_rbd_diff_iterate2

        def cancel_and_look(*arguments: object) -> int:
            token.run_sync_soon(scope.cancel)
            return look(*arguments)

        library.do_rbd_diff_iterate2 = cancel_and_look  # type: ignore[method-assign]  # once
        store = await open_rbd(TEXT, None, False)
    await store.aclose()
    assert library.left_open() == {}


@pytest.mark.parametrize(
    ("size", "says"),
    [(SIZE + 512, f"too small: has {SIZE} bytes, needs {SIZE + 512}"), (100, "size 100 is not a")],
)
async def test_a_size_that_cannot_be_leaves_nothing_open(
    library: FakeLibrbd, size: int, says: str
) -> None:
    with pytest.raises(StoreError, match=f"rbd:pool/image: {says}"):
        await open_rbd(TEXT, size, False)
    assert library.left_open() == {}


@pytest.mark.parametrize("step", ["rados_connect", "rbd_set_image_notification"])
async def test_opening_can_be_given_up_at_any_step_and_leaves_nothing_open(
    library: FakeLibrbd, step: str
) -> None:
    token = trio.lowlevel.current_trio_token()
    passed = trio.Event()
    with trio.CancelScope() as scope:
        ordinary: Callable[..., int] = getattr(library, f"do_{step}", lambda *_: 0)

        def give_up(*arguments: object) -> int:
            result = ordinary(*arguments)
            token.run_sync_soon(scope.cancel)
            # Until the caller has gone.
            with suppress(trio.Cancelled):
                trio.from_thread.run(trio.testing.wait_all_tasks_blocked, trio_token=token)
            token.run_sync_soon(passed.set)
            return result

        setattr(library, f"do_{step}", give_up)
        await open_rbd(TEXT, None, False)
    assert scope.cancelled_caught
    await passed.wait()
    while library.left_open():  # noqa: ASYNC110  # a thread that nobody waits for
        await trio.sleep(0.01)
