"""Where words of tables lead outside of the stack, and how long what was opened stays open."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fusedm.block.errors import FusedmError, StackError, TableError
from fusedm.dm import Table, reading
from fusedm.dm.table import make_table
from fusedm.host.loop_control import FileId
from fusedm.stack import Stack, parse_spec
from fusedm.stack.outside import OutsideDevices, Place, find_place
from fusedm.tables import Reader

MOUNT = "/run/nowhere"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    spec = parse_spec('version = 1\nstrict = "linux"\n', "stack.toml")
    async with Stack(spec, tmp_path) as stack:
        yield stack


def image(folder: Path, name: str = "disk.img", size: int = 1 << 20) -> Path:
    path = folder / name
    path.touch()
    os.truncate(path, size)
    return path


def names_of_disks(stack: Stack) -> int:
    return len(stack.system.disks)


async def test_a_file_is_a_disk_while_a_table_holds_it(stack: Stack, tmp_path: Path) -> None:
    outside = OutsideDevices(stack, Path(MOUNT))
    stack.system.add_mapped("a")
    file = image(tmp_path)
    await outside.load("a", f"0 8 linear {file} 0\n8 8 linear {file} 8", False)
    assert names_of_disks(stack) == 1
    stack.system.add_mapped("b")
    await outside.load("b", f"0 8 linear {file} 0", False)
    assert names_of_disks(stack) == 1
    stack.system.clear("a")
    await outside.close_unused()
    assert names_of_disks(stack) == 1
    stack.system.clear("b")
    await outside.close_unused()
    assert names_of_disks(stack) == 0


async def test_a_table_over_many_files_is_parsed_once(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []

    def count(lines: list[Reader], *args: Any) -> Table:
        parsed.append(len(lines))
        return make_table(lines, *args)

    monkeypatch.setattr(reading, "make_table", count)
    stack.system.add_mapped("a")
    files = [image(tmp_path, f"{number}.img") for number in range(30)]
    text = "".join(f"{8 * at} 8 linear {file} 0\n" for at, file in enumerate(files))
    await OutsideDevices(stack, Path(MOUNT)).load("a", text, False)
    assert (names_of_disks(stack), parsed) == (30, [30])


async def test_what_a_refused_table_had_opened_is_closed(stack: Stack, tmp_path: Path) -> None:
    outside = OutsideDevices(stack, Path(MOUNT))
    stack.system.add_mapped("a")
    with pytest.raises(TableError) as refused:
        await outside.load("a", f"0 8 linear {image(tmp_path)} 0\n8 8 linear /nosuch 0", False)
    assert refused.value.errno == errno.ENOENT
    assert refused.value.line == 2
    assert names_of_disks(stack) == 0


async def test_a_file_that_is_used_already_is_busy(stack: Stack, tmp_path: Path) -> None:
    spec = parse_spec("version = 1\n", "other.toml")
    file = image(tmp_path)
    async with Stack(spec, tmp_path) as other:
        users = OutsideDevices(other, Path(MOUNT))
        other.system.add_mapped("a")
        await users.load("a", f"0 8 linear {file} 0", False)
        stack.system.add_mapped("a")
        with pytest.raises(FusedmError) as refused:
            await OutsideDevices(stack, Path(MOUNT)).load("a", f"0 8 linear {file} 0", False)
        assert refused.value.errno == errno.EBUSY


async def test_devices_of_the_stack_come_first(stack: Stack) -> None:
    outside = OutsideDevices(stack, Path(MOUNT))
    for name in "abc":
        stack.system.add_mapped(name)
    await outside.load("a", "0 8 zero", False)
    await stack.system.resume("a")
    await outside.load("b", f"0 4 linear {MOUNT}/mapper/a 0\n4 4 linear 253:0 4", False)
    inactive = stack.system.mapped["b"].inactive
    assert inactive is not None
    assert inactive.devices() == [stack.system.mapped["a"]]
    with pytest.raises(TableError) as refused:
        await outside.load("c", f"0 8 linear {MOUNT}/mapper/nosuch 0", False)
    assert refused.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("nosuch", errno.ENOENT),
        ("/nosuch/file", errno.ENOENT),
        ("/dev/null", errno.ENOTBLK),
        ("/proc", errno.ENOTBLK),
        ("4000:1", errno.ENXIO),
        ("4096:0", errno.EOVERFLOW),
        ("1:1048576", errno.EOVERFLOW),
    ],
)
def test_a_word_that_leads_nowhere_has_the_kernels_errno(word: str, number: int) -> None:
    with pytest.raises(StackError) as refused:
        find_place(word, MOUNT)
    assert refused.value.errno == number


def test_a_path_in_the_mount_is_a_name(tmp_path: Path) -> None:
    mount_point = str(tmp_path)
    assert find_place(f"{mount_point}/mapper/a", mount_point) == Place(name="a")
    assert find_place(f"{mount_point}/mapper/../disks/d", mount_point) == Place(name="d")


def test_a_link_to_a_file_leads_to_the_file(tmp_path: Path) -> None:
    file = image(tmp_path)
    (tmp_path / "link").symlink_to(file)
    assert find_place(f"{tmp_path}/link", MOUNT) == Place(
        path=os.path.realpath(file), file=FileId.of(str(file))
    )


async def test_a_relative_path_begins_in_the_folder_of_who_asks(
    stack: Stack, tmp_path: Path
) -> None:
    outside = OutsideDevices(stack, Path(MOUNT))
    (tmp_path / "sub").mkdir()
    image(tmp_path)
    stack.system.add_mapped("a")
    words = ("disk.img", "./disk.img", "sub/../disk.img", f"{tmp_path}/disk.img")
    text = "".join(f"{8 * at} 8 linear {word} 0\n" for at, word in enumerate(words))
    await outside.load("a", text, False, str(tmp_path))
    assert names_of_disks(stack) == 1
    for word in words[:3]:
        with pytest.raises(TableError) as refused:
            await outside.load("a", f"0 8 linear {word} 0", False, str(tmp_path / "sub"))
        assert refused.value.errno == errno.ENOENT
    # A device of the stack comes first.
    stack.system.add_mapped("disk.img")
    await outside.load("disk.img", "0 8 zero", False)
    await stack.system.resume("disk.img")
    await outside.load("a", "0 8 linear disk.img 0", False, str(tmp_path))
    assert names_of_disks(stack) == 0


def test_the_path_of_a_node_that_cannot_be_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DM_DEV_DIR", str(tmp_path))
    assert find_place(f"{tmp_path}/mapper/a", MOUNT) == Place(name="a")
