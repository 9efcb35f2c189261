"""The demo's third step: what the disks hold is ciphertext, and the right one.

The proof shares no code with the stack: it reads files of the mount and decrypts what it reads with
the second implementation that `fusedm verify` has (inspect/independent.py).
"""

import os
from collections.abc import Iterable
from pathlib import Path

from fusedm.block.device_mapper import TargetLine
from fusedm.block.errors import StackError
from fusedm.cli.demo_files import KNOWN_PLAINTEXT
from fusedm.cli.progress import Progress
from fusedm.control import Client, MapperClient
from fusedm.inspect import decrypt_unit

DATA_UNIT_SIZE = 4096
SECTOR_SIZE = 512
CHUNK = 1 << 20
KEY_SIZE = 64


def write_key(path: Path) -> None:
    """A new random key in a file that only its owner may read."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(os.urandom(KEY_SIZE))


def prove(mount_point: Path, key_file: Path, client: Client, say: Progress) -> None:
    """Find the known plaintext through the view and not on the disks; decrypt a unit of each disk.

    Raises: StackError if anything is not so.
    """
    home = mount_point / "views" / "home"
    found = find(home, KNOWN_PLAINTEXT)
    if found is None:
        raise StackError("the known plaintext is not to be seen through the view")
    say.line(f"  known plaintext: at byte {found} of views/home")
    for disk in ("ufs0", "plain0"):
        where = find(mount_point / "disks" / disk, KNOWN_PLAINTEXT)
        if where is not None:
            raise StackError(f"PLAINTEXT on disks/{disk} at byte {where}")
        say.line(f"  known plaintext: nowhere on disks/{disk}")
    table = MapperClient(client.call).table("data")
    for disk in ("ufs0", "plain0"):
        say.line(f"  {_decrypt_one(mount_point, key_file, table, disk)}")
    say.line("  who encrypted it (sys/block/data/fusedm/crypto_extents):")
    for line in (mount_point / "sys/block/data/fusedm/crypto_extents").read_text().splitlines():
        start, length, _, _, native, _, fallback = line.split()
        how = "through the engine's keyslots" if int(native) else "by the leaf's fallback"
        say.line(f"    sectors {start}+{length}: {native} bios native, {fallback} fallback ({how})")


def find(path: Path, what: bytes) -> int | None:
    """Where bytes first occur in a file; None if nowhere."""
    overlap = len(what) - 1
    with open(path, "rb", buffering=0) as file:
        before, position = b"", 0
        while chunk := file.read(CHUNK):
            at = (before + chunk).find(what)
            if at >= 0:
                return position - len(before) + at
            before = chunk[-overlap:]
            position += len(chunk)
    return None


def _decrypt_one(mount_point: Path, key_file: Path, table: Iterable[TargetLine], disk: str) -> str:
    """Decrypt one written data unit of a raw disk and compare it with what the view shows."""
    for line in table:
        device, offset = line.words.split()
        if device != disk:
            continue
        begin, size = int(offset) * SECTOR_SIZE, line.sector_count * SECTOR_SIZE
        position = _first_written(mount_point / "disks" / disk, begin, begin + size)
        if position is None:
            continue
        in_view = line.start_sector * SECTOR_SIZE + position - begin
        dun = in_view // DATA_UNIT_SIZE
        raw = _read(mount_point / "disks" / disk, position)
        plain = decrypt_unit("AES-256-XTS", key_file.read_bytes(), dun, raw)
        if plain != _read(mount_point / "views" / "home", in_view):
            raise StackError(f"disks/{disk} at {position}: does not decrypt to what the view shows")
        return (
            f"disks/{disk} at byte {position}: decrypted with DUN {dun} by the independent "
            f"implementation alone, the same {DATA_UNIT_SIZE} bytes as views/home at {in_view}"
        )
    raise StackError(f"nothing was written to {disk}")


def _first_written(path: Path, begin: int, end: int) -> int | None:
    """The first data unit of a range that is not all zeros."""
    zeros = bytes(DATA_UNIT_SIZE)
    for position in range(begin, end, DATA_UNIT_SIZE):
        if _read(path, position) != zeros:
            return position
    return None


def _read(path: Path, position: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(position)
        return file.read(DATA_UNIT_SIZE)
