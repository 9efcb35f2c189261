"""A target that has a pool, and the search for pools that use a device."""

from abc import ABC
from collections.abc import Iterator

from fusedm.block import BlockDevice
from fusedm.dm.target import Target
from fusedm.dm.thin.pool import Pool


class PoolTarget(Target, ABC):
    """What thin devices look for: a target with a pool, once it has been opened."""

    pool: Pool | None = None


def pools_of(device: object) -> Iterator[Pool]:
    """The pools of the tables of a device, if it is a mapped one; live or not."""
    for slot in ("live", "inactive"):
        for entry in getattr(getattr(device, slot, None), "entries", ()):
            if isinstance(entry.target, PoolTarget) and entry.target.pool is not None:
                yield entry.target.pool


def live_pool(device: object) -> Pool | None:
    """The pool of a device whose live table is a pool's."""
    live = getattr(device, "live", None)
    target = live.entries[0].target if live is not None else None
    return target.pool if isinstance(target, PoolTarget) else None


def pools_over(device: BlockDevice) -> Iterator[tuple[BlockDevice, Pool]]:
    """The pools that use a device, each with the device whose pool it is."""
    for holder in device.holders:
        for pool in pools_of(holder):
            yield holder, pool
