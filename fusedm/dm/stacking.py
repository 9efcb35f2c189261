"""What a mapped device asks of bios and can encrypt natively, from its table. Pure."""

from collections.abc import Iterable, Iterator
from math import gcd

from fusedm.block import ALL_CAPABILITIES, NO_CAPABILITIES, BlockDevice, Capabilities, Limits
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
