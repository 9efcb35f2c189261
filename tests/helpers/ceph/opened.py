"""Stores over images of a test's cluster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fusedm.stores import open_rbd
from fusedm.stores.rbd.store import RbdStore
from tests.helpers.ceph.cluster import Cluster

#: More than any answer takes on a busy machine; and for tests that wait for it to end.
TIMEOUT, SHORT = 60, 2


def text_of(ceph: Cluster, image: str, seconds: int = TIMEOUT) -> str:
    """A store's text for an image."""
    return f"rbd:{image}?conf={ceph.conf}&timeout={seconds}"


@asynccontextmanager
async def opened(
    ceph: Cluster,
    image: str,
    size: int | None = None,
    *,
    read_only: bool = False,
    seconds: int = TIMEOUT,
) -> AsyncIterator[RbdStore]:
    """An open store; closing it may fail."""
    store = await open_rbd(text_of(ceph, image, seconds), size, read_only)
    try:
        yield store
    finally:
        with suppress(OSError):
            await store.aclose()


async def contents(store: RbdStore, offset: int, length: int) -> bytes:
    """What a store reads."""
    buffer = bytearray(b"\xee" * length)
    await store.read_into(offset, memoryview(buffer))
    return bytes(buffer)
