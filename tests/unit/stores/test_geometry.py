"""Sizes that a store may have."""

import pytest

from fusedm.block.errors import StoreError
from fusedm.stores.geometry import check_size


@pytest.mark.parametrize(
    ("size", "logical_block_size"),
    [(512, 512), (1 << 40, 512), (4096, 4096), ((1 << 63) - 512, 512)],
)
def test_whole_blocks_are_accepted(size: int, logical_block_size: int) -> None:
    check_size("disk", size, logical_block_size)


@pytest.mark.parametrize(
    ("size", "logical_block_size", "text"),
    [
        (0, 512, "disk: size 0 is not in 1"),
        (-512, 512, "disk: size -512 is not in 1"),
        (1 << 63, 512, "disk: size 9223372036854775808 is not in 1..9223372036854775296 bytes"),
        (1000, 512, "size 1000 is not a whole number of 512-byte blocks (488 bytes over)"),
        (512, 256, "logical block size 256 is not a power of two of at least 512 bytes"),
        (3072, 1536, "logical block size 1536 is not a power of two"),
    ],
)
def test_anything_else_is_refused_with_the_numbers(
    size: int, logical_block_size: int, text: str
) -> None:
    with pytest.raises(StoreError) as refused:
        check_size("disk", size, logical_block_size)
    assert text in str(refused.value)
