"""Running fio on a file, and reading what it found."""

import json
from dataclasses import dataclass
from pathlib import Path

from fusedm.bench.jobs import Job
from fusedm.bench.processes import run_tied
from fusedm.block.errors import StackError


@dataclass(frozen=True, slots=True)
class FioResult:
    """What fio found of one job; p99_us is what 99 of 100 requests took at most."""

    iops: float
    mib_per_second: float
    p99_us: float

    def figure(self, unit: str) -> float:
        """The figure in a unit."""
        return self.iops if unit == "IOPS" else self.mib_per_second


def run_fio(job: Job, path: str, folder: Path, seconds: float) -> FioResult:
    """Run a job on a file, which loses its content if the job writes.

    Raises: StackError if fio fails or finds nothing.
    """
    return parse_fio(run_tied(*fio_command(job.file, path, folder, seconds)))


def fio_command(job_file: Path, path: str, folder: Path, seconds: float) -> tuple[str, ...]:
    """fio with a job file on another file; what it writes for itself goes into the folder.

    Options that stand before a job file are as if they stood in its section [global].
    """
    name = path.replace(":", r"\:")
    return (
        "fio", f"--filename={name}", f"--runtime={round(seconds * 1000)}ms",
        "--output-format=json", f"--aux-path={folder}", str(job_file),
    )  # fmt: skip


def parse_fio(output: str) -> FioResult:
    """What fio printed, whichever of reading and writing the job did.

    Raises: StackError for anything that is no result.
    """
    try:
        # Warnings may stand before it.
        job = json.loads(output[output.index("{") :])["jobs"][0]
        side = max((job["read"], job["write"]), key=lambda side: float(side["total_ios"]))
        found = FioResult(
            float(side["iops"]),
            float(side["bw_bytes"]) / (1 << 20),
            float(side["clat_ns"].get("percentile", {}).get("99.000000", 0)) / 1000,
        )
        failed = int(job["error"])
    except (ValueError, LookupError, TypeError, AttributeError):
        raise StackError(f"fio printed no result: {output.strip()[:200]!r}") from None
    if failed or not found.iops:
        raise StackError(f"fio did no I/O: error {failed}, {found.iops:g} requests a second")
    return found
