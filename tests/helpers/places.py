"""Folders on a medium of a kind, wherever the machine keeps its temporary files."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusedm.host import mounts
from fusedm.stores.host import is_in_memory


@contextmanager
def folder_on_disk(directory: Path) -> Iterator[Path]:
    """A folder on a disk: there, or else in the project, for this time."""
    if not _is_in_memory(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix=".test-", dir=Path(__file__).parents[2]) as folder:
        yield Path(folder)


@contextmanager
def folder_on_tmpfs(directory: Path, size: str = "64m") -> Iterator[Path]:
    """A tmpfs, mounted below a folder for this time. As root."""
    folder = directory / "tmpfs"
    folder.mkdir()
    mounts.run_tool("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield folder
    finally:
        mounts.unmount(str(folder))


def _is_in_memory(directory: Path) -> bool:
    fd = os.open(directory, os.O_RDONLY)
    try:
        return is_in_memory(fd)
    finally:
        os.close(fd)
