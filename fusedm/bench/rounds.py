"""The run itself: every entrant at every job, in turns, round by round."""

from collections.abc import Collection, Mapping, Sequence

from fusedm.bench.contest import Pair, entrants_of, jobs_of, rotated
from fusedm.bench.entrants import Entrant, missing_programs
from fusedm.bench.figures import ratios
from fusedm.bench.file_systems import file_system_entrants
from fusedm.bench.jobs import Job
from fusedm.bench.nbd import nbd_entrants
from fusedm.bench.neighbours import neighbour_entrants
from fusedm.bench.ours import our_entrants, start_stack
from fusedm.bench.peers import peer_entrants
from fusedm.bench.place import Place
from fusedm.bench.record import Figure, NotRun, Ratio
from fusedm.bench.remote import remote_entrants
from fusedm.block.errors import FusedmError, StackError, UsageError

#: What starting fio and ending it takes beside a job's time, about.
OVERHEAD_SECONDS = 0.4
#: What bringing one entrant up and filling it takes, about.
BRING_SECONDS = 2.0

Measured = Mapping[tuple[Job, str], Sequence[float]]


def all_entrants() -> dict[str, Entrant]:
    """Everybody who can take part, by name."""
    ours = (*our_entrants(), *neighbour_entrants())
    others = (*peer_entrants(), *remote_entrants(), *nbd_entrants())
    entrants = (*ours, *others, *file_system_entrants())
    return {entrant.name: entrant for entrant in entrants}


def missing_entrants(pairs: Sequence[Pair]) -> dict[str, str]:
    """Who cannot take part here, and why.

    Raises: UsageError if fio itself is missing, without which nothing can be measured.
    """
    without_fio = missing_programs(("fio",))
    if without_fio is not None and any(job.fio_job for job in jobs_of(pairs)):
        raise UsageError(without_fio)
    entrants = all_entrants()
    reasons = {name: entrants[name].missing() for name in entrants_of(pairs)}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def missing_on_disk(pairs: Sequence[Pair], reason: str) -> dict[str, str]:
    """Who cannot take part where there is no disk, and why."""
    entrants = all_entrants()
    return {name: reason for name in entrants_of(pairs) if entrants[name].on_disk}


def needed_bytes(
    place: Place, pairs: Sequence[Pair], missing: Collection[str], on_disk: bool = False
) -> int:
    """What the stores of all who take part fill at most, on a disk or elsewhere."""
    everybody = all_entrants()
    entrants = [everybody[name] for name in entrants_of(pairs) if name not in missing]
    stores = sum(one.store_size(place) for one in entrants if one.on_disk == on_disk)
    return stores if on_disk else stores + place.tree_size


def estimate_seconds(
    pairs: Sequence[Pair], missing: Collection[str], rounds: int, s: float
) -> float:
    """About how long a run takes whose jobs take s seconds each."""
    count = sum(name not in missing for job in jobs_of(pairs) for name in entrants_of(pairs, job))
    bring = sum(name not in missing for name in entrants_of(pairs))
    return bring * BRING_SECONDS + rounds * count * (s + OVERHEAD_SECONDS)


def bring_all(
    place: Place, pairs: Sequence[Pair], missing: Mapping[str, str], must_all: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Bring up whoever is not missing; the path of each, and who is missing now.

    Raises: FusedmError if one of ours does not come up; any other too where all must.
    """
    entrants = all_entrants()
    ours = {pair.device for pair in pairs}
    paths: dict[str, str] = {}
    reasons = dict(missing)
    start_stack(place)
    names = [name for name in entrants_of(pairs) if name not in missing]
    for done, name in enumerate(names):
        place.say.moving(f"bringing up {name}", done, len(names))
        try:
            paths[name] = entrants[name].bring(place)
        except FusedmError as error:
            if must_all or name in ours:
                raise StackError(f"{name}: {error}", error.errno) from None
            reasons[name] = str(error)
    return paths, reasons


def measure_all(
    place: Place, pairs: Sequence[Pair], paths: Mapping[str, str], rounds: int, seconds: float
) -> Measured:
    """The figure of every entrant at every job, for each round.

    At one job all are measured close after each other, and each round begins with another one.
    Raises: StackError if one of them fails: then there is no result.
    """
    entrants = all_entrants()
    measured: dict[tuple[Job, str], list[float]] = {}
    for number in range(rounds):
        for job in jobs_of(pairs):
            names = [name for name in entrants_of(pairs, job) if name in paths]
            for name in rotated(names, number):
                place.say.moving(f"round {number + 1}, {job.name}: {name}", number, rounds)
                try:
                    figure = entrants[name].measure(place, job, paths[name], seconds)
                except FusedmError as error:
                    raise StackError(f"{job.name} on {name}: {error}", error.errno) from None
                measured.setdefault((job, name), []).append(figure)
        place.say.line(f"round {number + 1} of {rounds} done")
    return measured


def figures_of(measured: Measured) -> list[Figure]:
    """All that was measured, for the record."""
    return [Figure(job.name, name, job.unit, rounds) for (job, name), rounds in measured.items()]


def compared(
    pairs: Sequence[Pair], measured: Measured, missing: Mapping[str, str]
) -> tuple[list[Ratio], list[NotRun]]:
    """The ratio of each pair, or why there is none."""
    found: list[Ratio] = []
    not_run: list[NotRun] = []
    for pair in pairs:
        job, names = pair.job.name, (pair.device, pair.against)
        reason = next((missing[name] for name in names if name in missing), None)
        if reason is not None:
            not_run.append(NotRun(job, *names, reason))
            continue
        ours, theirs = (measured[pair.job, name] for name in names)
        found.append(Ratio(job, *names, pair.goal, ratios(pair.job, ours, theirs)))
    return found, not_run
