"""QEMU keeps out of a file that a store has open, and the reverse; others are not hindered."""

import os
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from fusedm.block.errors import StoreError
from fusedm.stores import FileStore

with_qemu = pytest.mark.skipif(
    shutil.which("qemu-io") is None, reason="QEMU TESTS: SKIPPED - qemu-io is not installed"
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    return path


def ended(*words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=60
    )


@with_qemu
def test_qemu_writes_to_no_open_store_and_reads_one_that_nobody_writes_to(image: Path):
    write, read = ("-c", "write 0 512", image), ("-r", "-c", "read 0 512", image)
    with closing(FileStore.open(image)):
        said = ended("qemu-io", "-f", "raw", *write)
        assert said.returncode
        assert "Is another process using the image" in said.stderr
    with closing(FileStore.open(image, read_only=True)):
        assert ended("qemu-io", "-f", "raw", *write).returncode
        assert not ended("qemu-io", "-f", "raw", *read).returncode
    assert not ended("qemu-io", "-f", "raw", *write).returncode


@with_qemu
def test_a_store_is_not_opened_while_qemu_writes_to_its_file(image: Path):
    pid_file = image.with_name("pid")
    told = ("--fork", "--persistent", "--format=raw", f"--pid-file={pid_file}")
    assert not ended("qemu-nbd", *told, f"--socket={image.with_name('sock')}", image).returncode
    try:
        for read_only in (False, True):
            with pytest.raises(StoreError, match="in use by another store or by QEMU"):
                FileStore.open(image, read_only=read_only)
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_whoever_locks_a_file_whole_does_not_wait_for_a_store(image: Path):
    with closing(FileStore.open(image)):
        assert not ended("flock", "--nonblock", image, "true").returncode
