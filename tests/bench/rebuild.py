"""A rebuild beside a plain copy: .venv/bin/python -m tests.bench.rebuild [FOLDER [KIND ...]]

Prints a JSON line for each kind of array and action: the MiB of a member that it does in a second,
and how fast that is beside `dd bs=1M` of as much from one disk of the same mount to another, left
in the page cache or flushed; medians of rounds in which each is done once. What was rebuilt or
repaired has to be what it was. FOLDER (/dev/shm/fusedm-rebuild) is made and removed. Needs FUSE.
Never collected by pytest.
"""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusedm.control.mapper_client import MapperClient
from fusedm.dm.raid.layouts import LAYOUTS, Geometry
from tests.helpers.mounted import Mounted, mounted_stack

MEMBER_MIB = 256
SECTORS = MEMBER_MIB << 11
CHUNK = 128
ROUNDS = 3
MIB = 1 << 20
NAME = "array"
SECONDS_BETWEEN_LOOKS = 0.005


@dataclass(frozen=True)
class Kind:
    """A kind of array: how many members, and how many of them have data of their own."""

    type: str
    members: int
    of_data: int

    def table(self, parameters: str) -> str:
        """Its line."""
        if self.type == "mirror":
            legs = " ".join(f"d{member} 0" for member in range(self.members))
            return f"0 {SECTORS} mirror core {parameters} {self.members} {legs}"
        chunk = 0 if self.type == "raid1" else CHUNK
        words = parameters.split()
        pairs = " ".join(f"m{member} d{member}" for member in range(self.members))
        line = " ".join([self.type, str(1 + len(words)), str(chunk), *words])
        return f"0 {SECTORS * self.of_data} raid {line} {self.members} {pairs}"

    @property
    def actions(self) -> dict[str, str]:
        """What it can do in the background, and the parameters of its table then."""
        if self.type == "mirror":
            return {"resync": "1 1024"}
        return {"rebuild": "rebuild 1", "resync": "sync", "check": "nosync"}

    @property
    def in_sync(self) -> str:
        """The parameters with which there is nothing to be made alike."""
        return "2 1024 nosync" if self.type == "mirror" else "sync"

    @property
    def redundant(self) -> tuple[int, int]:
        """A member and a sector of it that are made by what others have."""
        layout = LAYOUTS.get(self.type)
        if layout is None:
            return 1, 0
        row = Geometry(layout, self.members, CHUNK).row(0)
        return row.p, 0


KINDS = {
    kind.type: kind
    for kind in (
        *(Kind("raid1", 2, 1), Kind("raid10", 4, 2), Kind("raid5_ls", 4, 3)),
        *(Kind("raid6_zr", 6, 4), Kind("mirror", 2, 1)),
    )
}
MEMBERS = max(kind.members for kind in KINDS.values())


class Bench:
    """Disks of one mount, and arrays of them."""

    def __init__(self, folder: Path, mounted: Mounted) -> None:
        self._folder = folder
        self._mounted = mounted
        self._mapper = MapperClient(mounted.call)

    def fill(self) -> None:
        """Give all files all their blocks."""
        for name in ("a", "b", *(f"d{member}" for member in range(MEMBERS))):
            self._write(name, os.urandom(MIB))

    def _write(self, name: str, piece: bytes) -> None:
        with (self._folder / f"{name}.img").open("r+b", buffering=0) as file:
            for _ in range(MEMBER_MIB):
                file.write(piece)
            os.fsync(file.fileno())

    def copy(self, *words: str) -> float:
        """MiB a second of a plain copy."""
        source, to = (self._mounted.disk(name) for name in "ab")
        command = ["dd", "bs=1M", "conv=notrunc", *words, f"if={source}", f"of={to}"]
        return _speed(lambda: subprocess.run(command, check=True, capture_output=True))

    def images(self, kind: Kind) -> list[str]:
        """What the members hold."""
        names = (f"d{member}.img" for member in range(kind.members))
        return [_digest(self._folder / name) for name in names]

    def prepare(self, kind: Kind) -> list[str]:
        """Fill an array, of whose members the images are told."""
        self._mapper.add(NAME, kind.table(kind.in_sync))
        path = self._mounted.mapper(NAME)
        command = ["dd", "bs=1M", "conv=notrunc,fsync", "iflag=fullblock", "if=/dev/urandom"]
        command += [f"count={MEMBER_MIB * kind.of_data}", f"of={path}"]
        subprocess.run(command, check=True, capture_output=True)
        self._until_done(kind)
        self._mapper.remove(NAME)
        return self.images(kind)

    def run(self, kind: Kind, action: str) -> float:
        """MiB of a member a second of an action, after something has been spoilt."""
        if action == "rebuild":
            self._write("d1", os.urandom(MIB))
        elif action == "resync":
            member, sector = kind.redundant
            with (self._folder / f"d{member}.img").open("r+b") as file:
                file.seek(sector * 512)
                file.write(os.urandom(4096))
        self._mapper.add(NAME)
        try:
            self._mapper.load(NAME, kind.table(kind.actions[action]))
            if action == "check":
                self._mapper.resume(NAME)
                self._until_done(kind)
                return _speed(lambda: self._check(kind))
            return _speed(lambda: self._resume(kind))
        finally:
            self._mapper.remove(NAME)

    def _resume(self, kind: Kind) -> None:
        self._mapper.resume(NAME)
        self._until_done(kind)

    def _check(self, kind: Kind) -> None:
        self._mapper.message(NAME, 0, ["check"])
        self._until_done(kind)

    def _until_done(self, kind: Kind) -> None:
        while not self._is_done(kind):
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _is_done(self, kind: Kind) -> bool:
        [line] = self._mapper.status(NAME)
        words = line.words.split()
        if kind.type != "mirror":
            return words[4] == "idle"
        done, whole = words[1 + kind.members].split("/")
        return done == whole


def _speed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return MEMBER_MIB / (time.perf_counter() - begin)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def measure(bench: Bench, kind: Kind) -> None:
    """Print a line for each action of a kind."""
    images = bench.prepare(kind)
    speeds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        speeds.setdefault("copy", []).append(bench.copy())
        speeds.setdefault("flushed", []).append(bench.copy("conv=notrunc,fsync"))
        for action in kind.actions:
            speeds.setdefault(action, []).append(bench.run(kind, action))
            assert bench.images(kind) == images, f"{kind.type}: {action} made something else"
    for action in kind.actions:
        line = {"kind": kind.type, "members": kind.members, "action": action}
        line["mib_per_s"] = round(statistics.median(speeds[action]))
        for against in ("copy", "flushed"):
            pairs = zip(speeds[action], speeds[against], strict=True)
            line[f"of_{against}"] = round(statistics.median(a / b for a, b in pairs), 2)
        print(json.dumps(line), flush=True)


@contextmanager
def place(folder: Path) -> Iterator[Bench]:
    """A mount with all disks, in a folder of its own."""
    folder.mkdir()
    try:
        sizes = {"a": MEMBER_MIB, "b": MEMBER_MIB}
        for member in range(MEMBERS):
            sizes |= {f"d{member}": MEMBER_MIB, f"m{member}": 1}
        disks = (
            f'[disks.{name}]\nsize = "{mib}MiB"\nstore = "file:{folder}/{name}.img"\n'
            for name, mib in sizes.items()
        )
        for name, mib in sizes.items():
            with (folder / f"{name}.img").open("wb") as file:
                file.truncate(mib * MIB)
        with mounted_stack("version = 1\n" + "".join(disks), folder / "stack") as mounted:
            bench = Bench(folder, mounted)
            bench.fill()
            yield bench
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """All kinds, or those that are named."""
    folder, *kinds = sys.argv[1:] or ["/dev/shm/fusedm-rebuild"]
    with place(Path(folder)) as bench:
        for name in kinds or KINDS:
            measure(bench, KINDS[name])


if __name__ == "__main__":
    main()
