"""A machine that users may mount on, whatever this one is like: namespaces of our own.

Its mounts and processes are seen by nobody else, and end with it: in it /dev/fuse is open to
everybody, /etc/fuse.conf allows others to look in, /run and /tmp are empty, and a user can reach
the program below folders that are closed to users. Loop devices are the real machine's.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusedm.host.mounts import tool_path
from tests.helpers.namespaces import unshare_mounts

NOBODY = 65534
RUNTIME_DIR = f"/run/user/{NOBODY}"
TIMEOUT_SECONDS = 60

#: Where the machine keeps what is mounted elsewhere.
KEPT = Path("/run/kept")
PROJECT = Path(__file__).parents[2]
RELEASE = "import sys; from fusedm.host import loop; loop.release_all(sys.argv[1], force=True)"


class PrivateMachine:
    """The commands of root and of nobody on it; folder is nobody's, at its own path.

    Owns: a process that ends when its standard input does, so with us, and all others with it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        flags = ("--pid", "--mount-proc", "--fork", "--kill-child")
        # As pid 1 of the namespace it takes every other process there along.
        self._first = subprocess.Popen(
            [*unshare_mounts(*flags), "cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._first.stdin is not None
        assert self._first.stdout is not None
        print("are you there?", file=self._first.stdin, flush=True)
        assert self._first.stdout.readline() == "are you there?\n", "no namespaces to be had"

    def run(
        self, *words: str | Path, user: int = 0, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, in /."""
        namespaces = f"/proc/{self._first.pid}/ns"
        enter = ["nsenter", f"--mount={namespaces}/mnt", f"--pid={namespaces}/pid_for_children"]
        # Else its root would be that of the namespace, which is another one after chroot.
        root = f"/proc/{self._first.pid}/root"
        enter += [f"--root={root}", f"--wd={root}", f"--setuid={user}", f"--setgid={user}"]
        path = tool_path(os.environ)
        return subprocess.run(
            [*enter, "--", *map(str, words)], umask=0o022, stdin=subprocess.DEVNULL,
            env={"PATH": path, "LC_ALL": "C", "PYTHONPATH": str(PROJECT), **environ},
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip

    def ok(self, *words: str | Path, user: int = 0) -> str:
        """What a command prints that must succeed."""
        done = self.run(*words, user=user)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def fusedm(
        self, *words: str | Path, user: int, runtime_dir: str = RUNTIME_DIR
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command line, as one does who has logged in."""
        return self.run(
            sys.executable, "-m", "fusedm", *words, user=user, XDG_RUNTIME_DIR=runtime_dir
        )

    def end(self) -> None:
        """End every process and so every mount, whatever state they are in; loop devices first."""
        try:
            # From outside they cannot be told to be over this folder.
            self.ok(sys.executable, "-c", RELEASE, self.folder)
        finally:
            self._first.communicate(timeout=TIMEOUT_SECONDS)


@contextmanager
def private_machine(folder: Path, lacks_nothing: bool = True) -> Iterator[PrivateMachine]:
    """A machine for the time of a with block; a user there may mount unless it lacks things."""
    machine = PrivateMachine(folder)
    try:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        machine.ok("mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run")
        machine.ok("install", "-d", "-o", str(NOBODY), "-m", "700", RUNTIME_DIR)
        _let_users_reach(machine, [folder, PROJECT / "fusedm", *_folders_of_python()])
        _set_fuse_up(machine, lacks_nothing)
        machine.ok(sys.executable, "-c", "import fusedm.control", user=NOBODY)
        yield machine
    finally:
        machine.end()


def _folders_of_python() -> set[Path]:
    """What the interpreter is made of, under each name that leads there."""
    prefixes = {Path(sys.prefix), Path(sys.base_prefix)}
    return prefixes | {prefix.resolve() for prefix in prefixes}


def _let_users_reach(machine: PrivateMachine, needed: list[Path]) -> None:
    """Put an empty folder over /tmp and over each that is closed, with what is needed in it."""
    covers = {cover for path in needed if (cover := _first_closed_above(path)) is not None}
    covers = {cover for cover in covers if Path("/tmp") not in cover.parents}
    covers.add(Path("/tmp"))
    covered = sorted(path for path in needed if covers.intersection(path.parents))
    kept = {path: KEPT / str(number) for number, path in enumerate(covered)}
    for path, place in kept.items():
        machine.ok("mkdir", "-p", place)
        machine.ok("mount", "--rbind", path, place)
    for cover in covers:
        mode = "1777" if cover == Path("/tmp") else "755"
        machine.ok("mount", "-t", "tmpfs", "-o", f"mode={mode}", "none", cover)
    for path, place in kept.items():
        machine.ok("mkdir", "-p", path)
        machine.ok("mount", "--rbind", place, path)


def _first_closed_above(path: Path) -> Path | None:
    """The uppermost folder above a path that others may not go through."""
    above = reversed(path.parents)
    return next((folder for folder in above if not folder.stat().st_mode & stat.S_IXOTH), None)


def _set_fuse_up(machine: PrivateMachine, lacks_nothing: bool) -> None:
    """Open FUSE to users, or close it where it is open."""
    number = os.stat("/dev/fuse").st_rdev
    mode, allowed = ("666", "user_allow_other") if lacks_nothing else ("600", "#user_allow_other")
    device, config = KEPT / "fuse", KEPT / "fuse.conf"
    machine.ok("mknod", "-m", mode, device, "c", str(os.major(number)), str(os.minor(number)))
    machine.ok("sh", "-c", f"echo '{allowed}' > {config}")
    machine.ok("mount", "--bind", device, "/dev/fuse")
    machine.ok("mount", "--bind", config, "/etc/fuse.conf")
