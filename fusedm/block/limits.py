"""Limits of a device's queue, and how those of several devices stack."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import lcm

from fusedm.block.units import SECTOR_SIZE


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device asks of the bios it is given.

    Units: bytes; io_opt_bytes is 0 where the device has no preference.

    discard, write_zeroes: whether it takes such bios at all.
    """

    logical_block_size: int = SECTOR_SIZE
    io_min_bytes: int = SECTOR_SIZE
    io_opt_bytes: int = 0
    discard: bool = True
    write_zeroes: bool = True

    def stack(self, other: "Limits") -> "Limits":
        """The limits that satisfy both.

        Source: blk_stack_limits in the kernel's block/blk-settings.c.
        """
        optima = [size for size in (self.io_opt_bytes, other.io_opt_bytes) if size]
        return Limits(
            logical_block_size=max(self.logical_block_size, other.logical_block_size),
            io_min_bytes=max(self.io_min_bytes, other.io_min_bytes),
            io_opt_bytes=lcm(*optima) if optima else 0,
            discard=self.discard and other.discard,
            write_zeroes=self.write_zeroes and other.write_zeroes,
        )


def stack_all(limits: Iterable[Limits]) -> Limits:
    """The limits that satisfy all; the defaults where there are none."""
    return reduce(Limits.stack, limits, Limits())
