"""Who is measured against whom at which job, and the goals. Pure.

A pair is one line of the result: a job, one of our devices, what it is compared with, and the ratio
that is aimed at (none for a limit, which is only to be seen). The names are those of the entrants.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fusedm.bench.jobs import FIO_JOBS, FSYNC, NBD_JOBS, SLOW_NEIGHBOUR, SQLITE, UNTAR, Job
from fusedm.block.errors import UsageError


@dataclass(frozen=True, slots=True)
class Pair:
    """A device of ours against a peer or limit at one job."""

    job: Job
    device: str
    against: str
    goal: float | None = None


#: Goals at 4 KiB depth 1 and depth 16, reads and writes alike; then reading and writing 1 MiB.
_GOALS = (
    ("disk", "nbd-memory", (2, 2, 2, 2)),
    ("disk", "store-loop", (None, None, None, None)),
    ("linear", "qemu-raw", (2, 1.5, 1.5, 1.5)),
    ("linear", "nbd-memory", (2, 2, 2, 2)),
    ("linear", "nbd-file", (2, 2, 2, 2)),
    ("view4096", "qemu-luks", (2, 2.5, 6, 6)),
    ("view4096", "nbd-luks", (2, 2, 2, 2)),
    ("view512", "qemu-luks", (1.5, 2, 4, 4)),
    ("view512", "nbd-luks", (2, 2, 2, 2)),
    ("view-fallback", "qemu-luks", (2, 2, 4, 4)),
    ("crypt", "qemu-luks", (2, 2, 4, 4)),
    ("flakey", "qemu-raw", (2, 1.5, 1.5, 1)),
    ("dust", "qemu-raw", (2, 1.5, 1.5, 1)),
    ("striped", "qemu-raw", (2, 1.5, 1.5, 1)),
    ("disk-linear", "qemu-raw-disk", (2, 1.5, 1.5, 1)),
    ("disk-view", "qemu-luks-disk", (2, 2, 4, 4)),
)
#: Goals of a disk at an NBD server, at every distance of it: against nbdfuse, and against QEMU's.
_REMOTE_GOALS = (("nbdfuse", 1.5), ("qemu-nbd", 1))
_DISTANCES_MS = (0, 1, 10)

#: Which of the four goals is that of each of fio's jobs.
_GOAL_OF_JOB = (0, 0, 1, 1, 2, 3)

#: Goals of unpacking and of SQLite.
_FILE_SYSTEM_GOALS = (
    ("ext4", "qemu-luks-ext4", (1.3, 1.2)),
    ("ext4-fallback", "qemu-luks-ext4", (1.3, 1.2)),
    ("ext4-crypt", "qemu-luks-ext4", (1.3, 1.2)),
    ("ext4-linear", "loop-ext4", (None, None)),
    ("disk-ext4", "qemu-luks-ext4-disk", (1.3, 1.2)),
)


def _pairs() -> Iterator[Pair]:
    for job, goal in zip(FIO_JOBS, _GOAL_OF_JOB, strict=True):
        for device, against, goals in _GOALS:
            yield Pair(job, device, against, goals[goal])
        for distance_ms in _DISTANCES_MS:
            for against, remote_goal in _REMOTE_GOALS:
                device = f"nbd-store-{distance_ms}ms"
                yield Pair(job, device, f"{against}-{distance_ms}ms", remote_goal)
        if job.unit == "MiB/s":
            yield Pair(job, "view4096", "openssl-4096")
            yield Pair(job, "view512", "openssl-512")
    yield Pair(FSYNC, "disk-linear", "qemu-raw-disk", 1)
    yield Pair(SLOW_NEIGHBOUR, "linear-busy", "linear", 0.9)
    yield Pair(SLOW_NEIGHBOUR, "linear-blocked", "linear", 0.9)
    for index, job in enumerate((UNTAR, SQLITE)):
        for device, against, on_file_system in _FILE_SYSTEM_GOALS:
            yield Pair(job, device, against, on_file_system[index])
    for job in NBD_JOBS:
        yield Pair(job, "nbd-export", "nbdkit-memory", 1)
        yield Pair(job, "nbd-export", "qemu-nbd")


PAIRS = tuple(_pairs())


def choose(patterns: Sequence[str], pairs: Sequence[Pair] = PAIRS) -> list[Pair]:
    """The pairs that one of the patterns means; all without patterns.

    A pattern is that of a job or of a device, or JOB:DEVICE, each as in a shell.
    Raises: UsageError for a pattern that means none.
    """
    for pattern in patterns:
        if not any(_means(pattern, pair) for pair in pairs):
            jobs, devices = _names(pair.job.name for pair in pairs), _names(p.device for p in pairs)
            raise UsageError(
                f"--only {pattern}: is none of the {len(jobs)} jobs ({', '.join(jobs)}), of the "
                f"{len(devices)} devices ({', '.join(devices)}), nor JOB:DEVICE"
            )
    if not patterns:
        return list(pairs)
    return [pair for pair in pairs if any(_means(pattern, pair) for pattern in patterns)]


def jobs_of(pairs: Sequence[Pair]) -> list[Job]:
    """The jobs of pairs, each once."""
    return list(dict.fromkeys(pair.job for pair in pairs))


def entrants_of(pairs: Sequence[Pair], job: Job | None = None) -> list[str]:
    """Who takes part, in one job or in any, each once."""
    return _names(
        name
        for pair in pairs
        if job is None or pair.job is job
        for name in (pair.device, pair.against)
    )


def rotated(names: Sequence[str], round_number: int) -> list[str]:
    """The order of a round: each begins with another one, so none is always first or last."""
    start = round_number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _means(pattern: str, pair: Pair) -> bool:
    job, colon, device = pattern.partition(":")
    if colon:
        return fnmatchcase(pair.job.name, job) and fnmatchcase(pair.device, device)
    return fnmatchcase(pair.job.name, job) or fnmatchcase(pair.device, job)


def _names(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))
