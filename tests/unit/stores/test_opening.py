"""Stores named by a word of a stack file."""

import os
import stat
from pathlib import Path

import pytest

from fusedm.block.errors import StoreError
from fusedm.stores import (
    FileStore,
    MemoryStore,
    Store,
    VolatileCacheStore,
    WaitingStore,
    open_store,
    store_size,
)

SIZE = 1 << 20


async def opened(text: str, size: int | None, base_dir: Path, **options: bool) -> Store:
    store = await open_store(text, size, base_dir, **options)
    assert not isinstance(store, WaitingStore)
    store.close()
    return store


async def test_memory_is_a_store_in_memory(tmp_path: Path) -> None:
    store = await opened("memory:", SIZE, tmp_path, read_only=True)
    assert isinstance(store, MemoryStore)
    assert (store.size, store.read_only) == (SIZE, True)


async def test_a_file_is_relative_to_the_base_directory_and_created(tmp_path: Path) -> None:
    store = await opened("file:a:b", SIZE, tmp_path)
    assert isinstance(store, FileStore)
    assert (tmp_path / "a:b").stat().st_size == SIZE


async def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    await opened(f"file:{tmp_path}/d", SIZE, Path("/nowhere"))
    assert (tmp_path / "d").exists()


async def test_a_file_is_not_created_unless_wanted(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        await open_store("file:d", SIZE, tmp_path, create=False)


async def test_without_a_size_a_file_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(1536))
    assert (await opened("file:d", None, tmp_path)).size == 1536


@pytest.mark.parametrize(
    ("text", "inner"), [("volatile:memory:", MemoryStore), ("volatile:file:d", FileStore)]
)
async def test_volatile_wraps_either(tmp_path: Path, text: str, inner: type) -> None:
    store = await opened(text, SIZE, tmp_path)
    assert isinstance(store, VolatileCacheStore)
    assert isinstance(store.inner, inner)


async def test_memory_needs_a_size(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="memory: needs a size"):
        await open_store("memory:", None, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "memory", "memory:x", "file:", "file", "volatile", "volatile:nbd://h/e"]
)
async def test_anything_else_is_refused_with_the_words_there_are(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreError) as refused:
        await open_store(text, SIZE, tmp_path)
    assert f"{text!r} is unknown: use memory:, file:PATH" in str(refused.value)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
async def test_the_size_of_what_is_no_medium_is_not_waited_for(tmp_path: Path, kind: int) -> None:
    os.mknod(tmp_path / "odd", kind | 0o600)
    with pytest.raises(StoreError, match="is neither a regular file nor a block device"):
        await store_size("file:odd", tmp_path)
    with pytest.raises(StoreError, match="is neither a regular file nor a block device"):
        await store_size("file:/dev/zero", tmp_path)
