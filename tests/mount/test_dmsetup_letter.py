"""What scripts take for granted of dmsetup beyond its words: streams, limits, logs, nodes."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.host import mounts, nodes
from tests.helpers import write_log
from tests.helpers.dmsetup import Dmsetup, dmsetup_in
from tests.helpers.mounted import fusedm, opened, read_at, write_at

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

MIB = 1 << 20
KEY = bytes(range(1, 65)).hex()


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Dmsetup]:
    with dmsetup_in(tmp_path) as dmsetup:
        yield dmsetup


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(dmsetup: Dmsetup, closed: str) -> None:
    dmsetup.script(
        f"dmsetup create a --table '0 8 zero' {closed}; dmsetup info -c a {closed} > told;"
        f"dmsetup status {closed}; dmsetup message a 0 @cancel_deferred_remove {closed}"
    )
    assert "a " in (dmsetup.folder / "told").read_text()
    assert dmsetup.script(f"dmsetup remove nosuch {closed} || echo $?").endswith("1\n")
    dmsetup.script(f"mkdir gone; cd gone; rmdir ../gone; dmsetup remove a {closed}")


def test_forced_remove_all_gives_what_is_in_use_no_io(dmsetup: Dmsetup) -> None:
    image = dmsetup.image("a.img", MIB)
    dmsetup.ok("create", "low", "--table", f"0 2048 linear {image} 0")
    dmsetup.ok("create", "busy", "--table", f"0 1024 linear {dmsetup.node('low')} 0")
    dmsetup.ok("create", "idle", "--table", "0 8 zero")
    with opened(dmsetup.node("busy"), os.O_RDONLY) as fd:
        done = dmsetup.run("remove_all", "--force")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == "Unable to remove 1 device(s).\n"
        assert dmsetup.ok("table") == "busy: 0 1024 error \n"
        with pytest.raises(OSError, match="Input/output"):
            os.pread(fd, 4096, 0)
    assert dmsetup.ok("remove_all", "-f") == ""


def discards(dmsetup: Dmsetup, name: str) -> bool:
    """Whether the kernel lets space be given up on a node."""
    done = dmsetup.program("blkdiscard", "-f", dmsetup.node(name))
    assert done.returncode == 0 or "Operation not supported" in done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("linear {} 0", True),
        ("zero", True),
        (f"crypt aes-xts-plain64 {KEY} 0 {{}} 0", False),
        (f"crypt aes-xts-plain64 {KEY} 0 {{}} 0 1 allow_discards", True),
        ("snapshot-origin {}", False),
        ("log-writes {} log.img", True),
    ],
)
def test_the_node_takes_discards_if_the_device_does(
    dmsetup: Dmsetup, line: str, wanted: bool
) -> None:
    image, log = dmsetup.image("a.img", MIB), dmsetup.image("log.img", MIB)
    table = f"0 2048 {line.format(image).replace('log.img', str(log))}"
    dmsetup.ok("create", "a", "--table", table)
    dmsetup.ok("create", "top", "--table", f"0 2048 linear {dmsetup.node('a')} 0")
    assert discards(dmsetup, "a") is wanted
    assert discards(dmsetup, "top") is wanted
    write_at(dmsetup.node("a"), 0, b"x" * 4096)
    dmsetup.script(f"blkdiscard -f --zeroout {dmsetup.node('a')}")
    assert read_at(dmsetup.node("a"), 0, 4096) == bytes(4096)
    dmsetup.ok("remove", "top", "a")


def test_another_table_takes_discards_or_no_more(dmsetup: Dmsetup) -> None:
    line = f"0 2048 crypt aes-xts-plain64 {KEY} 0 {dmsetup.image('a.img', MIB)} 0"
    dmsetup.ok("create", "a", "--table", line)
    for more, wanted in ((" 1 allow_discards", True), ("", False)):
        dmsetup.ok("load", "a", "--table", line + more)
        dmsetup.ok("resume", "a")
        assert discards(dmsetup, "a") is wanted
    dmsetup.ok("remove", "a")


def test_fstrim_says_that_a_device_takes_no_discards(dmsetup: Dmsetup) -> None:
    image = dmsetup.image("a.img", 16 * MIB)
    dmsetup.ok("create", "a", "--table", f"0 32768 crypt aes-xts-plain64 {KEY} 0 {image} 0")
    dmsetup.script(f"mkfs.ext4 -q {dmsetup.node('a')}; mkdir mnt; mount {dmsetup.node('a')} mnt")
    try:
        done = dmsetup.program("fstrim", "mnt")
        assert done.returncode == 1
        assert done.stderr.endswith(": the discard operation is not supported\n")
    finally:
        mounts.unmount(str(dmsetup.folder / "mnt"))
    dmsetup.ok("remove", "a")


def test_a_log_has_what_was_asked_for_and_fua_for_what_is_durable(dmsetup: Dmsetup) -> None:
    image, log = dmsetup.image("a.img", MIB), dmsetup.image("log.img", 8 * MIB)
    dmsetup.ok("create", "a", "--table", f"0 2048 log-writes {image} {log}")
    block = f"dd if=/dev/zero of={dmsetup.node('a')} bs=4096 count=1 status=none"
    dmsetup.script(
        f"{block} seek=1 oflag=direct; {block} seek=2 oflag=direct,dsync;"
        f"dmsetup suspend a; dmsetup resume a; {block} seek=3 oflag=direct;"
        "dmsetup message a 0 mark end; dmsetup remove a"
    )
    entries = list(write_log.entries(log.read_bytes()))
    kinds = [f"{each.kind} {each.offset >> 12}" for each in entries if each.kind != "flush"]
    assert kinds == ["write 1", "durable 2", "mark 0", "write 3", "mark 0"]
    flushes = [number for number, each in enumerate(entries) if each.kind == "flush"]
    assert flushes == list(range(2, 2 + len(flushes)))
    assert flushes


def test_the_streams_of_other_verbs_may_be_closed_too(tmp_path: Path) -> None:
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        for words, code in (("targets", 0), ("dmsetup splitname a-b", 0), ("nosuch", 2)):
            command = f"{sys.executable} -m fusedm {words} {closed}"
            done = subprocess.run(["sh", "-c", command], cwd=tmp_path)
            assert done.returncode == code, (words, closed)


class Linked(Dmsetup):
    """A dmsetup whose shim was written with --links."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, links=True)


def test_nodes_are_links_to_names_that_sysfs_knows_if_asked_for(tmp_path: Path) -> None:
    with dmsetup_in(tmp_path, Linked) as dmsetup:
        for name in "ab":  # The first starts the daemon, the second is handed over.
            dmsetup.ok("create", name, "--table", "0 8 zero")
            leads_to = os.path.realpath(dmsetup.node(name))
            assert os.path.islink(dmsetup.node(name))
            assert Path("/sys/class/block", os.path.basename(leads_to), "queue").is_dir()
            assert dmsetup.ok("info", "-c", "--noheadings", "-o", "name", leads_to) == f"{name}\n"
        dmsetup.ok("rename", "b", "c")
        assert os.path.islink(dmsetup.node("c"))
        assert not os.path.lexists(dmsetup.node("b"))
        dmsetup.ok("create", "d", "--table", f"0 8 linear {dmsetup.node('c')} 0")
        assert dmsetup.ok("deps", "-o", "devname", "d") == "1 dependencies\t: (c)\n"
        dmsetup.ok("remove", "d", "c", "a")


def test_a_link_beside_the_nodes_of_loop_devices_is_relative() -> None:
    for folder, target in (("/dev", "../loop0"), ("/elsewhere", "/dev/loop0")):
        assert nodes.link_target(f"{folder}/mapper/a", "/dev/loop0") == target


def test_the_shim_makes_the_control_node_and_takes_it_away(tmp_path: Path) -> None:
    environ = {**os.environ, "DM_DEV_DIR": str(tmp_path / "dev")}
    control = tmp_path / "dev/mapper/control"
    for _ in range(2):
        done = fusedm("shim", str(tmp_path / "shim"), environ=environ)
        assert (done.stdout, done.returncode) == (f"{tmp_path}/shim/dmsetup\n", 0)
        assert stat.S_ISCHR(control.lstat().st_mode)
    assert fusedm("shim", "--remove", str(tmp_path / "shim"), environ=environ).returncode == 0
    assert not (tmp_path / "shim").exists()
    assert not (tmp_path / "dev/mapper").exists()
    assert fusedm("shim", "--remove", str(tmp_path / "shim"), environ=environ).returncode == 0


def test_what_is_not_ours_is_not_taken_away(tmp_path: Path) -> None:
    environ = {**os.environ, "DM_DEV_DIR": str(tmp_path / "dev")}
    (tmp_path / "dev/mapper").mkdir(parents=True)
    control, other = tmp_path / "dev/mapper/control", tmp_path / "shim/dmsetup"
    control.write_text("")
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    done = fusedm("shim", "--remove", str(tmp_path / "shim"), environ=environ)
    assert (done.returncode, done.stderr) == (
        1,
        f"fusedm: {other}: is there already and not ours\n",
    )
    other.unlink()
    assert fusedm("shim", "--remove", str(tmp_path / "shim"), environ=environ).returncode == 0
    assert control.exists()
