"""Our side: one stack with every device that is measured, and its chain from store to view."""

from fusedm.bench.entrants import Entrant, block_figure, fill, one_device
from fusedm.bench.fio import fio_command
from fusedm.bench.jobs import NEIGHBOUR_FILE, Job
from fusedm.bench.place import Place
from fusedm.block.units import bytes_to_sectors
from fusedm.control import daemon_config, start_detached
from fusedm.fuse import MountOptions
from fusedm.host.interrupts import let_in

#: How late the slow neighbour answers.
SLOW_MS = 50
#: Longer than any figure beside it takes; it is ended when that has been measured.
NEIGHBOUR_SECONDS = 3600.0

_ENGINE = '{ keyslots = 32, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }'

#: Each disk with what lies over it: a mapped device, and a view with a data unit size.
_DISKS: tuple[tuple[str, str | None, str | None, int], ...] = (
    ("disk", None, None, 0),
    ("disk-linear", "linear", None, 0),
    ("disk-4096", "linear4096", "view4096", 4096),
    ("disk-512", "linear512", "view512", 512),
    ("disk-ext4", "linear-ext4", "ext4", 4096),
    ("disk-slow", "slow", None, 0),
)


def stack_text(place: Place) -> str:
    """The stack file: every store a file beside it, every disk with an engine."""
    text = "version = 1\n"
    for disk, mapped, view, unit in _DISKS:
        size = place.file_system_size if view == "ext4" else place.size
        text += f'[disks.{disk}]\nsize = "{size}"\nstore = "file:{disk}.img"\nengine = {_ENGINE}\n'
        if mapped is not None:
            target = "delay" if mapped == "slow" else "linear"
            table = f"0 {bytes_to_sectors(size)} {target} {disk} 0"
            table += f" {SLOW_MS}" if mapped == "slow" else ""
            text += f'[mapper.{mapped}]\ntable = "{table}"\n'
        if view is not None:
            text += (
                f'[keys.{view}]\nmode = "AES-256-XTS"\ndata_unit_size = {unit}\ndun_bytes = 8\n'
                f'source = "random"\n[views.{view}]\ndevice = "{mapped}"\nkey = "{view}"\n'
            )
    return text


def start_stack(place: Place) -> int:
    """Bring the stack up; the pid of its daemon, which ends with this process.

    Signals are let in: what is in the place is cleared in any case.
    Raises: FusedmError.
    """
    stack_file = place.folder / "stack.toml"
    stack_file.write_text(stack_text(place))
    config = daemon_config(str(stack_file), str(place.mount_point), MountOptions())
    pid = start_detached(config, with_parent=True)
    let_in()
    return pid


def file_of(place: Place, folder: str, name: str) -> str:
    """A file of the mount."""
    return str(place.mount_point / folder / name)


def our_entrants() -> list[Entrant]:
    """The devices of ours that fio is run on."""
    return [
        _entrant("disk", "disks"),
        _entrant("linear", "mapper"),
        _entrant("view4096", "views"),
        _entrant("view512", "views"),
        Entrant(
            "linear-busy",
            lambda place: file_of(place, "mapper", "linear"),
            _figure_beside_slow,
            one_device,
        ),
    ]


def _entrant(name: str, folder: str) -> Entrant:
    def bring(place: Place) -> str:
        path = file_of(place, folder, name)
        fill(path, place.size)
        return path

    return Entrant(name, bring, block_figure, one_device)


def _figure_beside_slow(place: Place, job: Job, path: str, seconds: float) -> float:
    """The figure while fio keeps a slow device of the same mount busy."""
    slow = file_of(place, "mapper", "slow")
    in_flight = place.mount_point / "sys/block/slow/inflight"
    load = place.children.start(
        *fio_command(NEIGHBOUR_FILE, slow, place.folder, NEIGHBOUR_SECONDS),
        log=place.folder / "neighbour.log",
    )
    try:
        load.wait_until(lambda: sum(map(int, in_flight.read_text().split())) > 0)
        return block_figure(place, job, path, seconds)
    finally:
        place.children.end(load)
