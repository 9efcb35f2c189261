"""NBD stores in tests: opened, looked into, and waited for."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from fusedm.stores import open_nbd
from fusedm.stores.nbd.store import NbdStore
from tests.helpers.nbd_fake import FakeServer


@asynccontextmanager
async def opened(
    server: FakeServer, seconds: float = 20, read_only: bool = False
) -> AsyncIterator[NbdStore]:
    """The store of the server's export, until the end of the block."""
    with trio.fail_after(30):
        store = await open_nbd(f"{server.uri}&timeout={seconds}", None, read_only)
    try:
        with trio.fail_after(60):
            yield store
    finally:
        with trio.fail_after(30):
            await store.aclose()


async def content(store: NbdStore, offset: int, length: int) -> bytes:
    buffer = bytearray(b"\xee" * length)
    await store.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def some(length: int) -> memoryview:
    return memoryview(os.urandom(length))


async def until(is_so: Callable[[], bool]) -> None:
    # Several things are waited for that nobody tells of.
    while not is_so():  # noqa: ASYNC110  # as above
        await trio.sleep(0.005)


async def requests(server: FakeServer, count: int) -> None:
    """Wait until the server has got so many requests."""
    await until(lambda: len(server.got) >= count)


async def connections(server: FakeServer, count: int) -> None:
    """Wait until so many connections have been made to the server."""
    await until(lambda: server.connected_count >= count)
