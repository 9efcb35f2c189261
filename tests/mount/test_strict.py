"""A strict stack in a mount: what it says of itself, and zeros through a view."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounted import Mounted, mounted_stack, read_at, write_at

pytestmark = pytest.mark.fuse

STACK = """
version = 1
strict = "linux"
[disks.f0]
size = "1MiB"
store = "memory:"
engine = { keyslots = 2, max_dun_bytes = 8, modes = { "AES-256-XTS" = [4096] } }
[mapper.data]
table = "0 2048 linear f0 0"
[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"
[views.home]
device = "data"
key = "alice"
start = "64KiB"
size = "128KiB"
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path) as mounted:
        yield mounted


def test_a_strict_stack_says_so_and_keeps_it_when_saved(stack: Mounted) -> None:
    status = stack.fusedm("status", "--json").stdout
    assert json.loads(status)["strict"] == "linux"
    assert 'strict = "linux"' in stack.fusedm("save").stdout


def test_zeros_are_noise_and_a_hole_is_refused(stack: Mounted) -> None:
    path = stack.mount_point / "views/home"
    assert read_at(path, 0, 4096) != bytes(4096)
    write_at(path, 0, b"x" * 8192)
    words = ["fallocate", "-p", "-o", "0", "-l", "4096", str(path)]
    punched = subprocess.run(words, capture_output=True, text=True, check=False)
    # fallocate(1) has words of its own for EOPNOTSUPP.
    assert "keep size mode is unsupported" in punched.stderr
    assert read_at(path, 0, 8192) == b"x" * 8192
    assert read_at(stack.mount_point / "disks/f0", 0, 65536) == bytes(65536)


def test_a_table_with_less_is_refused(stack: Mounted) -> None:
    done = stack.fusedm("dm", "load", "data", "--table", "0 2048 error")
    assert done.returncode == 1
    assert "are fewer than the device has" in done.stderr
