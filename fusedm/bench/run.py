"""A whole run: what is refused before it, the run itself, and its record."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fusedm.bench.conditions import machine, versions
from fusedm.bench.contest import choose
from fusedm.bench.entrants import missing_programs
from fusedm.bench.layers import CHAIN, REQUESTS, measure_layers
from fusedm.bench.memory import measure_memory
from fusedm.bench.place import DEFAULT_FOLDER, MIB, Place, Teller, check_parent, make_folder
from fusedm.bench.record import Figure, NotRun, Ratio, Record
from fusedm.bench.report import NO_RESULT
from fusedm.bench.rounds import (
    bring_all,
    compared,
    estimate_seconds,
    figures_of,
    measure_all,
    missing_entrants,
    needed_bytes,
)
from fusedm.bench.supervise import supervised
from fusedm.block.errors import UsageError
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


def run_pairs(options: Options, say: Teller) -> Record:
    """Measure our devices and the others in turns, and compare them.

    Raises: UsageError before anything is started; FusedmError if it fails or was interrupted.
    """
    pairs = choose(options.only)
    missing = missing_entrants(pairs)
    if missing and options.require_peers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise UsageError(f"--require-peers: {reasons}")
    place = _place(options, say, lambda place: needed_bytes(place, pairs, missing))
    with supervised(place):
        about = estimate_seconds(pairs, missing, options.rounds, options.seconds)
        _announce(options, say, about)
        for name, reason in missing.items():
            say.line(f"{name}: not run: {reason}")
        conditions = machine()
        paths, missing = bring_all(place, pairs, missing, options.require_peers)
        measured = measure_all(place, pairs, paths, options.rounds, options.seconds)
    ratios, not_run = compared(pairs, measured, missing)
    return _record("compare", options, conditions, figures_of(measured), ratios, not_run)


def run_layers(options: Options, say: Teller) -> Record:
    """Measure where the time of one request goes.

    Raises: as run_pairs.
    """
    place = _place(options, say, lambda place: place.size)
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
    place = _place(options, say, lambda place: MEMORY_CHECK_BYTES)
    with supervised(place):
        _announce(options, say, options.minutes * 60 + 30)
        conditions = machine()
        devices = (QUICK_DEVICES,) if options.quick else ()
        figures = measure_memory(place, options.minutes, *devices)
    return _record("memory", options, conditions, figures)


def _place(options: Options, say: Teller, needed: Callable[[Place], int]) -> Place:
    """The new folder of a run, once it is sure that it can be used."""
    sizes = (16 * MIB, 64 * MIB, 1 * MIB) if options.quick else ()
    check_parent(options.folder, options.any_medium, needed(Place(Path(), say, *sizes)))
    # From here on there is something to undo: a signal waits until somebody does.
    hold()
    return Place(make_folder(options.folder), say, *sizes)


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
