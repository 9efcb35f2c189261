"""A whole run: what is refused before it, the run itself, and its record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fusedm.bench.conditions import machine, versions
from fusedm.bench.contest import Pair, choose
from fusedm.bench.entrants import missing_programs
from fusedm.bench.layers import CHAIN, REQUESTS, measure_layers
from fusedm.bench.memory import measure_memory
from fusedm.bench.place import (
    DEFAULT_FOLDER,
    MIB,
    Place,
    Teller,
    check_parent,
    disk_parent,
    make_place,
)
from fusedm.bench.record import Figure, NotRun, Ratio, Record
from fusedm.bench.report import NO_RESULT
from fusedm.bench.rounds import (
    bring_all,
    compared,
    estimate_seconds,
    figures_of,
    measure_all,
    missing_entrants,
    missing_on_disk,
    needed_bytes,
)
from fusedm.bench.supervise import supervised
from fusedm.block.errors import StackError, UsageError
from fusedm.host import mounts
from fusedm.host.interrupts import hold

MIN_ROUNDS = 5
#: With --quick everything is smaller, and its figures are no result.
QUICK_DEVICES = 200
#: Room for what the memory check writes: 8 MiB of each disk, and the rest.
MEMORY_CHECK_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    rounds: int = MIN_ROUNDS
    seconds: float = 2.0
    quick: bool = False
    only: Sequence[str] = ()
    folder: str = DEFAULT_FOLDER
    any_medium: bool = False
    require_peers: bool = False
    minutes: float = 1.0
    disk_folder: str | None = None


def run_pairs(options: Options, say: Teller) -> Record:
    """Measure our devices and the others in turns, and compare them.

    Raises: UsageError before anything is started; FusedmError if it fails or was interrupted.
    """
    pairs = choose(options.only)
    sizes = _sizes(options, say)
    missing = missing_entrants(pairs)
    disk, without_disk = _disk(options, sizes, pairs, missing)
    missing |= without_disk
    if missing and options.require_peers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise UsageError(f"--require-peers: {reasons}")
    place = _place(options, sizes, needed_bytes(sizes, pairs, missing), disk)
    with supervised(place):
        about = estimate_seconds(pairs, missing, options.rounds, options.seconds)
        _announce(options, say, about)
        for name, reason in missing.items():
            say.line(f"{name}: not run: {reason}")
        conditions = machine()
        if disk is not None:
            conditions["disk medium"] = mounts.mount_over(disk).fs_type
        paths, missing = bring_all(place, pairs, missing, options.require_peers)
        measured = measure_all(place, pairs, paths, options.rounds, options.seconds)
    ratios, not_run = compared(pairs, measured, missing)
    return _record("compare", options, conditions, figures_of(measured), ratios, not_run)


def run_layers(options: Options, say: Teller) -> Record:
    """Measure where the time of one request goes.

    Raises: as run_pairs.
    """
    sizes = _sizes(options, say)
    place = _place(options, sizes, sizes.size)
    with supervised(place):
        each = len(CHAIN) * len(REQUESTS) * options.seconds
        _announce(options, say, options.rounds * each + 2)
        conditions = machine()
        figures = measure_layers(place, options.rounds, options.seconds)
    return _record("layers", options, conditions, figures)


def run_memory(options: Options, say: Teller) -> Record:
    """Measure the daemon's memory, its start, and many devices.

    Raises: as run_pairs.
    """
    without_fio = missing_programs(("fio",))
    if without_fio is not None:
        raise UsageError(without_fio)
    place = _place(options, _sizes(options, say), MEMORY_CHECK_BYTES)
    with supervised(place):
        _announce(options, say, options.minutes * 60 + 30)
        conditions = machine()
        devices = (QUICK_DEVICES,) if options.quick else ()
        figures = measure_memory(place, options.minutes, *devices)
    return _record("memory", options, conditions, figures)


def _sizes(options: Options, say: Teller) -> Place:
    """A place that has its sizes, and no folder yet."""
    sizes = (16 * MIB, 64 * MIB, 1 * MIB) if options.quick else ()
    return Place(Path(), say, *sizes)


def _disk(
    options: Options, sizes: Place, pairs: Sequence[Pair], missing: Mapping[str, str]
) -> tuple[str | None, dict[str, str]]:
    """Where on a disk to make a folder, or who is missing without one.

    Raises: StackError if the folder that was named will not do.
    """
    needed = needed_bytes(sizes, pairs, missing, on_disk=True)
    if not needed and options.disk_folder is None:
        return None, {}
    try:
        return disk_parent(options.disk_folder, options.any_medium, needed), {}
    except StackError as error:
        if options.disk_folder is not None:
            raise
        return None, missing_on_disk(pairs, str(error))


def _place(options: Options, sizes: Place, needed: int, disk: str | None = None) -> Place:
    """The new folders of a run, once it is sure that they can be used."""
    check_parent(options.folder, options.any_medium, needed)
    # From here on there is something to undo: a signal waits until somebody does.
    hold()
    return make_place(sizes, options.folder, disk)


def _announce(options: Options, say: Teller, seconds: float) -> None:
    if options.quick:
        say.line(NO_RESULT)
    about = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    say.line(f"this takes about {about}; Ctrl-C ends it and leaves nothing")


def _record(
    kind: str,
    options: Options,
    conditions: dict[str, object],
    figures: Sequence[Figure],
    ratios: Sequence[Ratio] = (),
    not_run: Sequence[NotRun] = (),
) -> Record:
    conditions["medium"] = mounts.mount_over(options.folder).fs_type
    arguments = {**asdict(options), "only": list(options.only)}
    return Record(kind, options.quick, arguments, versions(), conditions, figures, ratios, not_run)
