"""Mounting FUSE: what is told to whom, and what cannot be mounted leaves nothing open."""

import errno
import os
from pathlib import Path

import pytest

from fusedm.block.errors import StackError, UsageError
from fusedm.host.kernel_mount import MountOptions, mount, mount_through_helper, unmount


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_the_lane_is_taken_unless_asked_otherwise() -> None:
    assert MountOptions().lane


def fake_helper(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fusermount3 of our own, first on PATH."""
    helper = folder / "fusermount3"
    helper.write_text(f"#!/bin/sh\n{text}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_the_helper_refuses_is_passed_on_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_helper(tmp_path, "echo first >&2; echo 'fusermount3: no' >&2; exit 1", monkeypatch)
    before = open_descriptors()
    with pytest.raises(StackError, match="cannot be mounted: fusermount3: no$") as caught:
        mount_through_helper(tmp_path, MountOptions())
    assert caught.value.errno == errno.EPERM
    assert open_descriptors() == before


def test_a_helper_that_fails_without_a_word_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_helper(tmp_path, "exit 1", monkeypatch)
    with pytest.raises(StackError, match="cannot be mounted: fusermount3 failed$"):
        mount_through_helper(tmp_path, MountOptions())


def test_without_the_helper_its_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="apt-get install fuse3"):
        mount_through_helper(tmp_path, MountOptions())


def test_the_helper_is_told_the_options_and_gives_the_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""echo "$@" > {tmp_path}/told
exec python3 -c '
import array, os, socket
channel = socket.socket(fileno=int(os.environ["_FUSE_COMMFD"]))
sent = array.array("i", [os.open("/dev/null", os.O_RDWR)])
channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
'"""
    fake_helper(tmp_path, script, monkeypatch)
    fd = mount_through_helper(tmp_path, MountOptions(allow_root=True))
    try:
        assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/null"
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
    options = "allow_other,default_permissions,fsname=fusedm,subtype=fusedm"
    assert (tmp_path / "told").read_text() == f"-o {options} -- {tmp_path}\n"


def test_a_helper_that_sends_no_descriptor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_helper(tmp_path, "exit 0", monkeypatch)
    with pytest.raises(StackError, match="fusermount3 gave no descriptor"):
        mount_through_helper(tmp_path, MountOptions())


@pytest.mark.fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="only root asks the kernel itself")
def test_a_mount_the_kernel_refuses_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(StackError, match="cannot be mounted: No such file") as caught:
        mount(tmp_path / "missing", MountOptions())
    assert caught.value.errno == errno.ENOENT
    assert open_descriptors() == before


@pytest.mark.fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="only root asks the kernel itself")
def test_what_is_mounted_is_unmounted_and_once_more_is_nothing(tmp_path: Path) -> None:
    device = mount(tmp_path, MountOptions())
    try:
        assert not os.get_blocking(device)
        assert str(tmp_path) in Path("/proc/mounts").read_text()
    finally:
        unmount(tmp_path)
        os.close(device)
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    unmount(tmp_path)
