"""The demo's second step: a real file system, a real tree copied in, every checksum compared."""

import hashlib
import os
import shutil
import stat
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.block.units import format_size
from fusedm.cli.progress import Progress
from fusedm.host import loop, mounts
from fusedm.host.loop import LoopDevice

#: How much is copied at least and at most.
MIN_TREE_BYTES = 50 << 20
MAX_TREE_BYTES = 96 << 20

MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
VERIFY = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}

#: A line of known plaintext, in a file of its own, to be looked for on the disks.
KNOWN_PLAINTEXT = b"fusedm demo: this line is plaintext, and no disk may ever hold it.\n"


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Regular files below a folder, with their sizes in bytes."""

    root: Path
    files: Sequence[tuple[Path, int]]

    @property
    def size(self) -> int:
        """All of them."""
        return sum(size for _, size in self.files)


def pick_tree() -> SourceTree:
    """The Python standard library of this machine, else its documentation.

    Raises: StackError if neither has enough files.
    """
    for root in (Path(sysconfig.get_path("stdlib")), Path("/usr/share/doc"), Path("/usr/share")):
        tree = SourceTree(root, _files_below(root))
        if tree.size >= MIN_TREE_BYTES:
            return tree
    raise StackError(f"found no tree of {format_size(MIN_TREE_BYTES)} to copy")


def exercise(kind: str, device: LoopDevice, folder: Path, tree: SourceTree, say: Progress) -> None:
    """mkfs, mount, copy, fsync, drop caches, compare, unmount, check.

    Raises: StackError at the first thing that is not as it should be.
    """
    node = device.node
    mounts.run_tool(*MAKE[kind], node)
    mounts.run_tool("mount", "-t", kind, node, str(folder))
    say.command(f"mkfs.{kind} {node} && mount {node} {folder}", "mounted")
    target = folder / "tree"
    wanted = _copy(tree, target, say)
    known = KNOWN_PLAINTEXT * (1 << 12)
    (folder / "known.txt").write_bytes(known)
    wanted[Path("../known.txt")] = hashlib.sha256(known).hexdigest()
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.sync()
    _drop_caches()
    for done, (name, digest) in enumerate(wanted.items(), 1):
        say.moving(f"comparing on {kind}", done, len(wanted))
        if _digest(target / name) != digest:
            raise StackError(f"{kind}: {name} does not read back as it was written")
    say.line(
        f"  copied {len(wanted)} files, {tree.size / 2**20:.1f} MiB, from {tree.root}; fsync; "
        f"dropped caches; every SHA-256 is the same"
    )
    mounts.unmount(str(folder))
    # It is closed only with the last namespace that has a copy of the mount.
    loop.refuse_busy(device)
    mounts.run_tool(*VERIFY[kind], node)
    say.command(f"umount {folder} && {' '.join(VERIFY[kind])} {node}", "clean")


def _files_below(root: Path) -> list[tuple[Path, int]]:
    """Regular files in a stable order, up to the most that is copied."""
    found: list[tuple[Path, int]] = []
    total = 0
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            info = path.lstat()
            if stat.S_ISREG(info.st_mode) and total + info.st_size <= MAX_TREE_BYTES:
                found.append((path.relative_to(root), info.st_size))
                total += info.st_size
    return found


def _copy(tree: SourceTree, target: Path, say: Progress) -> dict[Path, str]:
    """Copy and fsync every file; returns the checksums of what was read."""
    digests: dict[Path, str] = {}
    for done, (name, _) in enumerate(tree.files, 1):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree.root / name, target / name)
        digests[name] = _digest(tree.root / name)
        with open(target / name, "rb+") as copy:
            os.fsync(copy.fileno())
        say.moving(f"copying from {tree.root}", done, len(tree.files))
    return digests


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _drop_caches() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
