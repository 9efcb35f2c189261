"""The demo's fourth step: a short fio on a file, as one table, with the machine's conditions."""

from collections.abc import Iterator
from pathlib import Path

from fusedm.bench import FIO_JOBS, conditions, run_fio
from fusedm.cli.listing import columns
from fusedm.cli.progress import Progress

RUN_SECONDS = 2.0


def fio_table(path: str, folder: Path, say: Progress) -> Iterator[str]:
    """Run every job on a file, which loses its content, and give the lines of one table.

    Raises: StackError if fio fails.
    """
    rows = [("JOB", "IOPS", "MiB/s", "p99 us")]
    for done, job in enumerate(FIO_JOBS):
        say.moving("fio", done, len(FIO_JOBS))
        found = run_fio(job, path, folder, RUN_SECONDS)
        rows.append(
            (job.title, f"{found.iops:.0f}", f"{found.mib_per_second:.1f}", f"{found.p99_us:.0f}")
        )
    yield from columns(rows).splitlines()
    yield f"conditions: {conditions()}; direct=1, libaio, {RUN_SECONDS:g} s a job"
