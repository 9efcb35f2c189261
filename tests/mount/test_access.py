"""Who may look into a mount, and who may attach from it."""

import os
import subprocess
from pathlib import Path

import pytest

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
