"""Jobs on ext4 on a loop device: unpacking a source tree, and SQLite transactions."""

import os
import shutil
import sqlite3
import sysconfig
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from fusedm.bench.entrants import Entrant, fill
from fusedm.bench.jobs import UNTAR, Job
from fusedm.bench.ours import DEVICES
from fusedm.bench.peers import QEMU, raw_image, serve_qemu_luks
from fusedm.bench.place import Place
from fusedm.bench.processes import run_tied
from fusedm.host import loop

#: Ours and the peer's loop devices have the block size of our view: the same for both.
BLOCK_SIZE = 4096

_NEEDS = ("losetup", "mkfs.ext4", "tar")


def file_system_entrants() -> list[Entrant]:
    """ext4 over devices of ours, over QEMU's LUKS, and over nothing but a file.

    There is none over QEMU's raw: its FUSE export (7.2) damages what is written by several writes
    at a time, since it takes the next request into the buffer of one that it still writes.
    """
    ours = [d for d in DEVICES if d.has_file_system]
    return [
        *(_entrant(device.name, device.path, (), device.on_disk) for device in ours),
        _entrant("loop-ext4", _plain_image, (), on_disk=False),
        _qemu_luks("qemu-luks-ext4", on_disk=False),
        _qemu_luks("qemu-luks-ext4-disk", on_disk=True),
    ]


def _plain_image(place: Place) -> str:
    return str(raw_image(place, "loop-ext4", place.file_system_size))


def _qemu_luks(name: str, on_disk: bool) -> Entrant:
    def serve(place: Place) -> str:
        return serve_qemu_luks(place, name, place.file_system_size, on_disk)

    return _entrant(name, serve, QEMU, on_disk)


def _entrant(
    name: str, serve: Callable[[Place], str], needs: tuple[str, ...], on_disk: bool
) -> Entrant:
    def bring(place: Place) -> str:
        return _mounted(place, name, serve(place))

    def size(place: Place) -> int:
        return place.file_system_size

    return Entrant(name, bring, _figure, size, (*needs, *_NEEDS), needs_root=True, on_disk=on_disk)


def _mounted(place: Place, name: str, path: str) -> str:
    """A new ext4 on a loop device over a file, all of it made now and not in the background.

    Every block of the file has been written before, and stays: not every server can discard.
    """
    fill(path, place.file_system_size)
    node = loop.attach(path, BLOCK_SIZE).node
    now = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
    run_tied("mkfs.ext4", "-q", "-F", "-b", str(BLOCK_SIZE), "-E", now, node)
    folder = place.folder / f"{name}.mnt"
    folder.mkdir()
    run_tied("mount", "-t", "ext4", node, str(folder))
    return str(folder)


def _figure(place: Place, job: Job, path: str, seconds: float) -> float:
    folder = Path(path)
    return _untar(place, folder) if job is UNTAR else sqlite_rate(folder, seconds)


def _untar(place: Place, folder: Path) -> float:
    """Seconds until a tree is unpacked and on the device."""
    archive = place.folder / "tree.tar"
    if not archive.exists():
        make_tree(archive, place.tree_size)
    target = folder / "tree"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    _sync(folder)
    begin = time.perf_counter()
    run_tied("tar", "-xf", str(archive), "-C", str(target))
    _sync(folder)
    return time.perf_counter() - begin


def make_tree(archive: Path, size: int) -> None:
    """Pack files of this Python's library, in a stable order, up to a size in bytes."""
    root = Path(sysconfig.get_path("stdlib"))
    with tarfile.open(archive, "w") as tar:
        for path in sorted(root.rglob("*.py")):
            if "site-packages" in path.parts or not path.is_file():
                continue
            size -= path.stat().st_size
            if size < 0:
                break
            tar.add(path, str(path.relative_to(root)), recursive=False)


def sqlite_rate(folder: Path, seconds: float) -> float:
    """Transactions a second: a row is added and another changed, and the disk is waited for."""
    path = folder / "bench.sqlite"
    path.unlink(missing_ok=True)
    base = sqlite3.connect(path, isolation_level=None)
    try:
        base.execute("PRAGMA synchronous=FULL")
        base.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)")
        count, text = 0, "x" * 200
        begin = time.perf_counter()
        while count == 0 or time.perf_counter() - begin < seconds:
            base.execute("BEGIN")
            base.execute("INSERT INTO entry (text) VALUES (?)", (text,))
            base.execute("UPDATE entry SET text = ? WHERE id = ?", (text[:100], count // 2))
            base.execute("COMMIT")
            count += 1
        return count / (time.perf_counter() - begin)
    finally:
        base.close()


def _sync(folder: Path) -> None:
    """Wait until the file system has nothing that is not on its device."""
    run_tied("sync", "--file-system", str(folder))
    assert os.path.ismount(folder)
