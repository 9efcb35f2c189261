"""Loop devices are the machine's, and a path is another file in every mount namespace."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusedm.dmsetup.session import place_of
from fusedm.host import loop
from fusedm.host.loop_finding import LoopDevice, is_attached
from fusedm.host.process import send_signal, start_time
from tests.helpers.container import Container, containers
from tests.helpers.dmsetup import Dmsetup, dmsetup_in, eventually
from tests.helpers.mounted import MIB

#: Namespaces hold what others have mounted.
pytestmark = [pytest.mark.fuse, pytest.mark.loop, pytest.mark.alone]


def down(container: Container, *options: str) -> str:
    """What bringing the daemon behind dmsetup down inside says."""
    where = place_of(container.environ["DM_DEV_DIR"])
    done = container.run("fusedm", "down", *options, where)
    assert done.returncode == 0, done
    return done.stderr


def image(folder: Path, name: str) -> Path:
    path = folder / f"{name}.img"
    path.write_text(f"this is {name}")
    os.truncate(path, 4 * MIB)
    return path


def loop_of(container: Container) -> LoopDevice:
    """The loop device of the device t inside."""
    number = container.dmsetup("info", "-c", "--noheadings", "-o", "devno", "t").strip()
    device = loop.loop_device((Path("/sys/dev/block") / number).resolve().name)
    assert device is not None
    return device


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Container]]:
    """Two containers, each with a device t over an image of its own."""
    with containers(tmp_path, "a", "b") as made:
        for name, container in zip("ab", made, strict=True):
            table = f"0 8192 linear {image(tmp_path, name)} 0"
            container.dmsetup("create", "t", "--table", table)
        yield made


def node(container: Container) -> str:
    return f"{container.environ['DM_DEV_DIR']}/mapper/t"


def test_devices_of_one_name_have_loop_devices_of_their_own(
    two: list[Container], tmp_path: Path
) -> None:
    assert [one.read(node(one), 9) for one in two] == ["this is a", "this is b"]
    a, b = two
    b.ok("sh", "-c", f"printf 'written by B' | dd of={node(b)} conv=notrunc,fsync status=none")
    b.dmsetup("remove", "t")
    assert a.read(node(a), 9) == "this is a"
    assert (tmp_path / "b.img").read_bytes().startswith(b"written by B")
    assert (tmp_path / "a.img").read_bytes().startswith(b"this is a")


def test_renaming_swapping_and_suspending_one_leaves_the_other(two: list[Container]) -> None:
    a, b = two
    b.dmsetup("reload", "t", "--table", "0 8192 zero")
    b.dmsetup("suspend", "t")
    b.dmsetup("resume", "t")
    b.dmsetup("rename", "t", "u")
    assert "0 8192 linear" in a.dmsetup("table", "t")
    assert a.read(node(a), 9) == "this is a"
    assert b.dmsetup("info", "-c", "--noheadings", "-o", "open", "u").strip() == "0"
    b.dmsetup("rename", "u", "t")


def test_nothing_of_the_other_is_removed(two: list[Container]) -> None:
    a, b = two
    b.dmsetup("remove_all", "--force")
    assert is_attached(loop_of(a))
    assert a.read(node(a), 9) == "this is a"


def test_a_stack_that_is_brought_down_leaves_the_other(two: list[Container]) -> None:
    a, b = two
    gone = loop_of(b)
    down(b, "--force")
    assert not is_attached(gone)
    assert a.read(node(a), 9) == "this is a"


def test_what_a_killed_daemon_left_is_told_from_what_another_one_left(
    two: list[Container],
) -> None:
    loops = [loop_of(one) for one in two]
    for one in two:
        os.kill(one.daemon(), signal.SIGKILL)
    a, b = two
    assert f"detached {loops[1].node} from" in down(b)
    assert [is_attached(one) for one in loops] == [True, False]
    down(a)
    assert not is_attached(loops[0])
    assert a.ok("ls", "/run/fusedm") == ""


def test_a_table_over_the_loop_device_of_another_is_not_over_the_own_device(
    two: list[Container],
) -> None:
    a, b = two
    b.dmsetup("create", "over", "--table", f"0 8 linear {loop_of(a).node} 0")
    assert b.read(node(b).removesuffix("t") + "over", 9) == "this is a"
    b.dmsetup("create", "own", "--table", f"0 8 linear {loop_of(b).node} 0")
    assert b.read(node(b).removesuffix("t") + "own", 9) == "this is b"
    b.dmsetup("remove", "over", "own")


def test_stacks_at_one_path_list_and_detach_their_own_loop_devices_only(tmp_path: Path) -> None:
    (tmp_path / "stack.toml").write_text(
        'version = 1\n[disks.d]\nsize = "4MiB"\nstore = "memory:"\n'
    )
    where = tmp_path / "mnt"
    where.mkdir()
    with containers(tmp_path, "a", "b") as two:
        a, b = two
        found = []
        for one in two:
            one.ok("fusedm", "up", tmp_path / "stack.toml", where)
            device = loop.loop_device(one.ok("fusedm", "attach", "d").strip())
            assert device is not None
            found.append(device)
        assert found[0].node != found[1].node
        assert found[0].node not in b.ok("fusedm", "ls")
        assert found[1].node in b.ok("fusedm", "ls")
        b.ok("fusedm", "detach", "d")
        assert b.run("fusedm", "detach", "d").returncode == 1
        b.ok("fusedm", "down", where)
        assert is_attached(found[0])
        a.ok("fusedm", "down", where)
        assert not is_attached(found[0])


@pytest.fixture
def dmsetup(tmp_path: Path) -> Iterator[Dmsetup]:
    with dmsetup_in(tmp_path) as made:
        yield made


def apart(dmsetup: Dmsetup, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run dmsetup in a copy of this mount namespace."""
    return dmsetup.program("unshare", "-m", "dmsetup", *words)


def test_a_daemon_in_another_namespace_serves_this_one_too(
    dmsetup: Dmsetup, tmp_path: Path
) -> None:
    table = f"0 8192 linear {image(tmp_path, 'a')} 0"
    # The first device starts the daemon, whose mount nobody else sees then.
    done = apart(dmsetup, "create", "inner", "--table", table)
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.ismount(dmsetup.mount_point)
    dmsetup.ok("create", "outer", "--table", f"0 8 linear {dmsetup.node('inner')} 0")
    assert dmsetup.node("outer").read_bytes().startswith(b"this is a")
    assert dmsetup.ok("info", "-c", "--noheadings", "-o", "open", "inner").strip() == "1"
    dmsetup.ok("remove", "outer")
    assert apart(dmsetup, "remove", "inner").returncode == 0


def test_the_last_device_is_removed_from_another_namespace(dmsetup: Dmsetup) -> None:
    dmsetup.ok("create", "a", "--table", "0 8 zero")
    done = apart(dmsetup, "remove", "a")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_daemon_of_a_namespace_that_is_gone_left_is_cleared(dmsetup: Dmsetup) -> None:
    apart(dmsetup, "create", "inner", "--table", "0 8 zero")
    left = loop.loop_device((Path("/sys/dev/block") / dmsetup.number("inner")).resolve().name)
    assert left is not None
    pid = dmsetup.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: dmsetup.pid() is None)
    dmsetup.ok("create", "next", "--table", "0 8 zero")
    assert os.listdir(dmsetup.dev / "mapper") == ["next"]
    assert not is_attached(left)
    dmsetup.ok("remove", "next")


def test_a_mount_that_cannot_be_seen_from_here_is_said_in_one_line(
    dmsetup: Dmsetup, tmp_path: Path
) -> None:
    apart(dmsetup, "create", "inner", "--table", "0 8 zero")
    command = ["unshare", "-m", "-p", "--fork", "--mount-proc", "dmsetup", "create", "other"]
    done = dmsetup.program(*command, "--table", "0 8 zero")
    assert done.returncode == 1
    assert "create ioctl on other  failed: " in done.stderr
    assert dmsetup.ok("ls") == f"inner\t({dmsetup.number('inner')})\n"
    dmsetup.ok("remove", "inner")


def test_a_path_that_is_another_file_to_the_daemon_is_refused(
    dmsetup: Dmsetup, tmp_path: Path
) -> None:
    dmsetup.ok("create", "one", "--table", "0 8 zero")
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        image(tmp_path / folder, "a")
    table = f"0 8 linear {tmp_path}/here/a.img 0"
    script = f"mount --bind {tmp_path}/there {tmp_path}/here; dmsetup create two --table '{table}'"
    done = dmsetup.program("unshare", "-m", "sh", "-c", script)
    assert done.returncode == 1
    assert dmsetup.ok("ls").startswith("one")
    done = apart(dmsetup, "create", "two", "--table", table)
    assert (done.returncode, done.stderr) == (0, "")
    dmsetup.ok("remove", "two", "one")


def test_a_path_that_became_another_file_is_the_new_one(dmsetup: Dmsetup, tmp_path: Path) -> None:
    first = image(tmp_path, "a")
    dmsetup.ok("create", "one", "--table", f"0 8 linear {first} 0")
    image(tmp_path, "b").rename(first)
    dmsetup.ok("create", "two", "--table", f"0 8 linear {first} 0")
    assert dmsetup.node("one").read_bytes().startswith(b"this is a")
    assert dmsetup.node("two").read_bytes().startswith(b"this is b")
    dmsetup.ok("remove", "two", "one")


def test_a_pid_that_is_anothers_by_now_gets_no_signal() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        started = start_time(innocent.pid)
        send_signal(innocent.pid, started - 1, signal.SIGKILL)
        innocent.communicate(b"\n", timeout=30)
        assert innocent.returncode == 0


@contextmanager
def below_root() -> Iterator[str]:
    """A new folder right below the root."""
    where = tempfile.mkdtemp(prefix="fusedm-test-", dir="/")
    try:
        yield where
    finally:
        os.rmdir(where)


def test_what_killed_daemons_left_right_below_the_root_is_told_apart_too(tmp_path: Path) -> None:
    (tmp_path / "stack.toml").write_text(
        'version = 1\n[disks.d]\nsize = "4MiB"\nstore = "memory:"\n'
    )
    with containers(tmp_path, "a", "b") as two, below_root() as where:
        found = []
        for one in two:
            one.ok("fusedm", "up", tmp_path / "stack.toml", where)
            device = loop.loop_device(one.ok("fusedm", "attach", "d").strip())
            assert device is not None
            found.append(device)
            os.kill(one.daemon(), signal.SIGKILL)
        a, b = two
        b.ok("fusedm", "down", where)
        assert [is_attached(one) for one in found] == [True, False]
        a.ok("fusedm", "down", where)
        assert not is_attached(found[0])
