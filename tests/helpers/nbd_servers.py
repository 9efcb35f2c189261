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
    with _folder() as folder, nbdkit_at(folder / "socket", *words) as uri:
        yield uri


@contextmanager
def nbdkit_at(path: Path, *words: str) -> Iterator[str]:
    """The same at a socket that others know."""
    path.unlink(missing_ok=True)
    with _running(path, "nbdkit", "-f", "--exit-with-parent", "-U", str(path), *words):
        yield f"nbd+unix:///?socket={path}"


@contextmanager
def nbdkit_port(*words: str) -> Iterator[str]:
    """The address, localhost:PORT, of nbdkit's export over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = ("nbdkit", "-f", "--exit-with-parent", "-i", "127.0.0.1", "-p", str(port), *words)
    with _running(("127.0.0.1", port), *command):
        yield f"localhost:{port}"


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
def _running(address: Path | tuple[str, int], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    with subprocess.Popen(command) as process:
        try:
            while not _listens(address):
                assert process.poll() is None, f"{command[0]} has ended"
                time.sleep(0.02)
            yield process
        finally:
            # Not terminate: a server may wait for its clients then.
            process.kill()


def _listens(address: Path | tuple[str, int]) -> bool:
    is_unix = isinstance(address, Path)
    with socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) as client:
        return client.connect_ex(str(address) if is_unix else address) == 0
