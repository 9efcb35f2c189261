"""What can be said of loop devices without having one; the rest is in tests/mount."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.block.errors import UsageError
from fusedm.host import loop, loop_finding
from fusedm.host.loop import LoopDevice


def fake_loop(sys_block: Path, name: str, backing_file: str | None, ro: str = "0") -> None:
    (sys_block / name / "queue").mkdir(parents=True)
    (sys_block / name / "queue/logical_block_size").write_text("4096\n")
    (sys_block / name / "ro").write_text(ro + "\n")
    (sys_block / name / "diskseq").write_text("7\n")
    if backing_file is not None:
        (sys_block / name / "loop").mkdir()
        (sys_block / name / "loop/backing_file").write_text(backing_file + "\n")
        (sys_block / name / "loop/dio").write_text("1\n")


@pytest.fixture
def sys_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /sys/block of the test's own, for a user who may not ask the driver."""
    monkeypatch.setattr(loop_finding, "SYS_BLOCK", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)


@contextmanager
def effectively(user: int) -> Iterator[None]:
    """For the time of a with block, what we do is done as a user; root only gives up its rights."""
    before = os.geteuid()
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(before)


def nodes(devices: list[LoopDevice]) -> list[str]:
    return [device.node for device in devices]


FAKES = [
    ("loop0", None, "0"),
    ("loop2", "/mnt/a", "0"),
    ("loop3", "/mnt/views/home", "1"),
    ("loop4", "/mnt2/a", "0"),
    ("loop5", "/mnt/views/v (deleted)", "0"),
    ("loop10", "/mnt/b", "0"),
]


@pytest.fixture
def fakes(tmp_path: Path) -> None:
    for name, backing_file, ro in FAKES:
        fake_loop(tmp_path, name, backing_file, ro)


@pytest.mark.usefixtures("fakes", "sys_block")
class TestWithoutRoot:
    """Who may not ask what a loop device lies over goes by its name in sysfs."""

    def test_a_loop_device_is_read_from_sysfs(self) -> None:
        assert loop.loop_device("/dev/loop3") == LoopDevice(
            "/dev/loop3", "/mnt/views/home", 4096, direct_io=True, read_only=True, sequence=7
        )

    def test_a_free_or_missing_device_is_none(self) -> None:
        assert loop.loop_device("/dev/loop0") is None
        assert loop.loop_device("/dev/loop1") is None

    def test_the_mark_of_a_deleted_file_is_no_part_of_its_name(self) -> None:
        assert nodes(loop.attached("/mnt/views/v")) == ["/dev/loop5"]

    def test_devices_below_a_folder_come_in_order_of_number(self) -> None:
        found = ["/dev/loop2", "/dev/loop3", "/dev/loop5", "/dev/loop10"]
        assert nodes(loop.attached("/mnt")) == found
        assert nodes(loop.attached("/mnt/b")) == ["/dev/loop10"]

    def test_another_ones_path_may_begin_like_its_own(self) -> None:
        assert loop.attached("/mnt/views/hom") == []


def test_without_sysfs_there_are_no_loop_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_finding, "SYS_BLOCK", tmp_path / "none")
    assert loop.attached("/") == []


def test_releasing_where_nothing_is_attached_does_nothing(tmp_path: Path) -> None:
    assert loop.release_all(str(tmp_path)) == []


GOT = LoopDevice("/dev/loop0", "/mnt/a", 4096, direct_io=False, read_only=False)


def test_a_device_as_asked_for_has_no_difference() -> None:
    assert loop.difference("/dev/loop0", (4096, False, False), GOT) is None


def test_the_difference_names_what_did_not_take_and_both_values() -> None:
    assert loop.difference("/dev/loop0", (512, False, False), GOT) == (
        "/dev/loop0: logical_block_size is 4096, 512 was asked for"
    )
    assert loop.difference("/dev/loop0", (4096, True, False), GOT) == (
        "/dev/loop0: direct_io is False, True was asked for"
    )


def test_a_device_that_is_not_attached_at_all_is_a_difference() -> None:
    assert "is not attached" in (loop.difference("/dev/loop0", (512, True, False), None) or "")


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


def test_without_root_attach_says_to_use_sudo(tmp_path: Path) -> None:
    with (
        effectively(os.geteuid() or 65534),
        pytest.raises(UsageError, match="loop devices need root: run it with sudo"),
    ):
        loop.attach(str(tmp_path), 512)
