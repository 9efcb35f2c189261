"""The blocks of metadata, byte for byte: nodes of trees, bitmaps and the index of bitmaps. Pure.

All numbers are little endian. Each block begins with its checksum, which is salted by its kind, so
that one kind is never taken for another, and holds its own number.
Source: the on-disk format of the kernel's persistent-data: dm-btree-internal.h,
dm-space-map-common.h and the checks around them.
"""

import errno
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from operator import lt

from fusedm.block.errors import StackError
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm.thin.crc32c import crc32c

BLOCK_SIZE = 4096
BLOCK_SECTORS = BLOCK_SIZE // SECTOR_SIZE

SUPERBLOCK_SALT = 160774
NODE_SALT = 121107
BITMAP_SALT = 240779
INDEX_SALT = 160478

#: Checksum, flags, number, entries, most entries, size of a value.
_NODE = struct.Struct("<IIQIII4x")
_INTERNAL, _LEAF = 1, 2
#: Checksum, number; the same of bitmaps and of the index.
_HEADER = struct.Struct("<I4xQ")
_SUM = struct.Struct("<I")

#: Blocks that one bitmap counts, with two bits each.
PER_BITMAP = (BLOCK_SIZE - _HEADER.size) * 4
#: Bitmaps of the metadata's own space map, whose index is one block.
MAX_INDEX = 255
MAX_METADATA_BLOCKS = MAX_INDEX * PER_BITMAP
#: The largest count a bitmap holds stands for this or more.
MANY = 3


@dataclass(frozen=True)
class Kind:
    """What the leaves of a tree hold for each key.

    Shapes: a value is `words` numbers of the type `code` (as in array).
    """

    name: str
    code: str = "Q"
    words: int = 1

    @property
    def value_size(self) -> int:
        """Bytes of a value."""
        return array(self.code).itemsize * self.words

    @property
    def most(self) -> int:
        """Entries that fit into a node: a multiple of three, so that thirds can be moved."""
        return most_entries(self.value_size)


def most_entries(value_size: int) -> int:
    """How many entries a node has room for."""
    return (BLOCK_SIZE - _NODE.size) // (8 + value_size) // 3 * 3


#: Of a thin device: its block -> data block << 24 | time.
MAPPINGS = Kind("mappings")
#: Thin device -> root of its mappings.
DEVICES = Kind("devices")
#: Thin device -> mapped blocks, transaction id, times of creation and of the last snapshot.
DETAILS = Kind("details", words=3)
#: Number of a bitmap -> its block, free blocks and where to look for them.
BITMAPS = Kind("bitmaps", words=2)
#: Block -> reference count, if that is MANY or more.
REF_COUNTS = Kind("reference counts", code="I")
#: The children of a node that is no leaf, in any tree.
_CHILDREN_SIZE = 8
MOST_CHILDREN = most_entries(_CHILDREN_SIZE)


class Node:
    """A node of a tree: sorted keys, and with each a value (of words numbers) or a child."""

    __slots__ = ("block", "is_leaf", "keys", "kind", "values")

    def __init__(
        self, block: int, kind: Kind, is_leaf: bool, keys: "array[int]", values: "array[int]"
    ) -> None:
        self.block = block
        self.kind = kind
        self.is_leaf = is_leaf
        self.keys = keys
        self.values = values

    @classmethod
    def empty(cls, block: int, kind: Kind) -> "Node":
        """A leaf without entries."""
        return cls(block, kind, True, array("Q"), array(kind.code))

    @property
    def width(self) -> int:
        """Numbers with each key."""
        return self.kind.words if self.is_leaf else 1

    @property
    def most(self) -> int:
        """How many entries it has room for."""
        return self.kind.most if self.is_leaf else MOST_CHILDREN

    def pack(self) -> bytearray:
        """The block."""
        size = self.kind.value_size if self.is_leaf else _CHILDREN_SIZE
        data = bytearray(BLOCK_SIZE)
        flags = _LEAF if self.is_leaf else _INTERNAL
        _NODE.pack_into(data, 0, 0, flags, self.block, len(self.keys), self.most, size)
        keys, values = memoryview(self.keys).cast("B"), memoryview(self.values).cast("B")
        at = _NODE.size + self.most * 8
        data[_NODE.size : _NODE.size + len(keys)] = keys
        data[at : at + len(values)] = values
        return seal(data, NODE_SALT)


def parse_node(data: bytes | bytearray, block: int, kind: Kind) -> Node:
    """Read a node of a tree of a kind.

    Raises: StackError(EILSEQ) if it is damaged or none.
    """
    _, flags, place, count, most, size = _NODE.unpack_from(data)
    check_sum(data, NODE_SALT, place, block, f"node of {kind.name}")
    is_leaf = flags == _LEAF
    wanted = kind.value_size if is_leaf else _CHILDREN_SIZE
    if flags not in (_INTERNAL, _LEAF) or size != wanted:
        raise damaged(block, f"no node of {kind.name} (flags {flags}, values of {size} bytes)")
    if not count <= most <= most_entries(size):
        raise damaged(block, f"{count} entries of {most} in a node of {kind.name}")
    keys, values = array("Q"), array(kind.code if is_leaf else "Q")
    at = _NODE.size + most * 8
    keys.frombytes(data[_NODE.size : _NODE.size + count * 8])
    values.frombytes(data[at : at + count * size])
    if not all(map(lt, keys, keys[1:])):
        raise damaged(block, f"keys of a node of {kind.name} are not in order")
    return Node(block, kind, is_leaf, keys, values)


# In a pair of bits the lower one is the higher digit of the count.
_FIELDS = b"\0\2\1\3".ljust(256, b"\0")
_COUNTS = [bytearray(_FIELDS[byte >> 2 * place & 3] for byte in range(256)) for place in range(4)]


def pack_bitmap(block: int, counts: bytearray) -> bytearray:
    """The block of a bitmap; counts are at most MANY."""
    fields = counts.translate(_FIELDS)
    packed = 0
    for place in range(4):
        # Each number has one byte for four blocks: the pairs of bits do not meet.
        packed |= int.from_bytes(fields[place::4], "little") << 2 * place
    data = bytearray(BLOCK_SIZE)
    _HEADER.pack_into(data, 0, 0, block)
    data[_HEADER.size :] = packed.to_bytes(PER_BITMAP // 4, "little")
    return seal(data, BITMAP_SALT)


def parse_bitmap(data: bytes | bytearray, block: int) -> bytearray:
    """The counts of a bitmap.

    Raises: StackError(EILSEQ) if it is damaged or none.
    """
    check_sum(data, BITMAP_SALT, _HEADER.unpack_from(data)[1], block, "bitmap")
    packed = data[_HEADER.size :]
    counts = bytearray(PER_BITMAP)
    for place, table in enumerate(_COUNTS):
        counts[place::4] = packed.translate(table)
    return counts


def pack_index(block: int, entries: Iterable[tuple[int, ...]]) -> bytearray:
    """The block that is the index of the metadata's own bitmaps; two numbers for each."""
    values = array("Q", (number for entry in entries for number in entry))
    data = bytearray(BLOCK_SIZE)
    _HEADER.pack_into(data, 0, 0, block)
    data[_HEADER.size : _HEADER.size + len(values) * 8] = memoryview(values).cast("B")
    return seal(data, INDEX_SALT)


def parse_index(data: bytes | bytearray, block: int, count: int) -> list[int]:
    """The blocks of so many bitmaps.

    Raises: StackError(EILSEQ) if it is damaged or none, or too short.
    """
    check_sum(data, INDEX_SALT, _HEADER.unpack_from(data)[1], block, "index of bitmaps")
    if count > MAX_INDEX:
        raise damaged(block, f"{count} bitmaps are more than {MAX_INDEX}")
    return [blocks for blocks, _ in struct.iter_unpack("<QQ", data[_HEADER.size :])][:count]


def index_entry(block: int, counts: bytearray) -> tuple[int, int]:
    """What an index says of a bitmap: where it is, how many are free, and from where on."""
    free = counts.count(0)
    first = counts.find(0) if free else PER_BITMAP
    return block, free | first << 32


def seal(data: bytearray, salt: int) -> bytearray:
    """A block, with its checksum put in front."""
    _SUM.pack_into(data, 0, _sum(data, salt))
    return data


def check_sum(data: bytes | bytearray, salt: int, place: int, block: int, what: str) -> None:
    """Refuse a block that is damaged, or that belongs elsewhere.

    Raises: StackError(EILSEQ).
    """
    if _SUM.unpack_from(data)[0] != _sum(data, salt):
        raise damaged(block, f"checksum of the {what} is wrong")
    if place != block:
        raise damaged(block, f"{what} belongs into block {place}")


def _sum(data: bytes | bytearray, salt: int) -> int:
    """As the kernel has it, without the last turn of all bits."""
    return ~crc32c(memoryview(data)[_SUM.size :]) & 0xFFFFFFFF ^ salt


def damaged(block: int, text: str) -> StackError:
    """The error of metadata that contradict themselves."""
    return StackError(f"metadata block {block}: {text}", errno.EILSEQ)
