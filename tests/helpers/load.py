"""A load on a file, and the kernel's control of FUSE connections, for the time of a with block."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.host import mounts


@contextmanager
def fio_running(file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Random writes, 16 at a time, from before the block until it is over."""
    words = ["--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--iodepth=16", "--direct=1"]
    command = ["fio", "--name=load", f"--filename={file}", *words, "--time_based", "--runtime=60"]
    before = file.stat().st_mtime
    try:
        fio = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("fio is not installed")
    with fio:
        try:
            while file.stat().st_mtime == before:
                assert fio.poll() is None
                time.sleep(0.01)
            yield fio
        finally:
            fio.kill()


@contextmanager
def connections(folder: Path) -> Iterator[Path]:
    """The control folder of FUSE, mounted for us."""
    folder.mkdir()
    mounts.run_tool("mount", "-t", "fusectl", "none", str(folder))
    try:
        yield folder
    finally:
        mounts.unmount(str(folder))
