"""The blocks of a pool's metadata, byte for byte, and what is refused."""

import errno
import struct
from array import array

import pytest

from fusedm.block.errors import StackError
from fusedm.dm.thin.blocks import (
    BITMAPS,
    DETAILS,
    DEVICES,
    INDEX_SALT,
    MAPPINGS,
    MOST_CHILDREN,
    NODE_SALT,
    PER_BITMAP,
    REF_COUNTS,
    Node,
    index_entry,
    pack_bitmap,
    pack_index,
    parse_bitmap,
    parse_index,
    parse_node,
    seal,
)
from fusedm.dm.thin.crc32c import crc32c
from fusedm.dm.thin.superblock import SpaceMapRoot, Superblock, parse_superblock


def resealed(data: bytes, at: int, fields: str, *numbers: int, salt: int = NODE_SALT) -> bytes:
    """A block with something else in it, and the right checksum."""
    changed = bytearray(data)
    struct.pack_into(fields, changed, at, *numbers)
    return seal(changed, salt)


def node(keys: list[int], kind=MAPPINGS, is_leaf=True) -> Node:
    values = array(kind.code if is_leaf else "Q", range(len(keys) * kind.words))
    return Node(5, kind, is_leaf, array("Q", keys), values)


def test_the_checksum_is_that_of_iscsi():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0
    for length in range(20):
        data = bytes(range(length))
        assert crc32c(b"..." + data)  # Any length and place.
        assert crc32c(memoryview(b"..." + data)[3:]) == crc32c(data)


def test_nodes_have_room_for_a_multiple_of_three():
    most = [kind.most for kind in (MAPPINGS, DEVICES, DETAILS, BITMAPS, REF_COUNTS)]
    assert most == [252, 252, 126, 168, 336]
    assert MOST_CHILDREN == 252


@pytest.mark.parametrize("kind", [MAPPINGS, DEVICES, DETAILS, BITMAPS, REF_COUNTS])
@pytest.mark.parametrize("is_leaf", [True, False])
def test_a_node_is_read_as_it_was_written(kind, is_leaf: bool):
    keys = [3, 7, 1 << 40]
    old = Node(
        5,
        kind,
        is_leaf,
        array("Q", keys),
        array(kind.code if is_leaf else "Q", range(3 * (kind.words if is_leaf else 1))),
    )
    new = parse_node(old.pack(), 5, kind)
    assert (new.is_leaf, new.keys, new.values) == (old.is_leaf, old.keys, old.values)


def test_the_header_of_a_node_is_the_kernels():
    data = node([3, 7]).pack()
    assert struct.unpack_from("<IQIII", data, 4) == (2, 5, 2, 252, 8)
    assert struct.unpack_from("<2Q", data, 32) == (3, 7)
    assert struct.unpack_from("<2Q", data, 32 + 252 * 8) == (0, 1)
    assert struct.unpack_from("<I", node([], is_leaf=False).pack(), 4) == (1,)


def test_entries_of_a_node_that_has_room_for_fewer_are_found():
    data = bytearray(node([]).pack())
    struct.pack_into("<III", data, 16, 2, 6, 8)
    struct.pack_into("<2Q", data, 32, 3, 7)
    struct.pack_into("<2Q", data, 32 + 6 * 8, 30, 70)
    read = parse_node(seal(data, NODE_SALT), 5, MAPPINGS)
    assert (list(read.keys), list(read.values)) == ([3, 7], [30, 70])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(4096), "checksum of the node of mappings is wrong"),
        (resealed(node([1]).pack(), 8, "<Q", 6), "node of mappings belongs into block 6"),
        (resealed(node([1]).pack(), 4, "<I", 3), "no node of mappings (flags 3, values of 8 by"),
        (resealed(node([1]).pack(), 24, "<I", 4), "no node of mappings (flags 2, values of 4 by"),
        (resealed(node([1]).pack(), 16, "<I", 253), "253 entries of 252 in a node of mappings"),
        (resealed(node([1]).pack(), 16, "<II", 1, 255), "1 entries of 255 in a node of mappings"),
        (node([2, 1]).pack(), "keys of a node of mappings are not in order"),
        (node([1, 1]).pack(), "keys of a node of mappings are not in order"),
    ],
)
def test_a_damaged_node_is_refused(data: bytes, text: str):
    with pytest.raises(StackError) as raised:
        parse_node(data, 5, MAPPINGS)
    assert str(raised.value).startswith(f"metadata block 5: {text}")
    assert raised.value.errno == errno.EILSEQ


def test_of_two_bits_of_a_bitmap_the_first_is_the_higher_digit():
    counts = bytearray(PER_BITMAP)
    counts[0:6] = [1, 2, 3, 0, 0, 1]
    data = pack_bitmap(9, counts)
    assert data[16:18] == bytes([0b00_11_01_10, 0b00_00_10_00])
    assert struct.unpack_from("<IQ", data, 4) == (0, 9)
    assert parse_bitmap(data, 9) == counts


def test_a_bitmap_is_read_as_it_was_written():
    counts = bytearray(number * number % 7 % 4 for number in range(PER_BITMAP))
    assert parse_bitmap(pack_bitmap(9, counts), 9) == counts
    with pytest.raises(StackError, match="bitmap belongs into block 9"):
        parse_bitmap(pack_bitmap(9, counts), 8)


def test_the_index_tells_where_bitmaps_are():
    full, empty = bytearray(b"\1" * PER_BITMAP), bytearray(PER_BITMAP)
    entries = [index_entry(30, full), index_entry(40, empty)]
    assert entries == [(30, PER_BITMAP << 32), (40, PER_BITMAP)]
    data = pack_index(4, entries)
    assert parse_index(data, 4, 2) == [30, 40]
    assert struct.unpack_from("<QQII", data, 8) == (4, 30, 0, PER_BITMAP)
    with pytest.raises(StackError, match="256 bitmaps are more than 255"):
        parse_index(data, 4, 256)
    with pytest.raises(StackError, match="checksum of the index of bitmaps is wrong"):
        parse_index(resealed(data, 8, "<Q", 4), 4, 2)
    with pytest.raises(StackError, match="belongs into block 3"):
        parse_index(resealed(data, 8, "<Q", 3, salt=INDEX_SALT), 4, 2)


SUPERBLOCK = Superblock(
    128,
    1000,
    mappings=7,
    details=8,
    data_map=SpaceMapRoot(1, 2, 3, 4),
    metadata_map=SpaceMapRoot(5, 6, 7, 8),
    time=9,
    transaction_id=10,
    held_root=11,
    flags=1,
    uuid=bytes(range(16)),
)


def test_the_superblock_is_the_kernels():
    data = SUPERBLOCK.pack()
    assert struct.unpack_from("<IQ", data, 4) == (1, 0)
    assert data[16:32] == bytes(range(16))
    assert struct.unpack_from("<QIIQQ", data, 32) == (27022010, 2, 9, 10, 11)
    assert struct.unpack_from("<4Q", data, 64) == (1, 2, 3, 4)
    assert struct.unpack_from("<4Q", data, 192) == (5, 6, 7, 8)
    assert struct.unpack_from("<QQIIQIII", data, 320) == (7, 8, 128, 8, 1000, 0, 0, 0)
    assert parse_superblock(data) == SUPERBLOCK


def test_a_metadata_snapshot_says_nothing_of_space():
    held = SUPERBLOCK.held()
    read = parse_superblock(held.pack(20), 20)
    assert (read.mappings, read.details, read.transaction_id) == (7, 8, 10)
    assert (read.held_root, read.data_map, read.metadata_map) == (0, SpaceMapRoot(), SpaceMapRoot())


@pytest.mark.parametrize(
    ("at", "fields", "number", "text", "code"),
    [
        (32, "<Q", 1, "magic 1 is not that of a thin pool's metadata (27022010)", errno.EILSEQ),
        (8, "<Q", 1, "metadata block 0: superblock belongs into block 1", errno.EILSEQ),
        (40, "<I", 3, "version 3 of thin metadata is not known (1 and 2 are)", errno.EINVAL),
        (40, "<I", 0, "version 0 of thin metadata is not known (1 and 2 are)", errno.EINVAL),
        (360, "<I", 2, "thin metadata have features that are not known (0x2)", errno.EINVAL),
        (340, "<I", 16, "metadata blocks of 16 sectors are not of 8", errno.EINVAL),
    ],
)
def test_a_superblock_that_cannot_be_is_refused(at, fields, number, text, code):
    with pytest.raises(StackError) as raised:
        parse_superblock(resealed(SUPERBLOCK.pack(), at, fields, number, salt=160774))
    assert str(raised.value) == text
    assert raised.value.errno == code
