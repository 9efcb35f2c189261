"""The contract of stores.WaitingStore, over every store that waits."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
import trio

from fusedm.stores import WaitingStore, open_nbd
from tests.helpers.nbd import served
from tests.helpers.nbd_servers import nbdkit, qemu_nbd
from tests.helpers.waiting import WaitingMemory

SECTOR = 512
#: More than a page, so that ranges cross the borders of whatever a store is made of.
CHUNK_SIZE = 1 << 16
SIZE = 4 * CHUNK_SIZE

#: A store over a medium of so many bytes that is kept in a folder, perhaps read only.
Opener = Callable[[Path, int, bool], AbstractAsyncContextManager[WaitingStore]]


@asynccontextmanager
async def waiting_memory(_: Path, size: int, read_only: bool) -> AsyncIterator[WaitingStore]:
    store = WaitingMemory(size, read_only=read_only)
    yield store
    await store.aclose()


@asynccontextmanager
async def nbd(uri: str, read_only: bool) -> AsyncIterator[WaitingStore]:
    store = await open_nbd(uri, None, read_only)
    yield store
    await store.aclose()


@asynccontextmanager
async def nbdkit_memory(_: Path, size: int, read_only: bool) -> AsyncIterator[WaitingStore]:
    with nbdkit("memory", str(size)) as uri:
        async with nbd(uri, read_only) as store:
            yield store


@asynccontextmanager
async def nbdkit_file(folder: Path, size: int, read_only: bool) -> AsyncIterator[WaitingStore]:
    image = folder / "image"
    image.touch()
    os.truncate(image, size)
    with nbdkit(*(["-r"] if read_only else []), "file", str(image)) as uri:
        async with nbd(uri, False) as store:
            yield store


@asynccontextmanager
async def qemu_nbd_file(folder: Path, size: int, read_only: bool) -> AsyncIterator[WaitingStore]:
    image = folder / "image"
    image.touch()
    os.truncate(image, size)
    with qemu_nbd(image, *(["-r"] if read_only else [])) as uri:
        async with nbd(uri, False) as store:
            yield store


@asynccontextmanager
async def our_own_server(folder: Path, size: int, read_only: bool) -> AsyncIterator[WaitingStore]:
    toml = f"""
version = 1
[disks.d]
size = "{size}"
store = "memory:"
read_only = {str(read_only).lower()}
"""
    # Paths of sockets are short.
    with TemporaryDirectory(prefix="fusedm-nbd-") as short:
        uri = f"nbd+unix:///disks/d?socket={short}/nbd.sock"
        async with served(Path(short), toml), nbd(uri, False) as store:
            yield store


OPENERS: dict[str, Opener] = {
    "our own NBD server": our_own_server,
    "waiting memory": waiting_memory,
    "nbdkit memory": nbdkit_memory,
    "nbdkit file": nbdkit_file,
    "qemu-nbd": qemu_nbd_file,
}

every_store = pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)


async def contents(store: WaitingStore, offset: int, length: int) -> bytes:
    buffer = bytearray(b"\xee" * length)
    await store.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def pattern(length: int, seed: int = 1) -> memoryview:
    return memoryview(bytes((seed + 7 * i + i // SECTOR) % 255 + 1 for i in range(length)))


@every_store
async def test_the_geometry_is_what_was_asked_for(opener: Opener, tmp_path: Path) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        assert isinstance(store, WaitingStore)
        assert (store.size, store.read_only) == (SIZE, False)
        assert store.logical_block_size >= SECTOR
        assert 0 <= store.allocated_bytes <= SIZE
        assert store.state
        assert "\n" not in store.state


@every_store
async def test_what_was_never_written_reads_as_zeros(opener: Opener, tmp_path: Path) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        assert await contents(store, 0, SIZE) == bytes(SIZE)


@every_store
@pytest.mark.parametrize("durably", [False, True])
@pytest.mark.parametrize("length", [SECTOR, 2 * CHUNK_SIZE + SECTOR])
@pytest.mark.parametrize("offset", [0, CHUNK_SIZE - SECTOR])
async def test_a_write_reads_back_and_leaves_its_neighbours_and_the_callers_data(
    opener: Opener, tmp_path: Path, offset: int, length: int, durably: bool
) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        data = bytearray(pattern(length))
        await store.write(offset, memoryview(data), durably)
        assert data == pattern(length)
        data[:] = bytes(length)
        expected = bytes(offset) + pattern(length) + bytes(SIZE - offset - length)
        assert await contents(store, 0, SIZE) == expected


@every_store
async def test_data_that_cannot_be_changed_can_be_written(opener: Opener, tmp_path: Path) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        await store.write(SECTOR, memoryview(bytes(pattern(CHUNK_SIZE))))
        assert await contents(store, SECTOR, CHUNK_SIZE) == pattern(CHUNK_SIZE)


@every_store
async def test_a_read_fills_the_buffer_and_nothing_around_it(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        await store.write(0, pattern(SIZE))
        offset, length = CHUNK_SIZE - SECTOR, CHUNK_SIZE
        around = bytearray(b"\xee" * (length + 20))
        await store.read_into(offset, memoryview(around)[10:-10])
        assert around == b"\xee" * 10 + pattern(SIZE)[offset : offset + length] + b"\xee" * 10


@every_store
@pytest.mark.parametrize("change", ["discard", "write_zeroes"])
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (SECTOR, SECTOR),
        (CHUNK_SIZE - SECTOR, 2 * SECTOR),
        (SECTOR, 2 * CHUNK_SIZE),
        (CHUNK_SIZE, CHUNK_SIZE),
        (0, SIZE),
    ],
)
async def test_a_range_given_up_reads_as_zeros_and_its_neighbours_stay(
    opener: Opener, tmp_path: Path, change: str, offset: int, length: int
) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        data, end = pattern(SIZE), offset + length
        await store.write(0, data)
        await getattr(store, change)(offset, length)
        expected = bytes(data[:offset]) + bytes(length) + bytes(data[end:])
        assert await contents(store, 0, SIZE) == expected


@every_store
async def test_flushing_twice_changes_nothing(opener: Opener, tmp_path: Path) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        await store.write(0, pattern(SECTOR))
        await store.flush()
        await store.flush()
        assert await contents(store, 0, 2 * SECTOR) == bytes(pattern(SECTOR)) + bytes(SECTOR)


@every_store
async def test_a_read_only_store_reads_but_refuses_every_change(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(tmp_path, SIZE, True) as store:
        assert store.read_only
        for change, argument in (
            (store.write, pattern(SECTOR)),
            (store.discard, SECTOR),
            (store.write_zeroes, SECTOR),
        ):
            with pytest.raises(OSError, match=r"Read-only|not permitted|EROFS") as refused:
                await change(0, argument)
            assert refused.value.errno == errno.EROFS
        assert await contents(store, 0, SIZE) == bytes(SIZE)


@every_store
async def test_many_requests_at_once_do_not_disturb_each_other(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(tmp_path, SIZE, False) as store:

        async def work(task: int) -> None:
            # Neighbouring sectors, so that all meet in one chunk.
            offset = CHUNK_SIZE - 32 * SECTOR + task * SECTOR
            for turn in range(4):
                await store.write(offset, pattern(SECTOR, task + turn))
                assert await contents(store, offset, SECTOR) == pattern(SECTOR, task + turn)
                if turn % 2:
                    await store.discard(offset, SECTOR)
                    assert await contents(store, offset, SECTOR) == bytes(SECTOR)

        async with trio.open_nursery() as nursery:
            for task in range(64):
                nursery.start_soon(work, task)


@every_store
async def test_after_any_sequence_of_calls_data_and_holes_are_as_in_a_flat_model(
    opener: Opener, tmp_path: Path
) -> None:
    random, model = Random(7), bytearray(SIZE)
    async with opener(tmp_path, SIZE, False) as store:
        for _ in range(120):
            offset = random.randrange(SIZE // SECTOR) * SECTOR
            length = min(random.choice([1, 3, 40, 300]) * SECTOR, SIZE - offset)
            match random.choice(["write", "durably", "discard", "write_zeroes", "flush", "read"]):
                case "write" | "durably" as how:
                    data = bytes([random.randrange(1, 256)]) * length
                    await store.write(offset, memoryview(data), how == "durably")
                    model[offset : offset + length] = data
                case "flush":
                    await store.flush()
                case "read":
                    assert await contents(store, offset, length) == model[offset : offset + length]
                case change:
                    await getattr(store, change)(offset, length)
                    model[offset : offset + length] = bytes(length)
        assert await contents(store, 0, SIZE) == model
        at = 0
        while at < SIZE:
            begin = await store.seek_data(at)
            assert at <= begin <= SIZE
            assert not any(model[at:begin]), f"there are data in {at}..{begin}"
            at = await store.seek_hole(begin) if begin < SIZE else SIZE
            assert begin < at <= SIZE or begin == SIZE


@every_store
async def test_what_was_written_is_data_from_its_first_byte_to_its_last(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(tmp_path, SIZE, False) as store:
        await store.write(CHUNK_SIZE, pattern(CHUNK_SIZE))
        for offset in (CHUNK_SIZE, CHUNK_SIZE + 100, 2 * CHUNK_SIZE - 1):
            assert await store.seek_data(offset) == offset
            assert await store.seek_hole(offset) >= 2 * CHUNK_SIZE
        assert await store.seek_data(0) <= CHUNK_SIZE
