"""Scripts as storage test suites write them, which only know dmsetup, through the shim."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from fusedm.host import mounts
from tests.helpers.dmsetup import Dmsetup
from tests.helpers.nightly import nightly_but

SCRIPTS = Path(__file__).parents[1] / "mount/scripts"
FILE_SYSTEMS = ["ext4", "xfs", "btrfs"]
SCRIPT_SECONDS = 100


def on_file_systems(ordinary: str, of: Iterable[str] = FILE_SYSTEMS) -> pytest.MarkDecorator:
    """Run a test on one file system in every run, and on the others by night."""
    return pytest.mark.parametrize("fs", nightly_but([ordinary], of))


def run_script(dmsetup: Dmsetup, script: str, *words: str) -> None:
    """Run a script, which must succeed and leave neither a mount nor a loop device."""
    done = subprocess.run(
        ["sh", str(SCRIPTS / f"{script}.sh"), *words], env=dmsetup.environ, cwd=dmsetup.folder,
        capture_output=True, text=True, timeout=SCRIPT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script} {words}\n{done.stdout}\n{done.stderr}"
    folder = str(dmsetup.folder)
    assert [m.mount_point for m in mounts.read_mounts() if m.mount_point.startswith(folder)] == []
    assert folder not in dmsetup.program("losetup", "--list", "-O", "BACK-FILE", "-n").stdout
