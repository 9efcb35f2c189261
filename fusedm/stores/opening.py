"""Stores by the words of a stack file: memory:, file:PATH, volatile: before either."""

import os
from pathlib import Path

from fusedm.block.errors import StoreError
from fusedm.stores.base import Store
from fusedm.stores.file import FileStore, check_kind
from fusedm.stores.memory import MemoryStore
from fusedm.stores.volatile_cache import VolatileCacheStore

_VOLATILE = "volatile:"
_FILE = "file:"
_MEMORY = "memory:"


def open_store(
    text: str,
    size: int | None,
    base_dir: str | Path,
    *,
    read_only: bool = False,
    create: bool = True,
) -> Store:
    """Open the store that the text names; a file's path is relative to base_dir.

    Units: size in bytes; None takes a file's or block device's own.
    Raises: StoreError for a text, size or file that cannot be.
    """
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


def remove_created(store: Store) -> None:
    """Remove the file that opening this store made, if it made one; the store has been closed."""
    while isinstance(store, VolatileCacheStore):
        store = store.inner
    if isinstance(store, FileStore):
        store.remove_created()


def store_path(text: str, base_dir: str | Path) -> Path | None:
    """The file a store's text names; None for memory.

    Raises: StoreError for a text that names no store.
    """
    inner = text[len(_VOLATILE) * _volatile_count(text) :]
    if inner.startswith(_FILE) and inner != _FILE:
        return Path(base_dir) / inner.removeprefix(_FILE)
    if inner == _MEMORY:
        return None
    raise StoreError(
        f"store {text!r} is unknown: use memory:, file:PATH, volatile:memory: or volatile:file:PATH"
    )


def store_size(text: str, base_dir: str | Path) -> int:
    """The size in bytes that a file or block device has of its own, without using it.

    Raises: StoreError if it has none.
    """
    path = store_path(text, base_dir)
    if path is None:
        raise StoreError(f"{text} needs a size")
    try:
        check_kind(path, path.stat().st_mode)
        with open(path, "rb") as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", error.errno) from None


def prefixed_store(text: str, folder: str | Path) -> str:
    """The same text, with the folder in front of a file's path that is relative."""
    path = store_path(text, folder)
    return text if path is None else f"{_VOLATILE * _volatile_count(text)}{_FILE}{path}"


def _volatile_count(text: str) -> int:
    count = 0
    while text.startswith(_VOLATILE, count * len(_VOLATILE)):
        count += 1
    return count
