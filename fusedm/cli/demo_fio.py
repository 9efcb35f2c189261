"""The demo's fourth step: a short fio on a file, as one table, with the machine's conditions."""

import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.cli.listing import columns
from fusedm.cli.progress import Progress
from fusedm.host import mounts

RUN_SECONDS = 2

#: Name, fio's rw, block size and queue depth.
JOBS = (
    ("random read 4 KiB, depth 1", "randread", "4k", 1),
    ("random write 4 KiB, depth 1", "randwrite", "4k", 1),
    ("random read 4 KiB, depth 16", "randread", "4k", 16),
    ("random write 4 KiB, depth 16", "randwrite", "4k", 16),
    ("sequential read 1 MiB, depth 4", "read", "1m", 4),
    ("sequential write 1 MiB, depth 4", "write", "1m", 4),
)


def fio_table(path: str, folder: Path, say: Progress) -> Iterator[str]:
    """Run every job on a file, which loses its content, and give the lines of one table.

    Raises: StackError if fio fails.
    """
    rows = [("JOB", "IOPS", "MiB/s", "p99 us")]
    for done, (title, rw, block, depth) in enumerate(JOBS):
        say.moving("fio", done, len(JOBS))
        rows.append((title, *_run(path, folder, rw, block, depth)))
    yield from columns(rows).splitlines()
    yield f"conditions: {conditions()}; direct=1, libaio, {RUN_SECONDS} s a job"


def conditions() -> str:
    """What the figures depend on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    packages = ", ".join(f"{name} {version(name)}" for name in ("pyfuse3", "trio", "cryptography"))
    return (
        f"{os.cpu_count()} CPUs ({names[0] if names else platform.machine()}), Linux "
        f"{platform.release()}, Python {platform.python_version()}, {packages}"
    )


def _run(path: str, folder: Path, rw: str, block: str, depth: int) -> tuple[str, str, str]:
    output = mounts.run_tool(
        "fio", "--name=job", f"--filename={path}", f"--rw={rw}", f"--bs={block}",
        f"--iodepth={depth}", "--ioengine=libaio", "--direct=1", "--time_based",
        f"--runtime={RUN_SECONDS}", "--output-format=json", f"--aux-path={folder}",
    )  # fmt: skip
    try:
        job = json.loads(output[output.index("{") :])["jobs"][0]
    except (ValueError, LookupError):
        raise StackError(f"fio printed no result: {output.strip()[:200]!r}") from None
    side = job["write" if "write" in rw else "read"]
    p99 = side["clat_ns"]["percentile"]["99.000000"] / 1000
    return f"{side['iops']:.0f}", f"{side['bw_bytes'] / 2**20:.1f}", f"{p99:.0f}"
