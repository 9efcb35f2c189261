"""Mount namespaces as containers have them: a /run/fusedm and nodes of their own, shared loops."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fusedm.dmsetup.shim import write_shim
from fusedm.host.mounts import tool_path

TIMEOUT_SECONDS = 60
RUN = Path("/run/fusedm")


class Container:
    """A mount namespace that lives as long as its first process."""

    def __init__(self, pid: int, environ: dict[str, str]) -> None:
        self.pid = pid
        self.environ = environ

    def run(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a program inside to its end."""
        # Else its root would be that of the namespace, which is another one after chroot.
        root = f"--root=/proc/{self.pid}/root"
        command = ["nsenter", "-m", root, "-t", str(self.pid), "--", *map(str, words)]
        return subprocess.run(
            command, env=self.environ, cwd="/", capture_output=True, text=True,
            timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip

    def ok(self, *words: str | Path) -> str:
        """What a program prints that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done
        return done.stdout

    def dmsetup(self, *words: str | Path) -> str:
        """What dmsetup prints, which must succeed."""
        return self.ok("dmsetup", *words)

    def read(self, path: str, count: int) -> str:
        """The first bytes at a path inside, past every cache."""
        return self.ok(
            "sh", "-c", f"dd if={path} bs=4096 count=1 iflag=direct status=none | head -c {count}"
        )

    def daemon(self) -> int:
        """The pid of the daemon behind dmsetup inside."""
        told = self.ok("sh", "-c", "cat /run/fusedm/*.json")
        return int(told.partition('"pid": ')[2].partition(",")[0])


@contextmanager
def containers(folder: Path, *names: str, has_run: bool = True) -> Iterator[list[Container]]:
    """Namespaces for the time of a with block, ended with all that is in them.

    has_run gives each a /run/fusedm of its own; without, they share one of their own.
    """
    RUN.mkdir(mode=0o700, exist_ok=True)
    dev = folder / "dev"
    dev.mkdir()
    shim = Path(write_shim(str(folder / "shim"))).parent
    path = f"{shim}:{Path(sys.executable).parent}:{tool_path(os.environ)}"
    environ = {**os.environ, "PATH": path, "DM_DEV_DIR": str(dev), "LC_ALL": "C"}
    own = f"mount -t tmpfs -o mode=0700 none {RUN}; mount -t tmpfs none {dev};"
    script = f"{own if has_run else ''} echo ready; read line"
    with ExitStack() as ending:
        found = []
        for _ in names:
            process = ending.enter_context(_first_process(script, environ))
            container = Container(process, environ)
            ending.callback(container.run, "dmsetup", "remove_all", "--force")
            found.append(container)
        yield found


@contextmanager
def _first_process(script: str, environ: dict[str, str]) -> Iterator[int]:
    command = ["unshare", "-m", "--propagation", "private", "sh", "-eu", "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environ, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process.pid
        finally:
            process.kill()
