"""dmsetup by its shim, as root: devices with nodes of their own, and nothing left of them."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.host import loop, mounts
from tests.helpers.dmsetup import Dmsetup, dmsetup_in, eventually
from tests.helpers.mounted import fusedm, opened, read_at, write_at

pytestmark = [pytest.mark.fuse, pytest.mark.loop]

MIB = 1 << 20
BUSY = "device-mapper: remove ioctl on {}  failed: Device or resource busy\n"


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Dmsetup]:
    with dmsetup_in(tmp_path) as dmsetup:
        yield dmsetup


def test_a_device_has_a_node_with_its_number_and_goes_without_a_trace(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "t1", "-u", "U-1", "--table", "0 8192 zero")
    info = os.lstat(dmsetup.node("t1"))
    assert stat.S_ISBLK(info.st_mode)
    number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    assert dmsetup.ok("ls") == f"t1\t({number})\n"
    assert dmsetup.ok("table") == "t1: 0 8192 zero \n"
    assert dmsetup.ok("info", "t1") == dmsetup.ok("info", "-u", "U-1")
    major, minor = number.split(":")
    assert dmsetup.ok("info", "-j", major, "-m", minor) == dmsetup.ok("info", dmsetup.node("t1"))
    assert read_at(dmsetup.node("t1"), 0, 512) == bytes(512)
    dmsetup.ok("remove", "t1")
    assert dmsetup.left() == []
    assert dmsetup.ok("ls") == "No devices found\n"


def test_a_file_system_is_made_and_mounted_on_the_node(dmsetup: Dmsetup) -> None:
    dmsetup.image("disk.img", 64 * MIB)
    dmsetup.ok("create", "fs", "--table", f"0 131072 linear {dmsetup.folder}/disk.img 0")
    (dmsetup.folder / "mnt").mkdir()
    dmsetup.script(
        f"mkfs.ext4 -q {dmsetup.node('fs')}; mount {dmsetup.node('fs')} mnt; touch mnt/a"
    )
    try:
        shown = [m for m in mounts.read_mounts() if m.mount_point == f"{dmsetup.folder}/mnt"]
        assert [m.source for m in shown] == [str(dmsetup.node("fs"))]
        assert "Open count:        1\n" in dmsetup.ok("info", "fs")
        assert dmsetup.refused("remove", "fs") == BUSY.format("fs")
        assert dmsetup.ok("remove_all") == ""
        assert dmsetup.node("fs").exists()
    finally:
        dmsetup.script("umount mnt")
    dmsetup.ok("remove", "fs")
    assert dmsetup.ok("info", "-c") == "No devices found\n"


def test_devices_stand_upon_each_other(dmsetup: Dmsetup) -> None:
    for name in "ab":
        image = dmsetup.image(f"{name}.img", MIB)
        dmsetup.ok("create", name, "--table", f"0 1024 linear {image} 0")
    nodes = [dmsetup.node(name) for name in "ab"]
    dmsetup.ok("create", "c", "--table", f"0 2048 striped 2 8 {nodes[0]} 0 {nodes[1]} 0")
    a, b, c = (dmsetup.number(name) for name in "abc")
    assert dmsetup.ok("table", "c") == f"0 2048 striped 2 8 {a} 0 {b} 0\n"
    assert dmsetup.ok("deps", "-o", "devname", "c") == "2 dependencies\t: (b) (a)\n"
    assert dmsetup.ok("deps", "c").endswith(
        f": ({b.replace(':', ', ')}) ({a.replace(':', ', ')})\n"
    )
    assert dmsetup.ok("ls", "--tree", "-o", "nodevice").startswith("c\n |-b\n `-a\n")
    assert dmsetup.ok("info", "-c", "-o", "open,name", "--noheadings", "a") == "1:a\n"
    assert dmsetup.refused("remove", "a") == BUSY.format("a")
    write_at(dmsetup.node("c"), 0, b"x" * 8192)
    assert read_at(nodes[1], 0, 4096) == b"x" * 4096
    assert dmsetup.ok("load", "c", "--table", f"0 8 linear {a} 0") == ""
    assert dmsetup.ok("deps", "--inactive", "-o", "devname", "c") == "1 dependencies\t: (a)\n"
    assert f"c ({c})\n" in dmsetup.ok("ls", "--tree")
    dmsetup.ok("remove_all")


def test_a_loop_device_over_ours_leads_to_the_device_itself(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 1024 zero")
    number = dmsetup.number("a")
    major, minor = number.split(":")
    assert major == "7"
    table = f"0 8 linear /dev/loop{minor} 0"
    dmsetup.ok("create", "b", "--table", table)
    mount_path = f"{dmsetup.mount_point}/mapper/a"
    for name, word in (("c", "a"), ("d", number), ("e", mount_path)):
        dmsetup.ok("create", name, "--table", f"0 8 linear {word} 0")
    assert set(dmsetup.ok("table", *"bcde").split("\n")) == {
        *(f"{name}: 0 8 linear {number} 0" for name in "bcde"),
        "",
    }
    assert dmsetup.call("status")["disks"] == 0
    dmsetup.ok("remove_all")


def test_a_block_device_is_opened_while_a_table_holds_it(dmsetup: Dmsetup) -> None:
    image = dmsetup.image("disk.img", MIB)
    device = loop.attach(str(image), 512)
    try:
        dmsetup.ok("create", "a", "--table", f"0 8 linear {device.node} 8\n8 8 zero")
        number = mounts.device_of_node(device.node)
        assert dmsetup.ok("table", "a") == f"0 8 linear {number} 8\n8 8 zero \n"
        assert loop.busy_reason(device) is not None
        dmsetup.ok("load", "a", "--table", f"0 8 linear {number} 0")
        dmsetup.ok("resume", "a")
        write_at(dmsetup.node("a"), 0, b"here" * 128, os.O_SYNC)
        assert image.read_bytes()[:4] == b"here"
        dmsetup.ok("load", "a", "--table", "0 8 zero")
        dmsetup.ok("resume", "a")
        assert eventually(lambda: loop.busy_reason(device) is None)
        assert dmsetup.call("status")["disks"] == 0
        dmsetup.ok("remove", "a")
    finally:
        dmsetup.end()
        loop.detach(device)


def test_the_errno_of_a_device_that_cannot_be_had_is_kept(dmsetup: Dmsetup) -> None:
    for word, why in (
        ("/nosuch/path", "No such file or directory"),
        ("nosuch", "No such file or directory"),
        ("/dev/null", "Block device required"),
        ("99:99", "No such device or address"),
    ):
        said = dmsetup.refused("create", "a", "--table", f"0 8 linear {word} 0")
        assert said == f"device-mapper: reload ioctl on a (253:0) failed: {why}\n"
        assert dmsetup.left() == []


def test_a_new_size_reaches_the_node_at_resume(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 1024 zero")
    for sectors in (4096, 512):
        dmsetup.ok("load", "a", "--table", f"0 {sectors} zero")
        dmsetup.ok("resume", "a")
        size = dmsetup.program("blockdev", "--getsz", dmsetup.node("a")).stdout
        assert size == f"{sectors}\n"
    dmsetup.ok("remove", "a")


def test_a_read_only_device_cannot_be_written(dmsetup: Dmsetup) -> None:
    image = dmsetup.image("disk.img", MIB)
    dmsetup.ok("create", "a", "-r", "--table", f"0 8 linear {image} 0")
    assert "State:             ACTIVE (READ-ONLY)\n" in dmsetup.ok("info", "a")
    with pytest.raises(PermissionError):
        write_at(dmsetup.node("a"), 0, b"x" * 512)
    dmsetup.ok("reload", "a", "--table", f"0 8 linear {image} 0")
    dmsetup.ok("resume", "a")
    write_at(dmsetup.node("a"), 0, b"x" * 512)
    dmsetup.ok("remove", "a")


def test_io_waits_while_a_device_is_suspended(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", f"0 2048 linear {dmsetup.image('a.img', MIB)} 0")
    dmsetup.ok("create", "b", "--table", "0 8 zero")
    dmsetup.ok("suspend", "a")
    assert dmsetup.ok("info", "-c", "--noheadings", "-o", "attr", "a") == "L-sw\n"
    with opened(dmsetup.node("a"), os.O_RDONLY) as node:
        pid = os.fork()
        if pid == 0:
            os.pread(node, 4096, 0)
            os._exit(0)
        assert read_at(dmsetup.node("b"), 0, 512) == bytes(512)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        dmsetup.ok("resume", "a")
        assert os.waitpid(pid, 0) == (pid, 0)
    dmsetup.ok("suspend", "a")
    dmsetup.ok("remove", "a")
    dmsetup.ok("remove", "b")


def test_a_node_follows_a_device_to_its_new_name(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 8 zero")
    number = dmsetup.number("a")
    dmsetup.ok("rename", "a", "b c")
    assert dmsetup.ok("ls") == f"b c\t({number})\n"
    assert mounts.device_of_node(str(dmsetup.node(r"b\x20c"))) == number
    assert not dmsetup.node("a").exists()
    dmsetup.ok("rename", "b c", "--setuuid", "U-1")
    assert "UUID: U-1\n" in dmsetup.ok("info", "b c")
    assert dmsetup.ok("info", "-c", "--noheadings", "-o", "events", "b c") == "2\n"
    dmsetup.ok("remove", "-u", "U-1")


def test_removal_may_be_tried_again_and_put_off(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 8 zero")
    with opened(dmsetup.node("a"), os.O_RDONLY):
        retrying = dmsetup.start("remove", "--retry", "a")
        assert retrying.stderr is not None
        assert retrying.stderr.readline() == BUSY.format("a")
    assert retrying.wait(30) == 0
    retrying.communicate()
    assert dmsetup.left() == []
    dmsetup.ok("create", "a", "--table", "0 8 zero")
    with opened(dmsetup.node("a"), os.O_RDONLY):
        dmsetup.ok("remove", "--deferred", "a")
        assert "State:             ACTIVE (DEFERRED REMOVE)\n" in dmsetup.ok("info", "a")
    assert eventually(lambda: dmsetup.left() == [], 30)


def test_a_put_off_removal_may_be_taken_back(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 8 zero")
    with opened(dmsetup.node("a"), os.O_RDONLY):
        dmsetup.ok("remove", "--deferred", "a")
        dmsetup.ok("message", "a", "0", "@cancel_deferred_remove")
    assert "State:             ACTIVE\n" in dmsetup.ok("info", "a")
    dmsetup.ok("remove", "--force", "a")


def test_wait_returns_at_the_next_event(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "-u", "U-1", "--table", "0 8 zero")
    waiting = dmsetup.start("wait", "-u", "U-1", "0")
    dmsetup.ok("rename", "a", "b")
    assert waiting.wait(30) == 0
    assert waiting.communicate() == ("", "")
    assert dmsetup.ok("wait", "b", "7") == ""
    dmsetup.ok("remove", "b")


def test_a_command_may_be_run_for_each(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "--concise", "a,,,,0 8 zero;b,,,ro,0 8 error,8 8 error")
    assert dmsetup.ok("ls", "--exec", "echo is") == (
        f"is {dmsetup.node('a')}\nis {dmsetup.node('b')}\n"
    )
    assert dmsetup.ok("ls", "--target", "error", "--exec", "echo") == f"{dmsetup.node('b')}\n"
    assert dmsetup.ok("table", "--concise").startswith("a,,")
    dmsetup.ok("remove_all")


def test_what_table_prints_can_be_loaded(dmsetup: Dmsetup) -> None:
    image = dmsetup.image("disk.img", MIB)
    lines = [
        f"0 8 linear {image} 0",
        f"8 8 flakey {image} 8 1 1 1 drop_writes",
        f"16 8 delay {image} 16 0 {image} 24 1",
        f"24 16 striped 2 8 {image} 0 {image} 64",
        "40 8 error ",
        "48 8 zero ",
    ]
    dmsetup.ok("create", "a", stdin="\n".join(lines))
    table = dmsetup.ok("table", "--showkeys", "a")
    assert [line.split()[2] for line in table.splitlines()] == [x.split()[2] for x in lines]
    dmsetup.ok("load", "a", stdin=table)
    assert dmsetup.ok("table", "--inactive", "a") == table
    dmsetup.ok("remove", "a")


def test_a_killed_daemon_is_cleared_away_by_the_next_create(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 8 zero")
    pid = dmsetup.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: dmsetup.pid() is None)
    assert dmsetup.ok("ls") == "No devices found\n"
    dmsetup.ok("create", "b", "--table", "0 8 zero")
    assert not dmsetup.node("a").exists()
    assert dmsetup.node("b").exists()
    dmsetup.ok("remove", "b")


def test_commands_at_once_lose_no_device(dmsetup: Dmsetup) -> None:
    names = [f"d{number}" for number in range(6)]
    running = [dmsetup.start("create", name, "--table", "0 8 zero") for name in names]
    for process in running:
        assert process.wait(60) == 0, process.communicate()
        process.communicate()
    assert dmsetup.ok("info", "-c", "--noheadings", "-o", "name").split() == names
    running = [dmsetup.start("remove", name) for name in names]
    running.append(dmsetup.start("create", "last", "--table", "0 8 zero"))
    for process in running:
        assert process.wait(60) == 0, process.communicate()
        process.communicate()
    assert dmsetup.ok("ls", "--target", "zero").startswith("last\t")
    dmsetup.ok("remove", "last")


def test_the_daemon_shows_no_table_on_its_command_line(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 4096 zero")
    line = Path(f"/proc/{dmsetup.pid()}/cmdline").read_bytes()
    assert b"4096" not in line
    assert line.endswith(b"\0-m\0fusedm.dmsetup\0" + os.fsencode(dmsetup.dev) + b"\0")
    dmsetup.ok("remove", "a")


def test_what_is_in_the_way_of_a_node_stays(dmsetup: Dmsetup) -> None:
    dmsetup.node("a").parent.mkdir()
    dmsetup.node("a").write_text("somebody's")
    assert "is there already and not ours" in dmsetup.refused("create", "a", "--table", "0 8 zero")
    assert dmsetup.node("a").read_text() == "somebody's"
    dmsetup.node("a").unlink()
    assert dmsetup.left() == []


def test_nodes_that_are_missing_are_made_again(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "-M", "0640", "--readahead", "64", "--table", "0 8 zero")
    assert stat.S_IMODE(os.stat(dmsetup.node("a")).st_mode) == 0o640
    assert "Read Ahead:        64\n" in dmsetup.ok("info", "a")
    dmsetup.node("a").unlink()
    dmsetup.ok("mknodes")
    assert mounts.device_of_node(str(dmsetup.node("a"))) == dmsetup.number("a")
    dmsetup.ok("remove", "a")


def test_a_shim_does_not_replace_another_dmsetup(tmp_path: Path) -> None:
    other = tmp_path / "dmsetup"
    other.write_text("#!/bin/sh\n")
    done = fusedm("shim", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"fusedm: {other}: is there already and not ours\n"
    assert other.read_text() == "#!/bin/sh\n"
