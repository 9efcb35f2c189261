"""Stores by the words of a stack file: memory:, file:PATH, volatile: before either, or others."""

import os
from functools import partial
from importlib import import_module
from pathlib import Path

import trio

from fusedm.block.errors import StoreError
from fusedm.stores.base import Store
from fusedm.stores.file import FileStore, check_kind
from fusedm.stores.memory import MemoryStore
from fusedm.stores.volatile_cache import VolatileCacheStore
from fusedm.stores.waiting import WaitingKind, WaitingStore

_VOLATILE = "volatile:"
_FILE = "file:"
_MEMORY = "memory:"

#: The shelf of stores that wait: how one is written, and its module, whose KIND it is. A word is
#: what stands before the colon.
SHELF: dict[str, tuple[str, str]] = dict.fromkeys(
    ("nbd", "nbds", "nbd+unix", "nbds+unix"),
    ("nbd://HOST/EXPORT, nbd+unix:///EXPORT?socket=PATH", "fusedm.stores.nbd.store"),
) | {"rbd": ("rbd:POOL/IMAGE", "fusedm.stores.rbd.store")}


async def open_store(
    text: str,
    size: int | None,
    base_dir: str | Path,
    *,
    read_only: bool = False,
    create: bool = True,
) -> Store | WaitingStore:
    """Open the store that the text names; paths in it are relative to base_dir.

    Units: size in bytes; None takes a file's, block device's or remote image's own.
    Raises: StoreError for a text, size or file that cannot be.
    """
    kind = _waiting_kind(text)
    if kind is not None:
        return await kind.open(kind.prefixed(text, Path(base_dir)), size, read_only)
    return await trio.to_thread.run_sync(
        partial(_open_blocking, text, size, base_dir, read_only, create)
    )


def _open_blocking(
    text: str, size: int | None, base_dir: str | Path, read_only: bool, create: bool
) -> Store:
    store: Store
    path = store_path(text, base_dir)
    if path is not None:
        store = FileStore.open(path, size, create, read_only)
    elif size is None:
        raise StoreError(f"{text} needs a size")
    else:
        store = MemoryStore(size, read_only=read_only)
    for _ in range(_volatile_count(text)):
        store = VolatileCacheStore(store)
    return store


def remove_created(store: Store | WaitingStore) -> None:
    """Remove the file that opening this store made, if it made one; the store has been closed."""
    while isinstance(store, VolatileCacheStore):
        store = store.inner
    if isinstance(store, FileStore):
        store.remove_created()


def store_path(text: str, base_dir: str | Path) -> Path | None:
    """The file a store's text names; None for one without.

    Raises: StoreError for a text that names no store.
    """
    inner = text[len(_VOLATILE) * _volatile_count(text) :]
    if inner.startswith(_FILE) and inner != _FILE:
        return Path(base_dir) / inner.removeprefix(_FILE)
    if inner == _MEMORY:
        return None
    kind = _waiting_kind(text)
    if kind is not None:
        kind.prefixed(text, Path(base_dir))
        return None
    shelf = "".join(f", {usage}" for usage in dict.fromkeys(usage for usage, _ in SHELF.values()))
    raise StoreError(
        f"store {text!r} is unknown: use memory:, file:PATH, "
        f"volatile:memory: or volatile:file:PATH{shelf}"
    )


async def store_size(text: str, base_dir: str | Path) -> int:
    """The size in bytes that a file, block device or remote image has of its own, without using it.

    Raises: StoreError if it has none.
    """
    path = store_path(text, base_dir)
    if path is not None:
        return await trio.to_thread.run_sync(_file_size, path)
    kind = _waiting_kind(text)
    if kind is None:
        raise StoreError(f"{text} needs a size")
    store = await kind.open(kind.prefixed(text, Path(base_dir)), None, True)
    await store.aclose()
    return store.size


def _file_size(path: Path) -> int:
    try:
        check_kind(path, path.stat().st_mode)
        with open(path, "rb") as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", error.errno) from None


def prefixed_store(text: str, folder: str | Path) -> str:
    """The same text, with the folder in front of a path in it that is relative."""
    path = store_path(text, folder)
    kind = _waiting_kind(text)
    if kind is not None:
        return kind.prefixed(text, Path(folder))
    return text if path is None else f"{_VOLATILE * _volatile_count(text)}{_FILE}{path}"


def _waiting_kind(text: str) -> WaitingKind | None:
    """What the shelf has for a text's word, loaded; None if that is not on it."""
    word = text.partition(":")[0]
    if word not in SHELF:
        return None
    kind = import_module(SHELF[word][1]).KIND
    assert isinstance(kind, WaitingKind), f"{word} is on the shelf"
    return kind


def _volatile_count(text: str) -> int:
    count = 0
    while text.startswith(_VOLATILE, count * len(_VOLATILE)):
        count += 1
    return count
