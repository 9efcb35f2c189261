"""What is measured: fio jobs, shipped as job files, and jobs on a file system. Pure."""

from dataclasses import dataclass
from pathlib import Path

JOBS_FOLDER = Path(__file__).parent / "jobs"

#: Keeps a device busy while another is measured; the load of the memory check.
NEIGHBOUR_FILE = JOBS_FOLDER / "neighbour.fio"
MIXED_FILE = JOBS_FOLDER / "mixed.fio"


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of work; unit is that of its figure, fio_job names the job file if it is fio's."""

    name: str
    title: str
    unit: str
    fio_job: str = ""

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller figure is the better one."""
        return self.unit == "s"

    @property
    def file(self) -> Path:
        """fio's job file."""
        return JOBS_FOLDER / f"{self.fio_job}.fio"


def _fio(name: str, title: str, unit: str = "IOPS") -> Job:
    return Job(name, title, unit, name)


FIO_JOBS = (
    _fio("randread-4k-d1", "random read 4 KiB, depth 1"),
    _fio("randwrite-4k-d1", "random write 4 KiB, depth 1"),
    _fio("randread-4k-d16", "random read 4 KiB, depth 16"),
    _fio("randwrite-4k-d16", "random write 4 KiB, depth 16"),
    _fio("read-1m-d4", "sequential read 1 MiB, depth 4", "MiB/s"),
    _fio("write-1m-d4", "sequential write 1 MiB, depth 4", "MiB/s"),
)

#: The same kinds of work over NBD, by fio's engine for it.
NBD_JOBS = (
    _fio("nbd-randread-4k-d1", "NBD: random read 4 KiB, depth 1"),
    _fio("nbd-randwrite-4k-d1", "NBD: random write 4 KiB, depth 1"),
    _fio("nbd-randread-4k-d16", "NBD: random read 4 KiB, depth 16"),
    _fio("nbd-randwrite-4k-d16", "NBD: random write 4 KiB, depth 16"),
    _fio("nbd-read-1m-d1", "NBD: sequential read 1 MiB, depth 1", "MiB/s"),
    _fio("nbd-write-1m-d1", "NBD: sequential write 1 MiB, depth 1", "MiB/s"),
    _fio("nbd-randread-4k-d16-c4", "NBD: random read 4 KiB, depth 16, four connections"),
    _fio("nbd-randwrite-4k-d16-c4", "NBD: random write 4 KiB, depth 16, four connections"),
)

#: Every write is on the medium before the next one begins.
FSYNC = _fio("fsync-4k-d1", "random write 4 KiB, depth 1, fsync after each")
SLOW_NEIGHBOUR = Job(
    "slow-neighbour", "random read 4 KiB, depth 16, beside a slow device", "IOPS", "randread-4k-d16"
)
UNTAR = Job("untar", "unpack a source tree and sync", "s")
SQLITE = Job("sqlite", "SQLite transactions, synchronous=FULL", "tx/s")

JOBS = (*FIO_JOBS, FSYNC, SLOW_NEIGHBOUR, UNTAR, SQLITE, *NBD_JOBS)
