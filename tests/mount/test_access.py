"""Who may look into a mount, and who may attach from it."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.block.errors import UsageError
from fusedm.control import loop
from tests.helpers.mounted import USUAL, Mounted, mounted_stack

NOBODY = 65534

PRIVATE = "Permission denied"


def as_nobody(stack: Mounted, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user who owns nothing, from the folder that holds the mount as mnt."""
    folder = stack.mount_point.parent
    # Only its own mode counts: the folders above it are not looked at from within.
    folder.chmod(0o755)
    return subprocess.run(
        command, cwd=folder, user=NOBODY, group=NOBODY, extra_groups=[],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user"),
]


def test_a_mount_is_private_to_its_user(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path) as stack:
        for path in ("mnt", "mnt/disks", "mnt/sys/block/ufs0/size"):
            refused = as_nobody(stack, "ls", path)
            assert refused.returncode != 0
            assert PRIVATE in refused.stderr


@pytest.mark.parametrize("option", ["--allow-other"])
def test_others_may_look_in_if_asked_for_but_not_read_devices(tmp_path: Path, option: str) -> None:
    with mounted_stack(USUAL, tmp_path, option) as stack:
        assert as_nobody(stack, "ls", "mnt").stdout.split() == ["disks", "mapper", "sys", "views"]
        assert as_nobody(stack, "cat", "mnt/sys/block/ufs0/size").stdout == "8192\n"
        refused = as_nobody(stack, "head", "-c1", "mnt/views/home")
        assert PRIVATE in refused.stderr
        assert stack.call("view.show", name="home")["open"] == 0


def test_allow_root_keeps_other_users_out(tmp_path: Path) -> None:
    with mounted_stack(USUAL, tmp_path, "--allow-root") as stack:
        assert PRIVATE in as_nobody(stack, "ls", "mnt").stderr
        assert len(os.listdir(stack.mount_point)) == 4


def why_nobody_cannot_mount() -> str | None:
    """What keeps an unprivileged daemon from running here; None if nothing does."""
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    if mode & 0o006 != 0o006:
        return f"/dev/fuse has mode {mode:#o}: an unprivileged user cannot open it"
    if "user_allow_other" not in Path("/etc/fuse.conf").read_text().splitlines():
        return "/etc/fuse.conf lacks user_allow_other"
    probe = [sys.executable, "-c", "import fusedm.control"]
    try:
        subprocess.run(probe, user=NOBODY, group=NOBODY, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return f"an unprivileged user cannot run {sys.executable}"
    return None


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of nobody's that nobody can reach: pytest's own lie in one of root's."""
    why = why_nobody_cannot_mount()
    if why is not None:
        pytest.skip(f"unprivileged daemon: {why}")
    with tempfile.TemporaryDirectory(prefix="fusedm-test-") as folder:
        yield Path(folder)


@pytest.mark.loop
def test_a_users_private_mount_is_closed_to_root_which_is_told_why(folder: Path) -> None:
    with mounted_stack(USUAL, folder, user=NOBODY) as stack:
        assert as_nobody(stack, "head", "-c1", "mnt/views/home").returncode == 0
        with pytest.raises(PermissionError):
            os.listdir(stack.mount_point)
        with pytest.raises(UsageError, match="bring it up with --allow-root"):
            loop.attach(str(stack.view("home")), 4096)


@pytest.mark.loop
def test_root_attaches_from_a_users_mount_with_allow_root(folder: Path) -> None:
    with mounted_stack(USUAL, folder, "--allow-root", user=NOBODY) as stack:
        device = loop.attach(str(stack.view("home")), 4096)
        assert len(Path(device.node).read_bytes()) == 4 << 20
        loop.detach(device)
