"""Our side: one stack with every device that is measured, and its chain from store to view."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusedm.bench.entrants import Entrant, block_figure, fill, one_device, settled_figure
from fusedm.bench.place import Place
from fusedm.block.units import bytes_to_sectors
from fusedm.control import daemon_config, start_detached
from fusedm.host.interrupts import let_in
from fusedm.host.kernel_mount import MountOptions

#: How late the slow neighbour answers.
SLOW_MS = 50

_ENGINE = '{ keyslots = 32, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }'
#: Chunks of 64 KiB, as LVM makes them.
_STRIPED = "striped 2 128 {0} 0 {1} 0"
_CRYPT = "crypt aes-xts-plain64 {key} 0 {0} 0 1 sector_size:4096"


@dataclass(frozen=True, slots=True)
class Device:
    """A device of ours with disks of its own below it.

    table is the target of its mapped device and what that is given ({0} and {1} are the disks),
    none for a disk as it is; unit the data unit size of a view on that, in bytes, none without.
    """

    name: str
    table: str = "linear {0} 0"
    unit: int = 0
    disks: int = 1
    has_engine: bool = True
    on_disk: bool = False
    has_file_system: bool = False

    @property
    def mapped(self) -> str:
        """The name of its mapped device."""
        return f"{self.name}.mapped" if self.unit else self.name

    def disk(self, number: int = 0) -> str:
        """The name of one of its disks, and that of its store."""
        return f"{self.name}.disk{number}" if self.table else self.name

    def path(self, place: Place) -> str:
        """Its file in the mount."""
        folder = "views" if self.unit else "mapper" if self.table else "disks"
        return file_of(place, folder, self.name)


DEVICES = (
    Device("disk", table=""),
    Device("linear"),
    Device("view4096", unit=4096),
    Device("view512", unit=512),
    Device("view-fallback", unit=4096, has_engine=False),
    Device("crypt", _CRYPT),
    Device("flakey", "flakey {0} 0 1 0"),
    Device("dust", "dust {0} 0 4096"),
    Device("striped", _STRIPED, disks=2),
    Device("disk-linear", on_disk=True),
    Device("disk-view", unit=4096, on_disk=True),
    Device("ext4", unit=4096, has_file_system=True),
    Device("ext4-linear", has_file_system=True),
    Device("ext4-fallback", unit=4096, has_engine=False, has_file_system=True),
    Device("ext4-crypt", _CRYPT, has_file_system=True),
    Device("disk-ext4", unit=4096, on_disk=True, has_file_system=True),
)
SLOW = Device("slow", f"delay {{0}} 0 {SLOW_MS}")


def stack_text(place: Place) -> str:
    """The stack file; without a folder on a disk it has none of the devices that lie there.

    The key of crypt is in it, as in any table: nobody else may read the folder it is in.
    """
    devices = [*DEVICES, SLOW]
    if place.disk_folder is None:
        devices = [device for device in devices if not device.on_disk]
    return "version = 1\n" + "".join(line for device in devices for line in _lines(place, device))


def _lines(place: Place, device: Device) -> Iterator[str]:
    size = place.file_system_size if device.has_file_system else place.size
    folder = place.store_folder(device.on_disk)
    disks = [device.disk(number) for number in range(device.disks)]
    for disk in disks:
        yield f'[disks."{disk}"]\nsize = "{size // device.disks}"\n'
        yield f'store = "file:{folder / disk}.img"\n'
        yield f"engine = {_ENGINE}\n" if device.has_engine else ""
    if device.table:
        target = device.table.format(*disks, key=secrets.token_hex(64))
        table = f"0 {bytes_to_sectors(size)} {target}"
        yield f'[mapper."{device.mapped}"]\ntable = "{table}"\n'
    if device.unit:
        yield (
            f'[keys.{device.name}]\nmode = "AES-256-XTS"\ndata_unit_size = {device.unit}\n'
            f'dun_bytes = 8\nsource = "random"\n'
            f'[views.{device.name}]\ndevice = "{device.mapped}"\nkey = "{device.name}"\n'
        )


def start_stack(place: Place) -> None:
    """Bring the stack up. Raises: as start_daemon."""
    start_daemon(place, stack_text(place), place.mount_point)


def start_daemon(place: Place, text: str, mount_point: Path) -> None:
    """Bring up the stack of a stack file's text, with a daemon that ends with this process.

    Signals are let in: what is in the place is cleared in any case.
    Raises: FusedmError.
    """
    stack_file = place.folder / f"{mount_point.name}.toml"
    stack_file.write_text(text)
    config = daemon_config(str(stack_file), str(mount_point), MountOptions())
    start_detached(config, with_parent=True)
    let_in()


def file_of(place: Place, folder: str, name: str) -> str:
    """A file of the mount."""
    return str(place.mount_point / folder / name)


def our_entrants() -> list[Entrant]:
    """The devices of ours that fio is run on."""
    return [_entrant(device) for device in DEVICES if not device.has_file_system]


def _entrant(device: Device) -> Entrant:
    def bring(place: Place) -> str:
        path = device.path(place)
        fill(path, place.size)
        return path

    figure = settled_figure if device.on_disk else block_figure
    return Entrant(device.name, bring, figure, one_device, on_disk=device.on_disk)
