"""Images written over a used disk by the usual tools: it ends right, or fails, never between."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounted import MIB, USUAL, Mounted, mounted_stack, opened, read_at, write_at

pytestmark = pytest.mark.fuse

SIZE = 4 * MIB

#: crypt gives no space up by itself, so zeros are written.
STACK = (
    USUAL
    + f"""
[mapper.secret]
table = "0 8192 crypt aes-xts-plain64 {"0123456789abcdef" * 8} 0 spare 0"
[disks.spare]
size = "4MiB"
store = "file:spare.img"
"""
)


@pytest.fixture(scope="module")
def stack(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(STACK, tmp_path_factory.mktemp("emptying")) as mounted:
        yield mounted


#: (offset, length) of data in an image, and its size.
IMAGES = {
    "hole first": ([(2 * MIB, 5000)], SIZE),
    "hole last": ([(0, 70000)], SIZE),
    "all holes": ([], SIZE),
    "smaller, whole": ([(0, MIB)], MIB),
    "smaller, hole last": ([(65536, 1000)], MIB),
}


def image_of(path: Path, kind: str) -> bytes:
    data, size = IMAGES[kind]
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in data:
            file.seek(offset)
            file.write(os.urandom(length))
    return path.read_bytes()


def run(command: str, image: Path, file: Path) -> "subprocess.CompletedProcess[str]":
    for tool in ("rsync", "qemu-img"):
        if command.startswith(tool) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "IN": str(image), "OUT": str(file)},
    )  # fmt: skip


#: The image comes under its own name, and with a mode that a disk has already.
TAR = (
    'tar -C "${IN%/*}" --mode=600 -Scf - "${IN##*/}" |'
    ' tar -C / --no-same-owner --transform="s:.*:${OUT#/}:" -xf -'
)

#: What ends right with every image, and what fails with those that end in a hole too early.
ALWAYS_RIGHT = [
    'cat "$IN" >"$OUT"',
    'cp --sparse=never "$IN" "$OUT"',
    'dd if="$IN" of="$OUT" bs=64k conv=fsync',
    'dd if="$IN" of="$OUT" bs=4k conv=sparse',
]
RIGHT_OR_REFUSED = [
    'cp "$IN" "$OUT"',
    'cp --sparse=always "$IN" "$OUT"',
    f"{TAR} --overwrite",
    'rsync -I --inplace -S "$IN" "$OUT"',
]


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("command", [*ALWAYS_RIGHT, *RIGHT_OR_REFUSED])
def test_an_image_over_a_used_disk_is_what_is_there_afterwards_or_its_writer_fails(
    stack: Mounted, command: str, kind: str, tmp_path: Path
) -> None:
    file = stack.disk("plain0")
    write_at(file, 0, b"\xff" * SIZE)
    image = image_of(tmp_path / "image", kind)
    done = run(command, tmp_path / "image", file)
    if command in ALWAYS_RIGHT or len(image) == SIZE:
        assert done.returncode == 0, done.stderr
    if done.returncode == 0:
        left = b"\xff" if command.startswith("rsync") else b"\0"
        assert read_at(file, 0, SIZE) == image + left * (SIZE - len(image))
    else:
        assert "Invalid argument" in done.stderr


REFUSED = [
    'qemu-img convert -f raw -O raw "$IN" "$OUT"',
    'truncate -s 0 "$OUT"',
    'rsync -I -S "$IN" "$OUT"',
    TAR,
]


@pytest.mark.parametrize("command", REFUSED)
def test_what_would_replace_or_shorten_a_disk_fails_and_changes_nothing(
    stack: Mounted, command: str, tmp_path: Path
) -> None:
    file = stack.disk("plain0")
    write_at(file, 0, b"\xff" * SIZE)
    image_of(tmp_path / "image", "hole first")
    assert run(command, tmp_path / "image", file).returncode
    assert read_at(file, 0, SIZE) == b"\xff" * SIZE


def test_what_does_not_truncate_leaves_the_rest_as_it_was(stack: Mounted, tmp_path: Path) -> None:
    file = stack.disk("plain0")
    write_at(file, 0, b"\xff" * SIZE)
    image = image_of(tmp_path / "image", "smaller, whole")
    command = 'dd if="$IN" of="$OUT" bs=64k conv=notrunc'
    assert run(command, tmp_path / "image", file).returncode == 0
    assert read_at(file, 0, SIZE) == image + b"\xff" * (SIZE - len(image))


@pytest.mark.parametrize("path", ["disks/plain0", "mapper/data", "views/home", "mapper/secret"])
def test_an_open_with_o_trunc_empties_the_file_and_keeps_its_size(
    stack: Mounted, path: str
) -> None:
    file = stack.mount_point / path
    write_at(file, 0, b"\xff" * SIZE)
    with opened(file, os.O_WRONLY | os.O_TRUNC) as fd:
        assert os.fstat(fd).st_size == SIZE
        assert os.lseek(fd, 0, os.SEEK_END) == SIZE
    assert read_at(file, 0, SIZE) == bytes(SIZE)


def test_a_file_that_is_open_or_lies_below_one_is_not_emptied(stack: Mounted) -> None:
    write_at(stack.view("home"), 0, b"kept")
    with opened(stack.view("home")):
        for file in (stack.view("home"), stack.view("twin"), stack.mapper("data")):
            with pytest.raises(OSError, match="busy") as caught:
                os.open(file, os.O_WRONLY | os.O_TRUNC)
            assert caught.value.errno == errno.EBUSY
    assert read_at(stack.view("home"), 0, 4) == b"kept"
