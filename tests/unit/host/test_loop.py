"""What can be said of loop devices without having one; the rest is in tests/mount."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fusedm.block.errors import UsageError
from fusedm.host import loop
from fusedm.host.loop import LoopDevice


def fake_loop(sys_block: Path, name: str, backing_file: str | None, ro: str = "0") -> None:
    (sys_block / name / "queue").mkdir(parents=True)
    (sys_block / name / "queue/logical_block_size").write_text("4096\n")
    (sys_block / name / "ro").write_text(ro + "\n")
    if backing_file is not None:
        (sys_block / name / "loop").mkdir()
        (sys_block / name / "loop/backing_file").write_text(backing_file + "\n")
        (sys_block / name / "loop/dio").write_text("1\n")


def test_a_loop_device_is_read_from_sysfs(tmp_path: Path) -> None:
    fake_loop(tmp_path, "loop3", "/mnt/views/home", ro="1")
    assert loop.loop_device("/dev/loop3", tmp_path) == LoopDevice(
        "/dev/loop3", "/mnt/views/home", 4096, direct_io=True, read_only=True
    )


def test_a_free_or_missing_device_is_none(tmp_path: Path) -> None:
    fake_loop(tmp_path, "loop0", None)
    assert loop.loop_device("/dev/loop0", tmp_path) is None
    assert loop.loop_device("/dev/loop1", tmp_path) is None


def test_a_deleted_backing_file_is_still_ours(tmp_path: Path) -> None:
    fake_loop(tmp_path, "loop0", "/mnt/views/home (deleted)")
    assert [device.backing_file for device in loop.attached("/mnt", tmp_path)] == [
        "/mnt/views/home"
    ]


def test_attached_goes_by_backing_file_in_order_of_number(tmp_path: Path) -> None:
    fake_loop(tmp_path, "loop10", "/mnt/b")
    fake_loop(tmp_path, "loop2", "/mnt/a")
    fake_loop(tmp_path, "loop3", "/mnt2/a")
    fake_loop(tmp_path, "loop4", None)
    assert [device.node for device in loop.attached("/mnt", tmp_path)] == [
        "/dev/loop2",
        "/dev/loop10",
    ]
    assert [device.node for device in loop.attached("/mnt/b", tmp_path)] == ["/dev/loop10"]


def test_releasing_where_nothing_is_attached_does_nothing(tmp_path: Path) -> None:
    assert loop.release_all(str(tmp_path)) == []


WANTED = LoopDevice("/dev/loop0", "/mnt/a", 4096, direct_io=True, read_only=False)


def test_a_device_as_asked_for_has_no_difference() -> None:
    assert loop.difference(WANTED, replace(WANTED)) is None


def test_the_difference_names_what_did_not_take_and_both_values() -> None:
    got = replace(WANTED, logical_block_size=512)
    assert loop.difference(WANTED, got) == (
        "/dev/loop0: logical_block_size is 512, 4096 was asked for"
    )
    got = replace(WANTED, direct_io=False)
    assert loop.difference(WANTED, got) == "/dev/loop0: direct_io is False, True was asked for"


def test_a_device_that_is_not_attached_at_all_is_a_difference() -> None:
    assert "is not attached" in (loop.difference(WANTED, None) or "")


def test_a_node_that_is_there_is_left_alone(tmp_path: Path) -> None:
    node = tmp_path / "loop0"
    node.write_text("as it was")
    loop.make_missing_node(str(node), str(tmp_path / "none"), stat.S_IFBLK)
    assert node.read_text() == "as it was"


def test_a_missing_node_of_a_missing_driver_says_modprobe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is missing and so is .*: try modprobe loop"):
        loop.make_missing_node(str(tmp_path / "loop0"), str(tmp_path / "dev"), stat.S_IFBLK)


def test_a_node_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text("7:0\n")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made: Not a directory"):
        loop.make_missing_node(str(tmp_path / "file/loop0"), str(tmp_path / "dev"), stat.S_IFBLK)


@contextmanager
def effectively(user: int) -> Iterator[None]:
    """For the time of a with block, what we do is done as a user; root only gives up its rights."""
    before = os.geteuid()
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(before)


def test_without_root_attach_says_to_use_sudo(tmp_path: Path) -> None:
    with (
        effectively(os.geteuid() or 65534),
        pytest.raises(UsageError, match="loop devices need root: run it with sudo"),
    ):
        loop.attach(str(tmp_path), 512)


def test_devices_over_files_are_found_by_their_names_alone(tmp_path: Path) -> None:
    fake_loop(tmp_path, "loop0", "/mnt/mapper/a")
    fake_loop(tmp_path, "loop1", "/mnt/mapper/ab")
    fake_loop(tmp_path, "loop2", "/mnt/views/v (deleted)")
    found = loop.attached_to(["/mnt/mapper/a", "/mnt/views/v"], tmp_path)
    assert [device.node for device in found] == ["/dev/loop0", "/dev/loop2"]
