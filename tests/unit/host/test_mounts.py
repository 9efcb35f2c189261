"""The mount table, mount points that are refused, and who holds what."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusedm.block.errors import StackError, UsageError
from fusedm.host import mounts
from fusedm.host.mounts import Holder

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 7:0 / /mnt/x rw,relatime shared:1 master:2 - ext4 /dev/loop0 rw,discard
41 27 0:52 /@home /mnt/with\\040space\\134 ro,noatime - btrfs /dev/loop0 rw,subvol=/@home
42 27 0:53 / /mnt/no-source rw - tmpfs  rw
"""


def test_a_mountinfo_line_gives_every_field() -> None:
    assert mounts.parse_mountinfo(MOUNTINFO)[0] == mounts.Mount(
        22, "0:21", "/", "/proc", "proc", "proc", "rw,relatime,rw"
    )


def test_optional_fields_of_mountinfo_are_skipped() -> None:
    mount = mounts.parse_mountinfo(MOUNTINFO)[1]
    assert (mount.fs_type, mount.source, mount.options) == (
        "ext4",
        "/dev/loop0",
        "rw,relatime,rw,discard",
    )


def test_octal_escapes_of_mountinfo_are_undone() -> None:
    assert mounts.parse_mountinfo(MOUNTINFO)[2].mount_point == "/mnt/with space\\"


def test_a_mount_is_of_a_device_by_number_or_for_btrfs_by_source() -> None:
    table = mounts.parse_mountinfo(MOUNTINFO)
    assert [m.mount_id for m in table if m.is_of("/dev/loop0", "7:0")] == [40, 41]


def test_mount_at_finds_the_mount_of_a_mount_point_only() -> None:
    mount = mounts.mount_at("/proc/")
    assert mount is not None
    assert mount.fs_type == "proc"
    assert mounts.mount_at("/proc/self") is None


def test_mount_at_follows_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    mount = mounts.mount_at(str(tmp_path / "link"))
    assert mount is not None
    assert mount.mount_point == "/proc"


def test_mounts_of_an_unknown_source_are_none() -> None:
    assert mounts.mounts_of_source("/dev/no-such-device") == []
    assert mounts.mounts_of_source("4095:1048575") == []


def test_a_source_is_found_by_its_number() -> None:
    proc = mounts.mount_at("/proc")
    assert proc is not None
    assert proc in mounts.mounts_of_source(proc.device)


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [("/a/b", "/a", True), ("/a", "/a", True), ("/ab", "/a", False), ("/a", "/", True)],
)
def test_lying_under_goes_by_whole_names(path: str, prefix: str, expected: bool) -> None:
    assert mounts.lies_under(path, prefix) is expected


def test_an_empty_directory_is_a_mount_point(tmp_path: Path) -> None:
    mounts.check_mount_point(str(tmp_path))


def test_a_missing_mount_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="mount point .*/gone: No such file") as caught:
        mounts.check_mount_point(str(tmp_path / "gone"))
    assert caught.value.errno == errno.ENOENT


def test_a_mount_point_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="Not a directory"):
        mounts.check_mount_point(str(tmp_path / "file"))


def test_a_mount_point_that_is_not_empty_is_refused_with_the_count(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    with pytest.raises(StackError, match="is not empty: 2 entries, must have 0"):
        mounts.check_mount_point(str(tmp_path))


def test_a_mount_point_that_is_mounted_says_by_what() -> None:
    with pytest.raises(StackError, match="/proc is already mounted: proc from ") as caught:
        mounts.check_mount_point("/proc")
    assert caught.value.errno == errno.EBUSY


def test_unmounting_what_is_not_mounted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="nothing is mounted at"):
        mounts.unmount(str(tmp_path))


def fake_process(proc: Path, pid: int, command: str | None, links: dict[str, str]) -> None:
    directory = proc / str(pid)
    (directory / "fd").mkdir(parents=True)
    if command is not None:
        (directory / "comm").write_text(command + "\n")
    for name, target in links.items():
        (directory / name).symlink_to(target)


def test_holders_are_found_by_descriptor_directory_and_program(tmp_path: Path) -> None:
    fake_process(tmp_path, 12, "fio", {"cwd": "/", "fd/10": "/mnt/x/b", "fd/3": "/mnt/x/a"})
    fake_process(tmp_path, 7, "bash", {"cwd": "/mnt/x", "exe": "/bin/bash"})
    fake_process(tmp_path, 9, "other", {"cwd": "/mnt/xy", "fd/1": "pipe:[1]"})
    assert mounts.holders_of("/mnt/x", tmp_path) == [
        Holder(7, "bash", "cwd"),
        Holder(12, "fio", "fd 3, fd 10"),
    ]


def test_we_are_not_our_own_holder(tmp_path: Path) -> None:
    fake_process(tmp_path, os.getpid(), "me", {"cwd": "/mnt/x"})
    assert mounts.holders_of("/mnt/x", tmp_path) == []


def test_a_process_that_ends_while_looked_at_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    fake_process(tmp_path, 6, None, {"cwd": "/mnt/x"})
    (tmp_path / "meminfo").touch()
    assert mounts.holders_of("/mnt/x", tmp_path) == [Holder(6, "?", "cwd")]


def test_many_holders_are_counted_after_the_third() -> None:
    holders = [Holder(pid, "sh", "cwd") for pid in range(1, 6)]
    assert mounts.describe(holders) == "sh (pid 1), sh (pid 2), sh (pid 3) and 2 more"


def test_a_tool_that_is_not_installed_is_named() -> None:
    with pytest.raises(UsageError, match="^no-such-tool is not installed$"):
        mounts.run_tool("no-such-tool")


@pytest.mark.parametrize(
    ("said", "text", "number"),
    [
        ("first; echo target is busy.", "sh: target is busy.", errno.EBUSY),
        ("sh: it is broken", "sh: it is broken", errno.EIO),
        ("", "sh: exit code 3", errno.EIO),
    ],
)
def test_a_tool_that_fails_gives_its_last_line(said: str, text: str, number: int) -> None:
    with pytest.raises(StackError) as caught:
        mounts.run_tool("sh", "-c", f"{{ echo {said}; }} >&2; exit 3")
    assert (str(caught.value), caught.value.errno) == (text, number)


def test_a_tool_speaks_english_and_is_looked_for_in_sbin_too() -> None:
    printed = mounts.run_tool("sh", "-c", 'echo "$LC_ALL $PATH"')
    assert printed.startswith("C ")
    assert printed.rstrip().endswith("/usr/sbin:/sbin")


def test_a_tool_begins_as_it_is_told_to() -> None:
    printed = mounts.run_tool("sh", "-c", "pwd", begin=lambda: os.chdir("/proc"))
    assert printed == "/proc\n"


def test_the_mount_over_a_path_is_the_innermost() -> None:
    assert mounts.mount_over("/proc/self/no-such-file").mount_point == "/proc"
    assert mounts.mount_over("/no-such-folder").mount_point == "/"


def test_below_a_root_that_is_no_mount_point_it_is_unknown(monkeypatch) -> None:
    told = mounts.parse_mountinfo(MOUNTINFO)
    monkeypatch.setattr(mounts, "read_mounts", lambda: told)
    assert mounts.mount_over("/proc/self").fs_type == "proc"
    assert mounts.mount_over("/home").fs_type == ""


#: What fusermount3 says in a root of debootstrap.
NO_MTAB = "echo 'fusermount3: failed to open /etc/mtab: No such file or directory' >&2; exit 1"


@pytest.fixture
def as_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Unmount /proc as a user does, with tools that are scripts; the words each was called with."""

    def unmount(lazy: bool = False, **tools: str) -> list[str]:
        for name, script in tools.items():
            (tmp_path / name).write_text(
                f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/log\n{script}\n'
            )
            (tmp_path / name).chmod(0o755)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(mounts, "tool_path", lambda _: str(tmp_path))
        mounts.unmount("/proc", lazy=lazy)
        return (tmp_path / "log").read_text().splitlines()

    return unmount


def test_a_user_unmounts_by_fusermount3(as_user) -> None:
    assert as_user(fusermount3="", umount="") == ["fusermount3 -u -- /proc"]


def test_without_a_table_of_mounts_a_user_unmounts_by_umount(as_user) -> None:
    assert as_user(lazy=True, fusermount3=NO_MTAB, umount="") == [
        "fusermount3 -u -z -- /proc",
        "umount -l -- /proc",
    ]


def test_what_only_root_can_unmount_is_told_with_the_words_of_both(as_user) -> None:
    with pytest.raises(StackError) as caught:
        as_user(fusermount3=NO_MTAB, umount="echo 'umount: must be superuser' >&2; exit 1")
    assert str(caught.value) == (
        "/proc cannot be unmounted: fusermount3: failed to open /etc/mtab: No such file or "
        "directory; umount: must be superuser; have root run: umount /proc"
    )


def test_what_is_busy_is_told_with_who_holds_it(as_user) -> None:
    with pytest.raises(StackError, match="^/proc is busy: ") as caught:
        as_user(fusermount3=NO_MTAB, umount="echo 'umount: target is busy.' >&2; exit 32")
    assert caught.value.errno == errno.EBUSY
