"""sys/block/NAME: what the kernel's sysfs would say of a device, in its names and formats. Pure.

The folder fusedm/ in it is not the kernel's: there is what only this project has to tell.
Source: Documentation/ABI/stable/sysfs-block; dm_attr_* in dm-sysfs.c; blk-crypto-sysfs.c.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from fusedm.block import BlockDevice, Capabilities, KeyType
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import KeyslotProfile
from fusedm.disk import Disk
from fusedm.dm import MappedDevice
from fusedm.fuse.nodes import Directory, Link, Node, directory, line
from fusedm.system import System, View

#: The file that is there for each type of key the device takes.
KEY_TYPE_FILES = {KeyType.RAW: "raw_keys", KeyType.HW_WRAPPED: "hw_wrapped_keys"}

#: As many whole sectors as the kernel counts bytes of in 32 bits: the most of one bio.
MAX_RANGE_BYTES = (1 << 32) - 1 >> SECTOR_SHIFT << SECTOR_SHIFT


def block_directory(system: System, name: str) -> Directory:
    """What there is about one disk, mapped device or view."""
    view = system.views.get(name)
    return _of_view(view) if view is not None else _of_device(system, system.device(name))


def _of_device(system: System, device: BlockDevice) -> Directory:
    children: dict[str, Node] = {
        "size": line(device.sector_count),
        "ro": line(int(device.read_only)),
        "stat": line(device.stats.stat_line()),
        "inflight": line(device.stats.inflight_line()),
        "slaves": _links([below.name for below in device.underlying()]),
        "holders": _links(system.holders(device.name)),
        "queue": _queue(device),
        "fusedm": _own(device),
    }
    if isinstance(device, MappedDevice):
        children["dm"] = directory(
            {
                "name": line(device.name),
                "uuid": line(device.uuid),
                "suspended": line(int(device.suspended)),
            }
        )
    return directory(children)


def _own(device: BlockDevice) -> Directory:
    children: dict[str, Node] = {"crypto_extents": line("\n".join(crypto_extents(device)))}
    slots = keyslots(device)
    if slots:
        lines = (" ".join(map(str, _words(slot))) for slot in slots)
        children["keyslots"] = line("\n".join(lines))
    return directory(children)


def _of_view(view: View) -> Directory:
    return directory(
        {
            "start": line(view.sector(0)),
            "size": line(view.size >> SECTOR_SHIFT),
            "ro": line(int(view.read_only)),
            "slaves": _links([view.device.name]),
            "holders": _links([]),
            "queue": directory(
                {"logical_block_size": line(view.block_size)}
                | _discards(view.takes_discards, view.block_size)
            ),
        }
    )


def _queue(device: BlockDevice) -> Directory:
    children: dict[str, Node] = {
        "logical_block_size": line(device.limits.logical_block_size),
        "minimum_io_size": line(device.limits.io_min_bytes),
        "optimal_io_size": line(device.limits.io_opt_bytes),
        "write_zeroes_max_bytes": line(MAX_RANGE_BYTES if device.limits.write_zeroes else 0),
    } | _discards(device.limits.discard, device.limits.logical_block_size)
    capabilities = device.capabilities
    told = capabilities if device.told is None else device.told
    if told:
        children["crypto"] = _crypto(capabilities, told, keyslot_count(device))
    return directory(children)


def _discards(takes: bool, granularity: int) -> dict[str, Node]:
    """Whether DISCARD is taken, in bytes as all of the queue."""
    most = line(MAX_RANGE_BYTES if takes else 0)
    return {
        "discard_max_bytes": most,
        "discard_max_hw_bytes": most,
        "discard_granularity": line(granularity if takes else 0),
    }


def _crypto(capabilities: Capabilities, told: Capabilities, slots: int) -> Directory:
    """Contents are those of now; told says which files there are."""
    modes = {name: line(f"{capabilities.modes.get(name, 0):#x}") for name in told.modes}
    children: dict[str, Node] = {
        "max_dun_bits": line(8 * capabilities.max_dun_bytes),
        "num_keyslots": line(slots),
    }
    for key_type, file in KEY_TYPE_FILES.items():
        if key_type in told.key_types:
            children[file] = line("supported")
    return directory(children | {"modes": directory(modes)})


def keyslot_count(device: BlockDevice) -> int:
    """The keyslots of a device's profile: 0 for a passthrough one, as every mapped device has."""
    if isinstance(device, Disk) and device.engine is not None:
        return device.engine.slots.slot_count
    return 0


def keyslots(device: BlockDevice) -> list[dict[str, str | int | None]]:
    """What each keyslot of a disk's engine is at, and what has happened to it; keys by name.

    With faults, held is the key that the hardware really has, whatever it was told.
    """
    if not isinstance(device, Disk) or device.engine is None:
        return []
    profile, hardware = device.engine.slots, device.engine.hardware
    rows: list[dict[str, str | int | None]] = [
        {
            "slot": index,
            "key": slot.key.name if slot.key is not None else None,
            "state": slot.state.value,
            "users": slot.users,
            **asdict(slot.counts),
        }
        for index, slot in enumerate(
            profile.slots.slots if isinstance(profile, KeyslotProfile) else ()
        )
    ]
    if hardware is not None:
        for index, row in enumerate(rows):
            held = hardware.held.get(index)
            row["held"] = held.key_name if held is not None else None
    return rows


def _words(slot: dict[str, str | int | None]) -> Iterator[str | int]:
    """A slot in words: its number, its key or -, then names and numbers."""
    yield from (slot["slot"] or 0, slot["key"] or "-")
    for name, value in slot.items():
        if isinstance(value, int) and name != "slot":
            yield from (name, value)


def crypto_extents(device: BlockDevice) -> list[str]:
    """How bios with a context were done: `start length target native N fallback N` an extent."""
    if isinstance(device, Disk):
        rows = [(0, device.sector_count, "disk", device.counts)]
    elif isinstance(device, MappedDevice) and device.live is not None:
        rows = [
            (entry.start_sector, entry.sector_count, entry.target.name, entry.counts)
            for entry in device.live.entries
        ]
    else:
        rows = []
    return [
        f"{start} {length} {kind} native {counts.native} fallback {counts.fallback}"
        for start, length, kind, counts in rows
    ]


def _links(names: Sequence[str]) -> Directory:
    def child(name: str) -> Node | None:
        return Link(f"../../{name}") if name in names else None

    return Directory(lambda: names, child)
