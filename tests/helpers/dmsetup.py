"""dmsetup by its shim, in a folder of nodes and with a daemon that no other test sees."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from fusedm.control import Client, bring_down, stack_at
from fusedm.dmsetup.session import place_of
from fusedm.dmsetup.shim import write_shim
from fusedm.host import mounts
from fusedm.host.mounts import tool_path
from fusedm.host.run_folder import run_folder

TIMEOUT_SECONDS = 60

Kind = TypeVar("Kind", bound="Dmsetup")


class Dmsetup:
    """What a script finds: PATH begins with the shim, DM_DEV_DIR is folder/dev."""

    def __init__(self, folder: Path, links: bool = False) -> None:
        self.folder = folder
        self.dev = folder / "dev"
        self.dev.mkdir()
        shim = Path(write_shim(str(folder / "shim"), links)).parent
        self.environ = {
            **os.environ,
            "DM_DEV_DIR": str(self.dev),
            "PATH": f"{shim}:{tool_path(os.environ)}",
            "LC_ALL": "C",
        }

    @property
    def mount_point(self) -> str:
        """Where its daemon is mounted."""
        return place_of(str(self.dev))

    def node(self, name: str) -> Path:
        """The node of a device."""
        return self.dev / "mapper" / name

    def image(self, name: str, size: int) -> Path:
        """A new file of holes."""
        path = self.folder / name
        path.touch()
        os.truncate(path, size)
        return path

    def run(self, *words: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run dmsetup to its end."""
        return self.program("dmsetup", *words, stdin=stdin)

    def program(self, *words: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run anything to its end."""
        return subprocess.run(
            [str(word) for word in words], env=self.environ, input=stdin, cwd=self.folder,
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip

    def ok(self, *words: str | Path, stdin: str = "") -> str:
        """What dmsetup prints that must succeed without a complaint."""
        done = self.run(*words, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def refused(self, *words: str | Path) -> str:
        """What dmsetup says that must fail; without its last line, which is always the same."""
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (1, ""), done
        return done.stderr.removesuffix("Command failed.\n")

    def script(self, text: str) -> str:
        """What a shell script prints, in which no command may fail."""
        done = self.program("sh", "-eu", stdin=text)
        assert done.returncode == 0, done
        return done.stdout

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Run dmsetup beside the test."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["dmsetup", *words], env=self.environ, stdout=pipe, stderr=pipe, text=True
        )

    def number(self, name: str) -> str:
        """major:minor of a device."""
        return self.ok("info", "-c", "--noheadings", "-o", "devno", name).strip()

    def call(self, verb: str, **args: object) -> Any:
        """Ask the daemon itself."""
        with Client(self.mount_point) as client:
            return client.call(verb, **args)

    def pid(self) -> int | None:
        """Its daemon, if one is alive."""
        stack = stack_at(self.mount_point)
        return stack.pid if stack is not None and stack.is_alive else None

    def left(self) -> list[str]:
        """What is left of it in the run folder, and of its nodes."""
        kept = [path.name for path in run_folder().glob(f"{Path(self.mount_point).name}*")]
        if stack_at(self.mount_point) is not None:
            kept.append("a lock file")
        mapper = self.dev / "mapper"
        return kept + [path.name for path in (mapper.iterdir() if mapper.exists() else ())]

    def end(self) -> None:
        """End its daemon, whatever there is."""
        if stack_at(self.mount_point) is not None or mounts.mount_at(self.mount_point) is not None:
            bring_down(self.mount_point, force=True)


@contextmanager
def dmsetup_in(folder: Path, kind: type[Kind] = Dmsetup) -> Iterator[Kind]:
    """dmsetup for the time of a with block, whose devices must all be removed in it."""
    dmsetup = kind(folder)
    try:
        yield dmsetup
        assert dmsetup.left() == []
    finally:
        dmsetup.end()


def eventually(is_so: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether something becomes so in time."""
    deadline = monotonic() + seconds
    while not is_so():
        if monotonic() > deadline:
            return False
        sleep(0.05)
    return True
