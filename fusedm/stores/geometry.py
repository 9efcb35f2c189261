"""What every store asks of a size and of a change."""

import errno
import os

from fusedm.block.errors import StoreError
from fusedm.block.units import MAX_SECTORS, SECTOR_SIZE, is_power_of_two

_MAX_SIZE = MAX_SECTORS * SECTOR_SIZE


def check_size(name: str, size: int, logical_block_size: int = SECTOR_SIZE) -> None:
    """Refuse a size that is not a whole number of logical blocks, with the numbers in the text."""
    if logical_block_size < SECTOR_SIZE or not is_power_of_two(logical_block_size):
        raise StoreError(
            f"{name}: logical block size {logical_block_size} is not a power of two "
            f"of at least {SECTOR_SIZE} bytes"
        )
    if not 0 < size <= _MAX_SIZE:
        raise StoreError(f"{name}: size {size} is not in 1..{_MAX_SIZE} bytes")
    if size % logical_block_size:
        raise StoreError(
            f"{name}: size {size} is not a whole number of {logical_block_size}-byte blocks "
            f"({size % logical_block_size} bytes over)"
        )


def check_writable(read_only: bool) -> None:
    """Refuse a change of a read-only store, before any effect."""
    if read_only:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
