"""A mount whose disk is an export of an NBD server: file systems, and what the server has."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fusedm.host import mounts
from fusedm.inspect.independent import encrypt_unit
from tests.helpers.mounted import (
    KEY_TABLES,
    KEYS,
    Mounted,
    fusedm,
    mounted_stack,
    read_at,
    write_at,
    write_stack,
)
from tests.helpers.nbd_servers import nbdkit, nbdkit_at, qemu_nbd

pytestmark = pytest.mark.fuse

SIZE = 64 << 20

STACK = (
    """
version = 1
[disks.far]
store = "{uri}"
engine = {{ keyslots = 4, max_dun_bytes = 8, modes = {{ "AES-256-XTS" = [512, 4096] }} }}
"""
    + KEY_TABLES
    + """
[views.home]
device = "far"
key = "alice"
"""
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, SIZE)
    return image


@pytest.fixture(params=["nbdkit", "qemu-nbd"])
def stack(request: pytest.FixtureRequest, image: Path, tmp_path: Path) -> Iterator[Mounted]:
    server = qemu_nbd(image) if request.param == "qemu-nbd" else nbdkit("file", str(image))
    with server as uri, mounted_stack(STACK.format(uri=uri), tmp_path / "stack") as mounted:
        yield mounted


def test_the_server_has_what_cryptography_says(stack: Mounted, image: Path) -> None:
    data = os.urandom(64 << 10)
    write_at(stack.view("home"), 8192, data)
    assert read_at(stack.view("home"), 8192, len(data)) == data
    on_medium = image.read_bytes()[8192 : 8192 + len(data)]
    for unit in range(len(data) // 4096):
        part = slice(unit * 4096, (unit + 1) * 4096)
        expected = encrypt_unit("AES-256-XTS", KEYS["alice"], unit + 2, data[part])
        assert on_medium[part] == expected


def test_less_than_a_block_is_written_and_what_is_given_up_reads_as_zeros(stack: Mounted) -> None:
    write_at(stack.disk("far"), 0, b"x" * 16384)
    write_at(stack.disk("far"), 1000, b"yes")
    command = ["fallocate", "-p", "-o", "4096", "-l", "4096", str(stack.disk("far"))]
    subprocess.run(command, check=True)
    expected = bytearray(b"x" * 16384)
    expected[1000:1003], expected[4096:8192] = b"yes", bytes(4096)
    assert read_at(stack.disk("far"), 0, 16384) == expected


def test_what_was_not_flushed_is_there_when_a_server_that_lost_it_is_back(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    with TemporaryDirectory(prefix="fusedm-nbd-") as short:
        socket = Path(short) / "socket"
        uri = f"nbd+unix:///?socket={socket}"
        stack_file, mount_point = write_stack(tmp_path / "stack", STACK.format(uri=uri))
        view = mount_point / "views" / "home"
        with nbdkit_at(socket, "memory", str(SIZE)):
            up = fusedm("up", str(stack_file), str(mount_point))
            assert up.returncode == 0, up.stderr
            for offset in range(0, len(data), 4096):
                write_at(view, offset, data[offset : offset + 4096])
            write_at(view, 8192, b"changed")
        with nbdkit_at(socket, "memory", str(SIZE)):
            try:
                expected = bytearray(data)
                expected[8192:8199] = b"changed"
                assert read_at(view, 0, len(data)) == expected
                write_at(view, 0, b"and goes on")
            finally:
                down = fusedm("down", str(mount_point))
    assert down.returncode == 0, down.stderr


@pytest.mark.loop
def test_a_file_system_over_a_loop_device_keeps_what_it_is_given(
    stack: Mounted, image: Path, tmp_path: Path
) -> None:
    attached = stack.fusedm("attach", "home")
    assert attached.returncode == 0, attached.stderr
    node, where = attached.stdout.strip(), tmp_path / "fs"
    where.mkdir()
    mounts.run_tool("mkfs.ext4", "-F", "-q", node)
    text = b"this sentence must not be found at the server " * 5000
    for _ in range(2):
        mounts.run_tool("mount", node, str(where))
        try:
            file = where / "file"
            if file.exists():
                assert file.read_bytes() == text
            else:
                file.write_bytes(text)
        finally:
            mounts.unmount(str(where))
    checked = subprocess.run(["e2fsck", "-fn", node], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert text[:40] not in image.read_bytes()
