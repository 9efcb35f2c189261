"""One device of ours measured while another one of the mount is slow, in two ways.

One neighbour answers late by itself: bios wait in its target. The other has a store that blocks
whoever reads or writes it: a file in the mount of a second daemon, in which a target is late.
"""

from functools import partial

from fusedm.bench.entrants import Entrant, block_figure, one_device
from fusedm.bench.fio import fio_command
from fusedm.bench.jobs import NEIGHBOUR_FILE, Job
from fusedm.bench.ours import SLOW, SLOW_MS, file_of, start_daemon
from fusedm.bench.place import Place
from fusedm.block.units import bytes_to_sectors
from fusedm.control import Client

#: Longer than any figure beside it takes; it is ended when that has been measured.
NEIGHBOUR_SECONDS = 3600.0

BLOCKED = "blocked"


def neighbour_entrants() -> list[Entrant]:
    """The linear device beside either neighbour; its store counts once, at its own entrant."""
    return [
        Entrant("linear-busy", _linear, partial(_figure_beside, SLOW.name), lambda place: 0),
        Entrant("linear-blocked", _beside_blocked, partial(_figure_beside, BLOCKED), one_device),
    ]


def slow_stack(place: Place) -> str:
    """The stack file of the second daemon."""
    sectors = bytes_to_sectors(place.size)
    return (
        f'version = 1\n[disks.memory]\nsize = "{place.size}"\nstore = "memory:"\n'
        f'[mapper.slow]\ntable = "0 {sectors} delay memory 0 {SLOW_MS}"\n'
    )


def _linear(place: Place) -> str:
    return file_of(place, "mapper", "linear")


def _beside_blocked(place: Place) -> str:
    """Bring the second daemon up, and a device of the first one on a file of it."""
    start_daemon(place, slow_stack(place), place.second_mount_point)
    store = place.second_mount_point / "mapper" / "slow"
    table = f"0 {bytes_to_sectors(place.size)} linear {store} 0"
    with Client(str(place.mount_point)) as client:
        client.call("dm.add", name=BLOCKED, table=table)
    return _linear(place)


def _figure_beside(slow: str, place: Place, job: Job, path: str, seconds: float) -> float:
    """The figure while fio keeps a slow device of the same mount busy."""
    in_flight = place.mount_point / "sys/block" / slow / "inflight"
    load = place.children.start(
        *fio_command(
            NEIGHBOUR_FILE, file_of(place, "mapper", slow), place.folder, NEIGHBOUR_SECONDS
        ),
        log=place.folder / "neighbour.log",
    )
    try:
        load.wait_until(lambda: sum(map(int, in_flight.read_text().split())) > 0)
        return block_figure(place, job, path, seconds)
    finally:
        place.children.end(load)
