"""A stack of a user who is not root, and what root can do with it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.host import loop
from fusedm.host.mounts import mount_at
from tests.helpers import mounted
from tests.helpers.mounted import USUAL, write_stack
from tests.helpers.tiers import left_behind
from tests.helpers.unprivileged import NOBODY, RUNTIME_DIR, PrivateMachine, private_machine

# A mount namespace of its own holds what others have mounted.
pytestmark = [pytest.mark.fuse, pytest.mark.loop, pytest.mark.alone]

ROOT = 0


class UsersStack:
    """A stack file of nobody's and its mount point, on a machine of their own."""

    def __init__(self, machine: PrivateMachine) -> None:
        self.machine = machine
        self.mount_point = machine.folder / "mnt"
        self.home = self.mount_point / "views/home"

    def ok(self, *words: str | Path, user: int, runtime_dir: str = RUNTIME_DIR) -> str:
        """What a verb prints that must succeed; what it says on stderr is of what it has done."""
        done = self.machine.fusedm(*words, user=user, runtime_dir=runtime_dir)
        assert done.returncode == 0, done
        return done.stdout

    def refused(self, code: int, *words: str | Path, user: int) -> str:
        """What a verb says that must be refused: one line."""
        done = self.machine.fusedm(*words, user=user)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
        return done.stderr.removeprefix("fusedm: ").removesuffix("\n")

    def up(self, *options: str) -> list[str | Path]:
        """The words that bring it up."""
        stack_file = self.machine.folder / "stack.toml"
        return ["up", stack_file, self.mount_point, *mounted.every_up, *options]

    def is_gone(self) -> bool:
        """Whether neither mount nor socket, lock file or anything in a log is left."""
        kept = self.machine.run("ls", "-A", f"{RUNTIME_DIR}/fusedm", user=NOBODY).stdout
        return kept + self.machine.ok("ls", "-A", self.mount_point, user=NOBODY) == ""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[UsersStack]:
    write_stack(tmp_path, USUAL)
    with private_machine(tmp_path) as machine:
        yield UsersStack(machine)
    assert left_behind(str(tmp_path)) == []


@pytest.fixture
def stack_where_things_lack(tmp_path: Path) -> Iterator[UsersStack]:
    write_stack(tmp_path, USUAL)
    with private_machine(tmp_path, lacks_nothing=False) as machine:
        yield UsersStack(machine)


def test_a_user_brings_a_stack_up_and_down(stack: UsersStack) -> None:
    stack.ok(*stack.up(), user=NOBODY)
    view = stack.machine.ok("sha256sum", "--", stack.home, user=NOBODY)
    twin = stack.machine.ok("sha256sum", "--", stack.mount_point / "views/twin", user=NOBODY)
    assert view.split()[0] == twin.split()[0]
    stack.ok("down", stack.mount_point, user=NOBODY)
    assert stack.is_gone()


def test_a_users_stack_is_closed_to_root_which_is_told_why(stack: UsersStack) -> None:
    stack.ok(*stack.up(), user=NOBODY)
    assert "Permission denied" in stack.machine.run("ls", stack.mount_point).stderr
    assert stack.refused(2, "attach", "--stack", stack.mount_point, "home", user=ROOT) == (
        f"{stack.home}: root cannot see into this mount: bring it up with --allow-root or "
        "--allow-other, and user_allow_other in /etc/fuse.conf"
    )


@pytest.mark.parametrize("option", ["--allow-root", "--allow-other"])
def test_root_attaches_reads_writes_and_detaches_where_it_may_look_in(
    stack: UsersStack, option: str
) -> None:
    stack.ok(*stack.up(option), user=NOBODY)
    chosen = ("--stack", stack.mount_point)
    node = Path(stack.ok("attach", *chosen, "home", user=ROOT).strip())
    plain = b"written by root".ljust(4096, b".")
    with node.open("r+b", buffering=0) as device:
        device.write(plain)
        os.fsync(device.fileno())
    seen = stack.machine.ok("head", "-c4096", stack.home, user=NOBODY)
    assert seen.encode() == plain
    through_loop = stack.machine.ok("sha256sum", node).split()[0]
    assert stack.machine.ok("sha256sum", stack.home, user=NOBODY).split()[0] == through_loop
    stack.ok("detach", *chosen, "home", user=ROOT)
    stack.refused(1, "detach", *chosen, "home", user=ROOT)


def test_only_root_ends_a_stack_that_root_has_attached(stack: UsersStack) -> None:
    stack.ok(*stack.up("--allow-root"), user=NOBODY)
    stack.ok("attach", "--stack", stack.mount_point, "home", user=ROOT)
    said = stack.refused(2, "down", stack.mount_point, user=NOBODY)
    assert said.startswith("loop devices need root")
    stack.ok("status", "--stack", stack.mount_point, user=NOBODY)
    stack.ok("down", stack.mount_point, user=ROOT)
    assert stack.is_gone()


@pytest.mark.parametrize("options", [(), ("--allow-root",)])
def test_root_ends_a_users_stack(stack: UsersStack, options: tuple[str, ...]) -> None:
    stack.ok(*stack.up(*options), user=NOBODY)
    stack.ok("down", stack.mount_point, user=ROOT)
    assert stack.is_gone()


def test_root_finds_the_stack_of_a_user_who_has_not_logged_in(stack: UsersStack) -> None:
    stack.ok(*stack.up(), user=NOBODY, runtime_dir="")
    assert stack.machine.ok("ls", "/tmp").split().count(f"fusedm-{NOBODY}") == 1
    stack.ok("down", stack.mount_point, user=ROOT)
    assert stack.machine.ok("ls", "-A", f"/tmp/fusedm-{NOBODY}") == ""


def test_a_user_who_may_not_open_fuse_is_told_so(stack_where_things_lack: UsersStack) -> None:
    stack = stack_where_things_lack
    said = stack.refused(1, *stack.up(), user=NOBODY)
    assert said.endswith("failed to open /dev/fuse: Permission denied")
    assert stack.is_gone()


def test_a_user_who_may_not_let_root_in_is_told_so(stack: UsersStack) -> None:
    stack.machine.ok("sh", "-c", "echo > /etc/fuse.conf")
    said = stack.refused(1, *stack.up("--allow-root"), user=NOBODY)
    assert "'user_allow_other' is set in /etc/fuse.conf" in said
    assert stack.is_gone()


def test_the_doctor_names_what_a_user_lacks(stack_where_things_lack: UsersStack) -> None:
    done = stack_where_things_lack.machine.fusedm("doctor", user=NOBODY)
    assert (done.returncode, done.stderr) == (1, "")
    assert "MISS /dev/fuse: /dev/fuse: Permission denied\n       fix: chmod 666" in done.stdout
    assert "note user_allow_other: users may not give --allow-other or" in done.stdout
    assert f"MISS root: loop devices need root, this is uid {NOBODY}\n" in done.stdout


def test_the_doctor_misses_only_root_where_a_user_may_mount(stack: UsersStack) -> None:
    told = stack.machine.fusedm("doctor", user=NOBODY).stdout.splitlines()
    missing = [line.partition(":")[0] for line in told if line.startswith("MISS")]
    assert missing == ["MISS root", "MISS loop devices"]
    assert "ok   user_allow_other: users may give --allow-other and --allow-root" in told
    # Where there is no runtime directory, there is one in /tmp.
    told = stack.machine.fusedm("doctor", user=NOBODY, runtime_dir="").stdout.splitlines()
    assert f"ok   run folder: sockets and locks are in /tmp/fusedm-{NOBODY}" in told


def what_a_private_machine_covers() -> object:
    points = "/run", "/tmp", "/dev/fuse", "/etc/fuse.conf"
    return [(os.stat(point).st_mode, os.stat(point).st_ino, mount_at(point)) for point in points]


def test_a_private_machine_takes_everything_along_when_a_test_fails(tmp_path: Path) -> None:
    write_stack(tmp_path, USUAL)
    before = what_a_private_machine_covers()
    nodes = []

    def fail_halfway() -> None:
        with private_machine(tmp_path) as machine:
            stack = UsersStack(machine)
            stack.ok(*stack.up("--allow-root"), user=NOBODY)
            attached = stack.ok("attach", "--stack", stack.mount_point, "home", user=ROOT)
            nodes.append(attached.strip())
            assert what_a_private_machine_covers() == before
            assert left_behind(str(tmp_path)) != []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert left_behind(str(tmp_path)) == []
    assert [loop.loop_device(node) for node in nodes] == [None]
    assert what_a_private_machine_covers() == before


#: Who owns /proc/PID/environ of the daemon, and its limit on core dumps.
LOOK = """
for process in /proc/[0-9]*; do
    if tr '\\0' ' ' <$process/cmdline | grep -q 'fused[m] up'; then
        stat -c %u $process/environ
        sed -n 's/^Max core file size *\\([^ ]*\\).*/\\1/p' $process/limits
    fi
done
"""


@pytest.mark.parametrize(
    ("options", "owner", "limit"),
    [((), ROOT, "0"), (("--allow-core",), NOBODY, "unlimited")],
)
def test_the_daemon_is_dumped_and_looked_into_only_if_it_is_allowed(
    stack: UsersStack, options: tuple[str, ...], owner: int, limit: str
) -> None:
    """To the user's other processes what cannot be dumped is root's."""
    words = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh"]
    command = [sys.executable, "-m", "fusedm", *stack.up(*options)]
    done = stack.machine.run(*words, *command, user=NOBODY, XDG_RUNTIME_DIR=RUNTIME_DIR)
    assert (done.returncode, done.stderr) == (0, "")
    told = stack.machine.run("sh", "-c", LOOK)
    assert told.stdout.split() == [str(owner), limit]
    stack.ok("down", stack.mount_point, user=NOBODY)


def test_a_command_of_run_has_the_limit_it_would_have_had(stack: UsersStack) -> None:
    words = ["sh", "-c", 'ulimit -Sc 8; exec "$@"', "sh", sys.executable, "-m", "fusedm", "run"]
    command = [stack.machine.folder / "stack.toml", "--", "sh", "-c", "ulimit -c"]
    done = stack.machine.run(*words, *command, user=NOBODY, XDG_RUNTIME_DIR=RUNTIME_DIR)
    assert (done.stdout, done.stderr) == ("8\n", "")
