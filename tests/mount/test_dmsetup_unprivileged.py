"""dmsetup of a user who is not root: devices are files in a mount, and everything else works."""

import sys
from pathlib import Path

import pytest

from tests.helpers.unprivileged import NOBODY, RUNTIME_DIR, private_machine

# A mount namespace of its own holds what others have mounted.
pytestmark = [pytest.mark.fuse, pytest.mark.loop, pytest.mark.alone]

MAPPER = f"{RUNTIME_DIR}/fusedm/dm/mapper"

SCRIPT = """
dmsetup() { PYTHON -m fusedm dmsetup "$@"; }
truncate -s 4M disk.img
dmsetup create a --table "0 8192 linear $PWD/disk.img 0"
dmsetup create b -u U-b --table "0 4096 flakey a 0 60 0"
dmsetup ls
dmsetup table b
dmsetup deps -o devname b
dmsetup info -c --noheadings -o name,open,attr
printf hello | dd of=MAPPER/b conv=notrunc 2>/dev/null
head -c 5 disk.img && echo
dmsetup create c --table "0 8 linear /dev/mapper/b 0"
dmsetup table c
dmsetup remove b || true
exec 3< MAPPER/c
dmsetup info -c --noheadings -o open c
dmsetup remove c || true
exec 3<&-
dmsetup remove_all
dmsetup ls
ls -A RUNTIME/fusedm
"""


def test_devices_without_root_are_files(tmp_path: Path) -> None:
    with private_machine(tmp_path) as machine:
        script = SCRIPT.replace("PYTHON", sys.executable).replace("MAPPER", MAPPER)
        script = f"cd {tmp_path}\n" + script.replace("RUNTIME", RUNTIME_DIR)
        done = machine.run("sh", "-eu", "-c", script, user=NOBODY, XDG_RUNTIME_DIR=RUNTIME_DIR)
        assert (done.returncode, done.stdout.splitlines()) == (
            0,
            [
                "a\t(253:0)",
                "b\t(253:1)",
                "0 4096 flakey 253:0 0 60 0 2 error_reads error_writes",
                "1 dependencies\t: (a)",
                "a:1:L--w",
                "b:0:L--w",
                "hello",
                "0 8 linear 253:1 0",
                "1",
                "No devices found",
            ],
        ), done
        assert done.stderr == (
            "device-mapper: remove ioctl on b  failed: Device or resource busy\nCommand failed.\n"
            "device-mapper: remove ioctl on c  failed: Device or resource busy\nCommand failed.\n"
        )
