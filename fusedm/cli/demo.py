"""`fusedm demo`: the main job, start to end, on this machine, with its proof.

Everything happens in a new folder of its own. Whatever ends the demo, Ctrl-C at any step included,
all is undone in order and then looked for: by mount point, backing file and pid, never by counts.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from fusedm.block.errors import StackError, UsageError
from fusedm.cli import demo_files, demo_proof
from fusedm.cli.demo_fio import fio_table
from fusedm.cli.progress import Progress
from fusedm.control import Client, bring_down, daemon_config, reap, stack_at, start_detached
from fusedm.host import loop, mounts
from fusedm.host.interrupts import hold, interruptible, let_in
from fusedm.host.kernel_mount import MountOptions
from fusedm.host.undoing import undone_by

STACK_FILE = """\
version = 1

# A sparse file behind an inline engine with 32 keyslots.
[disks.ufs0]
size = "256MiB"
store = "file:ufs0.img"
engine = { keyslots = 32, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }

# Memory, without an engine: contexts are honoured by the disk's fallback.
[disks.plain0]
size = "256MiB"
store = "memory:"

# Both, in turns of 128 MiB.
[mapper.data]
table = \"\"\"
0 262144 linear ufs0 0
262144 262144 linear plain0 0
524288 262144 linear ufs0 262144
786432 262144 linear plain0 262144
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

NEEDED = ("losetup", "mkfs.ext4", "e2fsck", "mount", "umount", "fio")


@click.command()
@click.option("--keep", metavar="DIR", help="Keep stack file and disk images in a new DIR.")
def demo(keep: str | None) -> None:
    """Show the whole thing: encrypted disks, a real file system, the proof, a benchmark.

    Exit codes: 0 all of it worked and nothing is left, 1 something did not, 2 not root, or a tool
    is missing.
    """
    run_demo(keep)


def run_demo(keep: str | None) -> None:
    """Run the demo; keep names a new folder for its stack file, key and disk image.

    Raises: UsageError if this machine cannot; FusedmError for whatever did not work.
    """
    _check_machine()
    say = Progress(sys.stdout)
    hold()
    with _work_folder(keep) as folder:
        with undone_by(lambda: _tear_down(folder, say)):
            try:
                with interruptible():
                    _run(folder, say)
            except KeyboardInterrupt:
                say.line("interrupted: tearing down")
                raise StackError("the demo was interrupted") from None
        say.line("everything worked, and nothing is left.")


def _run(folder: Path, say: Progress) -> None:
    mount_point, files = folder / "mnt", folder / "files"
    say.step("1", "a stack of two disks, one mapped device, a key and a view")
    (folder / "stack.toml").write_text(STACK_FILE)
    demo_proof.write_key(folder / "alice.key")
    config = daemon_config(str(folder / "stack.toml"), str(mount_point), MountOptions())
    pid = start_detached(config, with_parent=True)
    let_in()
    say.command(f"fusedm up {folder}/stack.toml {mount_point}", f"daemon {pid} answers")
    with Client(str(mount_point)) as client:
        say.step("2", "real file systems on a loop device over the view `home`")
        home = client.call("file", name="home")
        device = loop.attach(home["path"], home["log_sec"])
        say.command("fusedm attach home", f"{device.node} with {home['log_sec']}-byte blocks")
        tree = demo_files.pick_tree()
        for kind in ("xfs", "ext4") if shutil.which("mkfs.xfs") else ("ext4",):
            demo_files.exercise(kind, device, files, tree, say)
        loop.detach(device)
        say.command("fusedm detach home", f"{device.node} is free")
        say.step("3", "what the disks hold is ciphertext")
        demo_proof.prove(mount_point, folder / "alice.key", client, say)
    say.step("4", "a short benchmark of the view")
    for line in fio_table(home["path"], folder, say):
        say.line(line)


def _tear_down(folder: Path, say: Progress) -> None:
    """Undo everything in order, then look for what may be left."""
    mount_point = str(folder / "mnt")
    say.step("5", "tearing down")
    running = stack_at(mounts.resolve(mount_point))
    if running is not None or mounts.mount_at(mount_point) is not None:
        for line in bring_down(mount_point, force=True):
            say.line(line)
    if running is not None:
        reap(running.pid)
    left = [f"mount {mount.mount_point}" for mount in mounts.read_mounts()
            if mounts.lies_under(mount.mount_point, str(folder))]  # fmt: skip
    left += [f"loop device {device.node}" for device in loop.attached(str(folder))]
    if running is not None and Path(f"/proc/{running.pid}").exists():
        left.append(f"process {running.pid}")
    if left:
        raise StackError(f"left behind: {', '.join(left)}")
    pid = running.pid if running is not None else "none was started"
    say.line(f"no mount and no loop device's file under {folder}; daemon gone (pid {pid})")


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise UsageError("the demo mounts file systems on loop devices: run it as root (sudo)")
    path = mounts.tool_path(os.environ)
    missing = [tool for tool in NEEDED if shutil.which(tool, path=path) is None]
    if missing:
        raise UsageError(f"not installed: {', '.join(missing)}; `fusedm doctor` says how to")


@contextlib.contextmanager
def _work_folder(keep: str | None) -> Iterator[Path]:
    if keep is not None:
        try:
            folder = Path(keep).absolute()
            folder.mkdir()
        except OSError as error:
            raise StackError(f"--keep {keep}: {error.strerror}", error.errno) from None
        (folder / "mnt").mkdir()
        (folder / "files").mkdir()
        yield folder
        return
    # What cannot be removed has been told of as left behind.
    with tempfile.TemporaryDirectory(prefix="fusedm-demo-", ignore_cleanup_errors=True) as name:
        (Path(name) / "mnt").mkdir()
        (Path(name) / "files").mkdir()
        yield Path(name)
