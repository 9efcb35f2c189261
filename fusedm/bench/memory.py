"""How much memory the daemon takes, how soon it is ready, and how it goes with many devices."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fusedm.bench.jobs import MIXED_FILE
from fusedm.bench.place import Place
from fusedm.bench.processes import Child, run_tied
from fusedm.bench.record import Figure
from fusedm.control import Client

DISKS = 10
VIEWS = 1000
DEVICES = 10_000
#: Of each of these many things one is timed, and the median told.
SAMPLES = 100

#: How long the load stays with one view of each disk before it goes on to the next.
STEP_SECONDS = 3.0
READY_SECONDS = 60.0

MAX_MIB = 120.0
MAX_START_SECONDS = 1.0
#: A verb that takes as long with all devices as with the first, give or take.
MAX_GROWTH = 1.2

_ENGINE = '{ keyslots = 32, max_dun_bytes = 8, modes = { "AES-256-XTS" = [4096] } }'


def measure_memory(place: Place, minutes: float, devices: int = DEVICES) -> list[Figure]:
    """The checks of memory, of the start, and of many devices; one round each.

    Raises: FusedmError if anything does not come up or the load fails.
    """
    checks = f"{DISKS} disks of 1 TiB, {VIEWS:,} views"
    daemon, start_seconds = _start(place, large_stack())
    before = _status_mib(daemon.pid, "VmRSS")
    after = _under_load(place, daemon.pid, minutes)
    peak = max(_status_mib(daemon.pid, "VmHWM"), before, *after)
    place.children.end(daemon)
    found = [
        Figure(checks, "start to ready", "s", [start_seconds], MAX_START_SECONDS),
        Figure(checks, "memory before the load", "MiB", [before]),
        Figure(checks, "memory after the load", "MiB", [after[-1]]),
        Figure(checks, "growth under the load", "MiB", [after[-1] - before]),
        Figure(checks, "peak", "MiB", [peak], MAX_MIB),
    ]
    return [*found, *_many_devices(place, devices)]


def large_stack() -> str:
    """The stack file of the memory check: sparse disks, and views with a key each."""
    lines = ["version = 1"]
    for number in range(DISKS):
        store = f'size = "1TiB"\nstore = "file:large{number}.img"\nengine = {_ENGINE}'
        lines.append(f"[disks.large{number}]\n{store}")
    for number in range(VIEWS):
        lines.append(
            f'[keys.view{number}]\nmode = "AES-256-XTS"\ndata_unit_size = 4096\ndun_bytes = 8\n'
            f'source = "random"\n'
            f'[views.view{number}]\ndevice = "large{number % DISKS}"\nkey = "view{number}"'
        )
    return "\n".join(lines) + "\n"


def load_file(place: Place, step: int) -> str:
    """fio's job file for one step of the load: one view of each disk, others at every step."""
    first = step * DISKS % VIEWS
    views = [f"view{first + number}" for number in range(DISKS)]
    files = (f"[{view}]\nfilename={place.mount_point}/views/{view}\n" for view in views)
    return MIXED_FILE.read_text() + "".join(files)


def _start(place: Place, stack: str) -> tuple[Child, float]:
    """Bring a stack up as a user does, by a whole command; how long until it said it is ready."""
    stack_file = place.folder / "memory.toml"
    stack_file.write_text(stack)
    begin = time.perf_counter()
    daemon = place.children.start(
        sys.executable, "-P", "-m", "fusedm", "up", "--foreground",
        str(stack_file), str(place.mount_point), log=place.folder / "daemon.log",
    )  # fmt: skip
    daemon.wait_until(lambda: "READY" in daemon.said(), READY_SECONDS)
    return daemon, time.perf_counter() - begin


def _under_load(place: Place, pid: int, minutes: float) -> list[float]:
    """Keep the stack busy for some minutes; its memory after each step."""
    samples: list[float] = []
    begin = time.monotonic()
    while not samples or time.monotonic() - begin < minutes * 60:
        job_file = place.folder / "load.fio"
        job_file.write_text(load_file(place, len(samples)))
        run_tied(
            "fio", f"--runtime={min(STEP_SECONDS, minutes * 60)}s", "--output-format=json",
            f"--aux-path={place.folder}", str(job_file),
        )  # fmt: skip
        samples.append(_status_mib(pid, "VmRSS"))
        done = min(int(time.monotonic() - begin), int(minutes * 60))
        place.say.moving(f"under load, {samples[-1]:.0f} MiB", done, int(minutes * 60))
    return samples


def _many_devices(place: Place, count: int) -> Iterator[Figure]:
    """Add so many linear devices to one disk, and time the first and the last of everything."""
    daemon, _ = _start(place, 'version = 1\n[disks.base]\nsize = "1MiB"\nstore = "memory:"\n')
    folder = place.mount_point / "mapper"
    sample = min(SAMPLES, count // 2)
    added, few_lookups = [], [0.0]
    with Client(str(place.mount_point)) as client:
        for number in range(count):
            args = {"name": f"device{number}", "table": "0 8 linear base 0"}
            added.append(_took(partial(client.call, "dm.add", **args)))
            if number + 1 == sample:
                few_lookups = _lookups(folder, sample, sample)
                few_list = _took(lambda: os.listdir(folder)) / sample
            place.say.moving("adding devices", number + 1, count)
    many_lookups = _lookups(folder, count, sample)
    many_list = _took(lambda: os.listdir(folder)) / count
    place.children.end(daemon)
    checks = f"{count:,} devices in one mount"
    for what, few, many in (
        ("adding one", statistics.median(added[:sample]), statistics.median(added[-sample:])),
        ("looking one up", statistics.median(few_lookups), statistics.median(many_lookups)),
        ("listing, for each name", few_list, many_list),
    ):
        yield Figure(checks, f"{what}, with {sample}", "ms", [few * 1000])
        yield Figure(checks, f"{what}, with {count:,}", "ms", [many * 1000])
        yield Figure(checks, f"{what}, that many to few", "x", [many / few], MAX_GROWTH)


def _lookups(folder: Path, count: int, sample: int) -> list[float]:
    """Seconds of looking up names all over the folder."""
    names = [f"device{number * count // sample}" for number in range(sample)]
    return [_took(partial(os.stat, folder / name)) for name in names]


def _took(what: Callable[[], object]) -> float:
    begin = time.perf_counter()
    what()
    return time.perf_counter() - begin


def _status_mib(pid: int, name: str) -> float:
    """A line of a process' status that is in kibibytes, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0
