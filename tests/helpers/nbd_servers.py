"""NBD servers of others, for the time of a block."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def nbdkit(*words: str) -> Iterator[str]:
    """The URI of nbdkit's export, with what is given as options, filters and plugin."""
    with _folder() as folder:
        path = folder / "socket"
        with _running(path, "nbdkit", "-f", "--exit-with-parent", "-U", str(path), *words):
            yield f"nbd+unix:///?socket={path}"


@contextmanager
def qemu_nbd(image: Path, *words: str) -> Iterator[str]:
    """The URI of qemu-nbd's export of a raw image, for any number of clients."""
    with _folder() as folder:
        path = folder / "socket"
        options = ("-t", "-e", "8", "-f", "raw", "-x", "disk", "-k", str(path))
        with _running(path, "qemu-nbd", *options, *words, str(image)):
            yield f"nbd+unix:///disk?socket={path}"


@contextmanager
def _folder() -> Iterator[Path]:
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="fusedm-nbd-") as folder:
        yield Path(folder)


@contextmanager
def _running(path: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    with subprocess.Popen(command) as process:
        try:
            while not _listens(path):
                assert process.poll() is None, f"{command[0]} has ended"
                time.sleep(0.02)
            yield process
        finally:
            # Not terminate: a server may wait for its clients then.
            process.kill()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
