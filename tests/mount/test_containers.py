"""Containers: /run that cannot be written, users who are uid 0, and things that lack."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounted import USUAL, write_stack
from tests.helpers.tiers import left_behind
from tests.helpers.unprivileged import KEPT, NOBODY, PrivateMachine, private_machine

# A mount namespace of its own holds what others have mounted.
pytestmark = [pytest.mark.fuse, pytest.mark.loop, pytest.mark.alone]

#: Every way to start something, and to find it again, from two environments.
EVERY_VERB = """
fusedm() { PYTHON -m fusedm "$@"; }
fusedm up stack.toml mnt
fusedm ls --stack mnt | wc -l
XDG_RUNTIME_DIR=$PWD/other fusedm status | grep -c disks
fusedm run stack.toml -- sh -c 'test -e $FUSEDM_VIEW_HOME && echo there'
fusedm dmsetup create a --table '0 8 zero' --noudevsync 2>/dev/null
fusedm dmsetup ls | cut -f1
XDG_RUNTIME_DIR=$PWD/other fusedm dmsetup remove a
XDG_RUNTIME_DIR=$PWD/other fusedm down --all 2>&1 | sed 's/[0-9]*$//'
ls -A mnt
"""
SEEN = ["8", "1", "there", "a", "ended daemon "]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[PrivateMachine]:
    write_stack(tmp_path, USUAL)
    (tmp_path / "other").mkdir(mode=0o700)
    with private_machine(tmp_path) as it:
        yield it
    assert left_behind(str(tmp_path)) == []


def script(machine: PrivateMachine, text: str) -> list[str]:
    text = text.replace("PYTHON", sys.executable)
    return ["sh", "-euc", f"cd {shlex.quote(str(machine.folder))}\n{text}"]


def test_root_whose_run_is_read_only_has_a_folder_in_tmp(machine: PrivateMachine) -> None:
    machine.ok("mount", "-o", "remount,bind,ro", "/run")
    machine.ok("chown", "-R", "0:0", machine.folder)
    done = machine.run(*script(machine, EVERY_VERB))
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", SEEN)
    assert machine.ok("ls", "-A", "/tmp/fusedm-0") == ""


def test_a_stack_that_is_up_when_run_becomes_read_only_is_found(machine: PrivateMachine) -> None:
    up = [*script(machine, "PYTHON -m fusedm up stack.toml mnt")]
    machine.ok("chown", "-R", "0:0", machine.folder)
    machine.ok(*up)
    # Over the one that the daemon writes to.
    machine.ok("mount", "--rbind", "/run", "/run")
    machine.ok("mount", "-o", "remount,bind,ro", "/run")
    assert machine.ok(*script(machine, "PYTHON -m fusedm status | grep -c disks")) == "1\n"
    machine.ok("umount", "--lazy", "/run")
    machine.run(*script(machine, "PYTHON -m fusedm down --all"))
    assert machine.ok("ls", "-A", machine.folder / "mnt") == ""


@pytest.mark.parametrize("is_taken", [False, True])
def test_uid_0_of_a_user_namespace_has_a_folder_in_tmp(
    machine: PrivateMachine, is_taken: bool
) -> None:
    if machine.run("unshare", "--user", "true", user=NOBODY).returncode:
        pytest.skip("NAMESPACE TEST SKIPPED: no user namespaces here, as after chroot")
    if is_taken:
        machine.ok("mkdir", "-m", "777", "/tmp/fusedm-0")
    own = "/tmp/fusedm-0.1" if is_taken else "/tmp/fusedm-0"
    words = script(machine, f"{EVERY_VERB}\nls -A {own}")
    done = machine.run("unshare", "--user", "--map-root-user", "--mount", *words, user=NOBODY)
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", SEEN)


def test_the_reason_why_there_is_no_device_is_printed(machine: PrivateMachine) -> None:
    machine.ok("umount", "/dev/fuse")
    machine.ok("mount", "--bind", "/dev/null", "/dev/fuse")
    done = machine.run(sys.executable, "-m", "fusedm", "dmsetup", "create", "a", "--notable")
    assert (done.returncode, done.stderr) == (
        1,
        "device-mapper: create ioctl on a  failed: Input/output error\n"
        "fusedm: /run/fusedm/dm: cannot be mounted: Invalid argument\n"
        "Command failed.\n",
    )
    doctor = machine.run(sys.executable, "-m", "fusedm", "doctor").stdout
    assert "cannot be mounted: Invalid argument\n" in doctor


@pytest.fixture
def without_mtab(machine: PrivateMachine) -> PrivateMachine:
    """A machine as debootstrap leaves it."""
    machine.ok("sh", "-ec", f"cp -a /etc {KEPT}/etc && rm -f {KEPT}/etc/mtab")
    machine.ok("mount", "--bind", f"{KEPT}/etc", "/etc")
    return machine


def test_a_user_without_a_table_of_mounts_unmounts(without_mtab: PrivateMachine) -> None:
    done = without_mtab.run(*script(without_mtab, EVERY_VERB), user=NOBODY)
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", SEEN)


def test_what_a_user_cannot_unmount_is_told_at_once_and_exit_code_1(
    without_mtab: PrivateMachine,
) -> None:
    umount = without_mtab.ok("sh", "-c", "realpath $(command -v umount)").strip()
    without_mtab.ok("cp", umount, f"{KEPT}/umount")
    without_mtab.ok("mount", "--bind", f"{KEPT}/umount", umount)
    text = """
        code() { "$@" || echo "code $?"; }
        PYTHON -m fusedm up stack.toml mnt
        code PYTHON -m fusedm down mnt
        code PYTHON -m fusedm run stack.toml -- true
    """
    done = without_mtab.run(*script(without_mtab, text), user=NOBODY)
    assert done.stdout.splitlines() == ["code 1", "code 1"]
    down, run = done.stderr.splitlines()
    point = f"{without_mtab.folder}/mnt"
    assert down.startswith(
        f"fusedm: {point} cannot be unmounted: fusermount3: failed to open /etc/mtab: "
    )
    assert down.endswith(f"; have root run: umount {point}")
    assert "cannot be unmounted: fusermount3: failed to open /etc/mtab" in run
