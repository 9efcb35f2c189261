"""An entrant: something that is measured, how it is brought up, and what it needs here."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from fusedm.bench.fio import run_fio
from fusedm.bench.jobs import Job
from fusedm.bench.place import MIB, Place
from fusedm.host.mounts import tool_path

#: The Debian package of each program that is run.
PACKAGES = {
    "fio": "fio",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "nbdfuse": "libnbd-bin",
    "nbdkit": "nbdkit",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "tar": "tar",
}

Bring = Callable[[Place], str]
Measure = Callable[[Place, Job, str, float], float]


@dataclass(frozen=True, slots=True)
class Entrant:
    """What takes part in a run.

    bring gives the path it is measured at; measure the figure of a job at that path, in the job's
    unit. store_size says how many bytes of the work folder it fills, given the place; on_disk
    whether that is the folder on a disk.
    """

    name: str
    bring: Bring
    measure: Measure
    store_size: Callable[[Place], int]
    needs: tuple[str, ...] = ()
    needs_root: bool = False
    on_disk: bool = False

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return missing_programs(self.needs) or (
            "loop devices need root" if self.needs_root and os.geteuid() else None
        )


def missing_programs(programs: tuple[str, ...]) -> str | None:
    """What is not installed, and how to install it; None if all is."""
    path = tool_path(os.environ)
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if not missing:
        return None
    verb = "is" if len(missing) == 1 else "are"
    packages = " ".join(dict.fromkeys(PACKAGES[program] for program in missing))
    return f"{', '.join(missing)} {verb} not installed (apt-get install {packages})"


def block_figure(place: Place, job: Job, path: str, seconds: float) -> float:
    """What fio finds at a file."""
    return run_fio(job, path, place.folder, seconds).figure(job.unit)


def settled_figure(place: Place, job: Job, path: str, seconds: float) -> float:
    """The same where the store is on a disk; what was written is on it before the next job."""
    figure = block_figure(place, job, path, seconds)
    with open(path, "r+b", buffering=0) as file:
        os.fsync(file)
    return figure


def one_device(place: Place) -> int:
    """The size of a store that is filled."""
    return place.size


def fill(path: str, size: int) -> None:
    """Write all of a file once, so that nothing of it is a hole and all of it on its medium."""
    chunk = os.urandom(MIB)
    with open(path, "r+b", buffering=0) as file:
        for _ in range(0, size, MIB):
            file.write(chunk)
        os.fsync(file)
