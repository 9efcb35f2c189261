"""A write split at blocks does to the medium what the write itself would."""

from hypothesis import given
from hypothesis import strategies as st

from fusedm.files.byte_io import cover, split_write

BLOCKS = st.sampled_from([16, 64, 512])
OFFSETS = st.integers(0, 2000)
LENGTHS = st.integers(1, 2000)


@given(OFFSETS, LENGTHS, BLOCKS)
def test_a_split_write_leaves_the_same_bytes_as_the_write(
    offset: int, length: int, block: int
) -> None:
    payload = bytes(index % 251 + 1 for index in range(length))
    medium = bytearray(8192)
    for blocks in split_write(offset, length, block):
        # Only whole blocks are ever read and written.
        piece = bytearray(medium[blocks.begin : blocks.end])
        part = payload[blocks.first : blocks.last]
        piece[blocks.offset : blocks.offset + len(part)] = part
        assert len(piece) == blocks.end - blocks.begin
        medium[blocks.begin : blocks.end] = piece
    naive = bytearray(8192)
    naive[offset : offset + length] = payload
    assert medium == naive


@given(OFFSETS, LENGTHS, BLOCKS)
def test_the_ranges_of_a_split_write_are_adjacent_and_cover_it(
    offset: int, length: int, block: int
) -> None:
    ranges = split_write(offset, length, block)
    edges = [edge for blocks in ranges for edge in (blocks.begin, blocks.end)]
    assert edges[1:-1:2] == edges[2::2]
    assert (edges[0], edges[-1]) == cover(offset, length, block)
    assert not any(edge % block for edge in edges)


@given(OFFSETS, LENGTHS, BLOCKS)
def test_at_most_one_block_at_each_end_is_patched(offset: int, length: int, block: int) -> None:
    ranges = split_write(offset, length, block)
    assert len(ranges) <= 3
    for blocks in ranges:
        assert blocks.is_whole or blocks.end - blocks.begin == block
    assert all(blocks.is_whole for blocks in ranges[1:-1])
