"""Byte ranges as whole blocks: what is replaced and what is patched."""

import pytest

from fusedm.files.byte_io import BlockRange, cover, split_write


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 4096, (0, 4096)),
        (1, 1, (0, 4096)),
        (4095, 2, (0, 8192)),
        (4096, 4097, (4096, 12288)),
        (5000, 0, (4096, 8192)),
    ],
)
def test_cover_widens_to_whole_blocks(offset: int, length: int, expected: tuple[int, int]) -> None:
    assert cover(offset, length, 4096) == expected


def test_an_aligned_write_is_one_range_however_long() -> None:
    assert split_write(4096, 1 << 20, 4096) == [BlockRange(4096, 4096 + (1 << 20), 0, 0, 1 << 20)]


def test_a_write_within_one_block_patches_it() -> None:
    assert split_write(4100, 7, 4096) == [BlockRange(4096, 8192, 4, 0, 7)]


def test_a_write_over_one_boundary_patches_both_blocks() -> None:
    assert split_write(4090, 10, 4096) == [
        BlockRange(0, 4096, 4090, 0, 6),
        BlockRange(4096, 8192, 0, 6, 10),
    ]


def test_an_unaligned_write_is_head_body_and_tail() -> None:
    assert split_write(500, 2048, 512) == [
        BlockRange(0, 512, 500, 0, 12),
        BlockRange(512, 2048, 0, 12, 1548),
        BlockRange(2048, 2560, 0, 1548, 2048),
    ]


def test_only_ranges_without_old_content_are_whole() -> None:
    assert [blocks.is_whole for blocks in split_write(500, 2048, 512)] == [False, True, False]


def test_an_empty_write_touches_no_block() -> None:
    assert split_write(100, 0, 512) == []
