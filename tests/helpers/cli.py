"""The command line as a user has it: real processes, real mounts, nothing left afterwards."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fusedm.block.errors import FusedmError
from fusedm.control.bring import bring_down
from fusedm.control.client import Client
from fusedm.control.run_dir import log_path, running_stacks
from fusedm.host import mounts

PROGRAM = str(Path(sys.executable).parent / "fusedm")
TIMEOUT_SECONDS = 60

KEY = bytes(range(100, 164))
TOML = """\
version = 1

[disks.ufs0]
size = "4MiB"
store = "file:ufs0.img"
engine = { keyslots = 4, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }

[disks.plain0]
size = "4MiB"
store = "volatile:memory:"

[mapper.data]
table = \"\"\"
0 4096 linear ufs0 0
4096 4096 linear plain0 0
\"\"\"

[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"

[views.home]
device = "data"
key = "alice"
"""


def run(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: str = "",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    return subprocess.run(
        [PROGRAM, *map(str, words)], env={**os.environ, **(env or {})}, pass_fds=pass_fds,
        input=stdin, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
    )  # fmt: skip


def ok(*words: str | Path, **how) -> str:
    """What a command line prints that must succeed."""
    done = run(*words, **how)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(code: int, *words: str | Path, **how) -> str:
    """What a command line says that must be refused: one line, perhaps with the place in a file."""
    done = run(*words, **how)
    assert done.returncode == code, done
    assert done.stdout == ""
    first, *place = done.stderr.splitlines()
    assert first.startswith("fusedm: ")
    assert not place or (len(place) == 2 and place[1].strip() == "^"), done.stderr
    return first.removeprefix("fusedm: ")


class Place:
    """A stack file with its key, and an empty mount point; verbs mean the stack that is there."""

    def __init__(self, folder: Path, toml: str = TOML) -> None:
        self.folder = folder
        self.toml = folder / "stack.toml"
        self.toml.write_text(toml)
        (folder / "alice.key").write_bytes(KEY)
        (folder / "alice.key").chmod(0o600)
        self.mount_point = folder / "mnt"
        self.mount_point.mkdir()

    @property
    def env(self) -> dict[str, str]:
        """The environment in which verbs mean this stack."""
        return {"FUSEDM_STACK": str(self.mount_point)}

    def up(self, **how) -> None:
        """Bring it up."""
        assert ok("up", self.toml, self.mount_point, **how) == ""

    def ok(self, *words: str | Path, **how) -> str:
        """What a verb on this stack prints."""
        return ok(*words, env=self.env, **how)

    def refused(self, code: int, *words: str | Path, **how) -> str:
        """What a verb says that is refused, and changes nothing."""
        before = self.state()
        text = refused(code, *words, env=self.env, **how)
        assert self.state() == before
        return text

    def state(self) -> object:
        """All that verbs change."""
        return [self.call(verb) for verb in ("save", "ls", "key.list")]

    def files(self) -> dict[str, object]:
        """What `ls --json` tells of each file."""
        rows = json.loads(self.ok("ls", "--json"))["blockdevices"]
        return {row["name"]: row for row in rows}

    def call(self, verb: str, **args: object) -> object:
        """What the daemon answers."""
        with Client(str(self.mount_point)) as client:
            return client.call(verb, **args)

    def pid(self) -> int | None:
        """The pid of the daemon, if it is alive."""
        point = str(self.mount_point)
        alive = (s.pid for s in running_stacks() if s.mount_point == point and s.is_alive)
        return next(alive, None)

    def is_mounted(self) -> bool:
        """Whether anything is mounted on the mount point."""
        return mounts.mount_at(str(self.mount_point)) is not None

    def is_gone(self) -> bool:
        """Whether neither mount nor daemon is left."""
        return not self.is_mounted() and self.pid() is None


@contextmanager
def place(folder: Path, toml: str = TOML) -> Iterator[Place]:
    """A place for a stack, cleared in the end whatever has happened there."""
    it = Place(folder, toml)
    try:
        yield it
    finally:
        clear(it.mount_point)


def clear(mount_point: Path) -> None:
    """Take down whatever may be at a mount point."""
    with suppress(FusedmError):
        bring_down(str(mount_point), force=True)
    while mounts.mount_at(str(mount_point)) is not None:
        mounts.unmount(str(mount_point), lazy=True)
    log_path(str(mount_point)).unlink(missing_ok=True)


def wait_until(what: Callable[[], object]) -> None:
    """Wait for something that another process is about to do."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not what():
        assert time.monotonic() < deadline, "it has not come to pass"
        time.sleep(0.02)
