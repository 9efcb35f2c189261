"""A Linux kernel that runs as a process: it is booted, carries experiments out, and goes off.

User-mode Linux with this machine's file system as its root, for reading only; it writes to the one
folder it is given. It has no terminal, no network and no time of its own beyond its limit.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tests.helpers.preload import compiled
from tests.helpers.uml.experiment import Experiment, Outcome

PROGRAM = "linux.uml"
#: With their parameters. Ciphers first: dm-crypt's keys want them when they are loaded.
MODULES = (
    *("xts", "cbc", "ecb", "essiv", "adiantum", "loop max_loop=16"),
    *(
        "dm-mod major=253",
        "dm-zero",
        "dm-flakey",
        "dm-delay",
        "dm-dust",
        "dm-log-writes",
        "dm-snapshot",
    ),
    *("dm-crypt", "dm-switch", "dm-unstripe", "dm-mirror", "dm-raid", "raid0", "raid1"),
    *("raid10", "raid456"),
    *("dm-thin-pool", "dm-cache", "dm-cache-smq", "dm-clone", "dm-era", "dm-writecache"),
    *("dm-integrity",),
)
GUEST = Path(__file__).with_name("guest.py")
#: The longest batch takes a tenth of it on two busy cores.
TIMEOUT_SECONDS = 180


class GuestFailed(Exception):
    """The kernel did not give results: what it and its first process said."""


def problem() -> str | None:
    """Why no kernel can be booted here; None if it can."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed: apt-get install user-mode-linux"
    if shutil.which("dmsetup", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        return "dmsetup is not installed: apt-get install dmsetup"
    return None


def boot(
    folder: Path, experiments: Mapping[str, Experiment], timeout: float = TIMEOUT_SECONDS
) -> dict[str, Outcome]:
    """Have a kernel carry experiments out, in a folder of its own; leaves nothing running.

    Raises: GuestFailed.
    """
    plan = {
        "modules": MODULES,
        # The guest ends itself before, and says where it was, if it can.
        "seconds": int(timeout * 0.9),
        "experiments": {name: asdict(each) for name, each in experiments.items()},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    init = folder / "init"
    # Of the interpreter below any .venv: what that leads to may be out of reach.
    python = os.path.realpath(sys.executable)
    init.write_text(f"#!/bin/sh\nexec '{python}' -I '{GUEST}' '{folder}'\n")
    init.chmod(0o755)
    _run(folder, init, timeout)
    try:
        results = json.loads((folder / "results.json").read_text())
    except OSError:
        logs = (folder / name for name in ("console.log", "guest.log"))
        said = "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())
        raise GuestFailed(f"no results from the kernel:\n{said}") from None
    return {name: Outcome(**result) for name, result in results.items()}


def _run(folder: Path, init: Path, timeout: float) -> None:
    words = [
        *("mem=256M", "quiet", "ro", "root=/dev/root", "rootfstype=hostfs", "rootflags=/"),
        *(f"init={init}", f"uml_dir={folder}", "umid=guest"),
        *("con=null", "con0=null,fd:2", "ssl=null"),
    ]
    registers = compiled("uml/registers.c", folder)
    with open(folder / "console.log", "w") as log:
        # In a session of its own: all its processes can be ended, and no others.
        guest = subprocess.Popen(
            [PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(folder), "LD_PRELOAD": str(registers)},
        )
        try:
            guest.wait(timeout)
        except subprocess.TimeoutExpired:
            log.write(f"\nended after {timeout} s\n")
        finally:
            if guest.poll() is None:
                os.killpg(guest.pid, signal.SIGKILL)
                guest.wait()
                _wait_until_gone(guest.pid)


def _wait_until_gone(group: int) -> None:
    """Wait for the other processes of a group that was killed, which are nobody's children."""
    for _ in range(1000):
        if not any(_is_alive_in(group, entry) for entry in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.01)


def _is_alive_in(group: int, entry: Path) -> bool:
    try:
        state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return False
    return int(its_group) == group and state not in "ZX"
