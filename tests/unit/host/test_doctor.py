"""The doctor on made-up machines, and what the tests' own header says of the real one."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.block.errors import StackError
from fusedm.host import doctor, kernel_mount
from fusedm.host.doctor import Machine
from tests.helpers.tiers import header_lines, required_tiers

ALL_CAPABILITIES = "CapEff:\t000001ffffffffff\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: names of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="fusedm-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def machine(folder: Path) -> Machine:
    """A machine that lacks nothing, used by root."""
    files = {
        "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
        "proc/self/status": "Name:\tx\n" + ALL_CAPABILITIES,
        "proc/self/mountinfo": "31 23 0:28 / /sys/fs/fuse/connections rw - fusectl none rw\n",
        "dev/fuse": "",
        "dev/loop-control": "",
        "dev/loop0": "",
        "etc/mtab": "",
        "etc/fuse.conf": "# a comment\nuser_allow_other\n",
        "sys/block/loop0/ro": "0\n",
        "sys/block/loop1/ro": "0\n",
        "sys/block/loop1/loop/backing_file": "/x\n",
    }
    programs = (
        "bin/fusermount3",
        "bin/umount",
        "usr/sbin/losetup",
        "usr/sbin/mkfs.ext4",
        "sbin/mkfs.xfs",
        "bin/fio",
    )
    for name, text in files.items() | {(name, "") for name in programs}:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for name in programs:
        (folder / name).chmod(0o4755)
    (folder / "run/user/1000").mkdir(parents=True)
    return Machine(folder, 0, {"PATH": "/bin", "XDG_RUNTIME_DIR": "/run/user/1000"})


def as_user(machine: Machine, **environ: str) -> Machine:
    return Machine(machine.root, 1000, {**machine.environ, **environ})


def bad(machine: Machine) -> dict[str, str]:
    """What is wrong, by name; pyfuse3 and libfuse are the real machine's.

    So is librbd, which need not be there.
    """
    findings = (found for found in doctor.examine(machine) if found.name != "librbd")
    return {found.name: found.text for found in findings if not found.ok}


def test_a_machine_that_lacks_nothing_is_well(machine: Machine) -> None:
    assert bad(machine) == {}


def test_a_user_only_lacks_root(machine: Machine) -> None:
    assert bad(as_user(machine)) == {"root": "loop devices need root, this is uid 1000"}


@pytest.mark.parametrize(
    ("missing", "name", "text"),
    [
        ("dev/fuse", "/dev/fuse", "/dev/fuse: No such file or directory"),
        ("dev/loop-control", "loop devices", "/dev/loop-control: No such file or directory"),
        ("usr/sbin/losetup", "losetup", "losetup is not installed"),
        ("sbin/mkfs.xfs", "mkfs.xfs", "mkfs.xfs is not installed"),
        ("proc/sys/kernel/osrelease", "kernel", "Linux of unknown version, 5.8 is needed"),
    ],
)
def test_what_is_missing_is_named(machine: Machine, missing: str, name: str, text: str) -> None:
    (machine.root / missing).unlink()
    assert bad(machine) == {name: text}


def test_every_problem_comes_with_a_fix(tmp_path: Path) -> None:
    for uid in (0, 1000):
        findings = [f for f in doctor.examine(Machine(tmp_path, uid, {})) if not f.ok]
        assert len(findings) >= 10
        assert all(found.fix and "\n" not in found.text + found.fix for found in findings)


def test_an_old_kernel_is_named(machine: Machine) -> None:
    (machine.root / "proc/sys/kernel/osrelease").write_text("5.4.0-generic\n")
    assert bad(machine) == {"kernel": "Linux 5.4.0-generic, 5.8 is needed"}


def test_users_need_fusermount3(machine: Machine) -> None:
    (machine.root / "bin/fusermount3").unlink()
    assert bad(as_user(machine))["mount"] == "fusermount3 is not installed"
    assert "mount" not in bad(machine)


def test_fusermount3_must_be_setuid(machine: Machine) -> None:
    (machine.root / "bin/fusermount3").chmod(0o755)
    assert bad(as_user(machine))["mount"].endswith("/bin/fusermount3 is not setuid root")


def test_a_commented_user_allow_other_does_not_count(machine: Machine) -> None:
    (machine.root / "etc/fuse.conf").write_text("#user_allow_other\n")
    finding = doctor.user_allow_other(machine)
    assert not finding.ok
    assert not finding.needed


def test_missing_capabilities_of_a_container_are_told(machine: Machine) -> None:
    (machine.root / "proc/self/status").write_text("CapEff:\t00000000a80425fb\n")
    assert set(bad(machine)) == {"mount", "root", "io flusher"}


def test_fusectl_must_be_mounted(machine: Machine) -> None:
    (machine.root / "proc/self/mountinfo").write_text("")
    assert bad(machine) == {"fusectl": "/sys/fs/fuse/connections is not mounted"}


def test_sockets_and_locks_are_tried_in_the_folder_that_every_verb_takes(machine: Machine) -> None:
    for user, path in ((machine, "run/fusedm"), (as_user(machine), "run/user/1000/fusedm")):
        found = doctor.run_folder(user)
        assert (found.ok, found.text) == (True, f"sockets and locks are in {machine.root / path}")
        assert list((machine.root / path).iterdir()) == []


def test_where_no_folder_serves_each_is_named(machine: Machine) -> None:
    text = bad(as_user(machine, XDG_RUNTIME_DIR="/gone"))["run folder"]
    assert text.startswith("no folder for sockets and locks: ")
    assert f"{machine.root}/gone/fusedm: No such file or directory" in text
    assert f"{machine.root}/tmp/fusedm-1000: No such file or directory" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED: root mounts and attaches")
def test_what_looks_well_but_cannot_be_done_is_found(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise StackError("not in this container")

    monkeypatch.setattr(kernel_mount, "mount", refuse)
    monkeypatch.setattr(doctor, "configured", refuse)
    here = Machine()
    assert doctor.mount_permission(here).text == "not in this container"
    assert doctor.loop_control(here).text == "not in this container"


def test_a_user_who_could_mount_but_not_unmount_is_told_so(machine: Machine) -> None:
    (machine.root / "etc/mtab").unlink()
    (machine.root / "bin/umount").chmod(0o755)
    assert bad(as_user(machine))["mount"] == (
        "users may mount but not unmount: there is no /etc/mtab, and no umount setuid root"
    )
    (machine.root / "bin/umount").chmod(0o4755)
    assert "mount" not in bad(as_user(machine))


def test_free_loop_devices_are_counted(machine: Machine) -> None:
    text = doctor.loop_control(machine).text
    assert text == "/dev/loop-control opens, 1 of 2 devices are free"
    (machine.root / "dev/loop0").unlink()
    assert doctor.loop_control(machine).text == text + ", 1 of them lack a node, which attach makes"


def test_a_tier_can_run_on_a_machine_that_lacks_nothing(machine: Machine) -> None:
    assert doctor.tier_problem("fuse", machine) is None
    assert doctor.tier_problem("loop", machine) is None


def test_a_tier_problem_is_the_first_finding_of_its_own_checks(machine: Machine) -> None:
    (machine.root / "dev/fuse").unlink()
    (machine.root / "usr/sbin/mkfs.ext4").unlink()
    assert doctor.tier_problem("fuse", machine) == "/dev/fuse: No such file or directory"
    assert doctor.tier_problem("loop", machine) == "mkfs.ext4 is not installed"
    assert doctor.tier_problem("loop", as_user(machine)) == (
        "loop devices need root, this is uid 1000"
    )


@pytest.mark.parametrize("name", ["libnix.so.1", "libc.so.6"])
def test_without_librbd_only_stores_of_rbd_are_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(doctor, "LIBRBD_NAME", name)
    found = doctor.librbd(machine)
    assert (found.ok, found.needed, found.fix) == (False, False, "apt-get install librbd1")
    assert found.text == f"{name} cannot be loaded: there are no stores rbd:POOL/IMAGE"


def test_the_header_says_loudly_what_is_skipped_and_why() -> None:
    assert header_lines({"loop": "no losetup"}) == [
        "FUSE TESTS: run",
        "LOOP TESTS: SKIPPED - no losetup",
        "KERNEL TESTS: run",
        "CEPH TESTS: run",
    ]


def test_required_tiers_are_a_comma_list_of_known_tiers() -> None:
    assert required_tiers("fuse, loop, kernel") == {"fuse", "loop", "kernel"}
    assert required_tiers("fuse,") == {"fuse"}
    assert required_tiers("") == set()
    with pytest.raises(ValueError, match="FUSEDM_REQUIRE: fsue: not in fuse, loop"):
        required_tiers("fsue")
