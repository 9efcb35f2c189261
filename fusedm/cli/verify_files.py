"""The parts of `verify` that need no key: reading files of the mount, and comparing them."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusedm.block.errors import StackError
from fusedm.cli.progress import Progress
from fusedm.inspect import Sectors

Told = dict[str, Any]

#: Bytes read at a time.
CHUNK = 1 << 20
#: Leaks and differences kept for telling; all are counted.
MAX_KEPT = 100
#: Leaks counted on a disk: remembered, so that one found in two passes is counted once.
MAX_SEEN = 1 << 18
#: Bytes shown of what differs.
SHOWN_BYTES = 8


def differences(
    view: Path, file: Path, begin: int, end: int, unit: int
) -> Iterator[tuple[int, Told | None]]:
    """Each block of a view that differs from a file, and a sign of life for each chunk.

    Shapes: (how far, None) for a chunk; a file that ends early differs from there on.
    Raises: StackError for what cannot be read.
    """
    for at in range(begin, end, CHUNK):
        size = min(CHUNK, end - at)
        shown, wanted = _read(view, at, size), _read(file, at, size)
        yield at, None
        if shown == wanted:
            continue
        for inside in range(0, size, unit):
            one, other = shown[inside : inside + unit], wanted[inside : inside + unit]
            if one != other:
                first = len(os.path.commonprefix([one, other]))
                yield (
                    at,
                    {
                        "offset": at + inside,
                        "first_byte": at + inside + first,
                        "shows": one[first : first + SHOWN_BYTES].hex(),
                        "wanted": other[first : first + SHOWN_BYTES].hex(),
                    },
                )


def find_leaks(
    views: Sequence[Mapping[str, Any]],
    disks: Sequence[Mapping[str, Any]],
    limit: int,
    say: Progress,
) -> list[Told]:
    """Sectors of views found as they are on disks; both as `ls` tells of them.

    Memory: limit digests. Where views have more sectors, all disks are read once more for each
    limit of them.
    Raises: StackError for what cannot be read.
    """
    told = [{"name": disk["name"], "leak_count": 0, "leaks": [], "found": False} for disk in disks]
    seen: list[set[int]] = [set() for _ in disks]
    wanted = Sectors(limit)
    for index, view in enumerate(views):
        for at, data in _data(Path(view["path"])):
            say.moving(f"reading {view['name']}", at >> 20, view["size"] >> 20)
            for place in range(0, len(data), 512):
                wanted.add(index, at + place, data[place : place + 512])
                if wanted.is_full:
                    _look_for(wanted, views, disks, told, seen, say)
                    wanted.clear()
    if len(wanted):
        _look_for(wanted, views, disks, told, seen, say)
    say.clear()
    return told


def _look_for(
    wanted: Sectors,
    views: Sequence[Mapping[str, Any]],
    disks: Sequence[Mapping[str, Any]],
    told: list[Told],
    seen: list[set[int]],
    say: Progress,
) -> None:
    for disk, one, places in zip(disks, told, seen, strict=True):
        path = Path(disk["path"])
        for at, data in _data(path):
            say.moving(f"searching {disk['name']}", at >> 20, disk["size"] >> 20)
            for inside, view, offset in wanted.find(data):
                # Once more, byte by byte: neither a chance of digests nor a write in flight.
                sector = _read(path, at + inside, 512)
                if sector != _read(Path(views[view]["path"]), offset, 512):
                    continue
                if len(places) == MAX_SEEN or at + inside in places:
                    continue
                places.add(at + inside)
                one["found"] = True
                one["leak_count"] += 1
                if one["leak_count"] <= MAX_KEPT:
                    one["leaks"].append(
                        {"offset": at + inside, "view": views[view]["name"], "view_offset": offset}
                    )


def _data(path: Path) -> Iterator[tuple[int, bytes]]:
    """The parts of a file that are no holes, in chunks."""
    try:
        with open(path, "rb", buffering=0) as file:
            fd, at = file.fileno(), 0
            size = os.lseek(fd, 0, os.SEEK_END)
            while at < size:
                at = _seek_data(fd, at, size)
                data = os.pread(fd, CHUNK - at % CHUNK, at)
                if not data:
                    return
                yield at, data
                at += len(data)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None


def _seek_data(fd: int, at: int, size: int) -> int:
    """Where data begin, at a sector's beginning; where none can be told, there."""
    try:
        found = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else at
    return found - found % 512


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None
