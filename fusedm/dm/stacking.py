"""What a mapped device asks of bios and can encrypt natively, from its table. Pure."""

from collections.abc import Iterable, Iterator
from functools import reduce
from math import gcd

from fusedm.block import ALL_CAPABILITIES, NO_CAPABILITIES, BlockDevice, Capabilities, Limits
from fusedm.block.capabilities import data_unit_sizes
from fusedm.block.errors import TableError
from fusedm.block.limits import stack_all
from fusedm.block.units import sectors_to_bytes
from fusedm.dm.table import Table, target_limits


def stack_limits(table: Table) -> Limits:
    """The limits that satisfy every target and every device below."""
    return stack_all(target_limits(entry.target) for entry in table.entries)


def stack_capabilities(table: Table) -> Capabilities:
    """What every device below can do, if every target passes contexts on.

    Source: dm_table_construct_crypto_profile in dm-table.c. Stricter than the kernel in two points:
    without any device there is nothing to be native on, and a data unit size that would be cut by a
    split is not offered.
    """
    devices = table.data_devices()
    if not devices or not all(entry.target.passes_crypto for entry in table.entries):
        return NO_CAPABILITIES
    shared = ALL_CAPABILITIES
    for device in devices:
        shared = shared.intersect(device.capabilities)
    step = sectors_to_bytes(gcd(*split_points(table)))
    largest = step & -step
    return shared.without_data_unit_sizes(~(2 * largest - 1)) if step else shared


def check_superset(name: str, live: Table, new: Table) -> None:
    """Refuse a table that adds a device that can do less natively than all that stay.

    name is that of the mapped device.
    Raises: TableError(EINVAL) naming what it lacks.
    """
    kept = [device for device in live.data_devices() if device in new.data_devices()]
    if not kept or not all(entry.target.passes_crypto for entry in new.entries):
        return
    shared = reduce(Capabilities.intersect, (device.capabilities for device in kept))
    for added in new.data_devices():
        if added in kept or added.capabilities.covers(shared):
            continue
        lacks = missing(added.capabilities, shared)
        text = f"{added.name} lacks {lacks}, which what stays below {name} has (hot_add: superset)"
        raise TableError(0, "", text)


def missing(own: Capabilities, wanted: Capabilities) -> str:
    """In words, what is wanted and not there."""
    sizes = {mode: mask & ~own.modes.get(mode, 0) for mode, mask in wanted.modes.items()}
    lacks = [
        f"{mode} of {', '.join(map(str, data_unit_sizes(mask)))} bytes"
        for mode, mask in sizes.items()
        if mask
    ]
    if own.max_dun_bytes < wanted.max_dun_bytes:
        lacks.append(f"{wanted.max_dun_bytes} DUN bytes, it has {own.max_dun_bytes}")
    kinds = sorted(kind.name.lower() for kind in wanted.key_types - own.key_types)
    lacks += [f"{kind} keys" for kind in kinds]
    return "; ".join(lacks)


def split_points(table: Table) -> Iterator[int]:
    """Sectors at which bios are split, or of which they are split at multiples.

    An offset is one only into a device that splits bios itself, whose split points it shifts.
    """
    for entry in table.entries:
        yield entry.start_sector
        yield entry.target.max_io_sectors or 0
        for segment in entry.target.devices():
            if any(True for _ in segment.device.underlying()):
                yield segment.start_sector


def all_below(devices: Iterable[BlockDevice]) -> set[BlockDevice]:
    """The devices and everything under them."""
    found: set[BlockDevice] = set()
    to_visit = list(devices)
    while to_visit:
        device = to_visit.pop()
        if device not in found:
            found.add(device)
            to_visit.extend(device.underlying())
    return found
