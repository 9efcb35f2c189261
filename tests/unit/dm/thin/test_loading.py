"""Metadata that are damaged are refused, and nothing is written."""

import errno
import struct
from collections.abc import Callable

import pytest

from fusedm.block import Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.dm.thin.blocks import BITMAP_SALT, NODE_SALT, seal
from tests.helpers.thin_metadata import BLOCK, BLOCK_SECTORS, Medium, make_nodes_small, mappings

SUPERBLOCK_SALT = 160774
#: In 13 bitmaps, which are three levels of nodes.
BLOCKS = 200000


@pytest.fixture
def medium(monkeypatch: pytest.MonkeyPatch) -> Medium:
    """A pool with two devices, many levels, shared nodes and a metadata snapshot."""
    make_nodes_small(monkeypatch)
    medium = Medium(300)
    pool = medium.open()
    pool.resize_data(BLOCKS)
    pool.create_thin(1)
    for block in range(60):
        pool.insert(1, block * 2, pool.allocate())
    for snapshot in (2, 3, 4):
        pool.create_snap(snapshot, 1)
    pool.insert(2, 0, pool.allocate())
    medium.run(pool.reserve_metadata_snap())
    medium.run(pool.commit())
    medium.log.clear()
    return medium


def number(medium: Medium, block: int, at: int, fields: str = "<Q") -> int:
    return struct.unpack_from(fields, medium.image, block * BLOCK + at)[0]


def put(medium: Medium, block: int, at: int, what: int, fields="<Q", salt: int = NODE_SALT) -> None:
    """Change a number in a block, and its checksum so that it fits."""
    data = medium.image[block * BLOCK : (block + 1) * BLOCK]
    struct.pack_into(fields, data, at, what)
    medium.image[block * BLOCK : (block + 1) * BLOCK] = seal(data, salt)


#: Where the superblock has roots.
ROOTS = {"mappings": 320, "details": 328, "data": 64 + 16, "data counts": 64 + 24}
ROOTS |= {"index": 192 + 16, "counts": 192 + 24}
VALUES = 32 + 6 * 8


def root(medium: Medium, name: str) -> int:
    return number(medium, 0, ROOTS[name])


def device(medium: Medium) -> int:
    """The root of the mappings of device 1."""
    return number(medium, root(medium, "mappings"), VALUES)


def count(medium: Medium, block: int, what: int) -> None:
    """Have the bitmap count another number (0 to 2) of references to a metadata block."""
    bitmap = number(medium, root(medium, "index"), 16)
    at = 16 + block // 4
    pair = {0: 0, 1: 2, 2: 1}[what] << block % 4 * 2
    old = number(medium, bitmap, at, "<B")
    put(medium, bitmap, at, old & ~(3 << block % 4 * 2) | pair, "<B", BITMAP_SALT)


def reroot(name: str, to: int) -> Callable[[Medium], None]:
    return lambda medium: put(medium, 0, ROOTS[name], to, salt=SUPERBLOCK_SALT)


def leaf(medium: Medium, block: int, at: int = 0) -> int:
    """The first leaf below a node, or the last."""
    while number(medium, block, 4, "<I") == 1:
        last = number(medium, block, 16, "<I") - 1
        block = number(medium, block, VALUES + at * last * 8)
    return block


def bitmaps(medium: Medium) -> list[int]:
    """The first two of data, and the last."""
    first, last = (leaf(medium, root(medium, "data"), at) for at in (0, 1))
    count = number(medium, last, 16, "<I")
    places = ((first, 0), (first, 16), (last, count * 16 - 16))
    return [number(medium, block, VALUES + at) for block, at in places]


def crossed(medium: Medium) -> None:
    """A bitmap of data is the one of metadata."""
    bitmap = number(medium, root(medium, "index"), 16)
    put(medium, leaf(medium, root(medium, "data")), VALUES, bitmap)


def twice(medium: Medium) -> None:
    """Two bitmaps of data are one."""
    put(medium, leaf(medium, root(medium, "data")), VALUES + 16, bitmaps(medium)[0])


def flipped(name: str) -> Callable[[Medium], None]:
    def flip(medium: Medium) -> None:
        medium.image[root(medium, name) * BLOCK + 100] ^= 1

    return flip


def no_children(medium: Medium) -> None:
    put(medium, device(medium), 16, 0, "<I")


def no_entries(medium: Medium) -> None:
    put(medium, leaf(medium, device(medium)), 16, 0, "<I")


def lonely(medium: Medium) -> None:
    """Device 4 has no mappings."""
    put(medium, root(medium, "mappings"), 16, 3, "<I")


DAMAGES: dict[str, tuple[Callable[[Medium], None], str]] = {
    "a mapping node": (flipped("mappings"), "checksum of the node of devices is wrong"),
    "a node of details": (flipped("details"), "checksum of the node of details is wrong"),
    "the tree of bitmaps": (flipped("data"), "checksum of the node of bitmaps is wrong"),
    "the index": (flipped("index"), "checksum of the index of bitmaps is wrong"),
    "counts": (flipped("counts"), "checksum of the node of reference counts is wrong"),
    "no such block": (reroot("mappings", 300), "node of devices lies beyond the end (300 blocks)"),
    "the superblock": (reroot("details", 0), "used as superblock and as node of details"),
    "a bitmap of both": (crossed, "used as bitmap of metadata and as bitmap of data"),
    "a bitmap twice": (twice, "two bitmaps are one block"),
    "bitmaps missing": (
        lambda medium: put(medium, leaf(medium, root(medium, "data"), 1), 16, 2, "<I"),
        "not all of 13 bitmaps of data are there",
    ),
    "more beside the bitmaps": (
        lambda medium: put(medium, root(medium, "counts"), 16, 0, "<I"),
        "0 blocks with many references, bitmaps say",
    ),
    "beyond the last block": (
        lambda medium: put(medium, bitmaps(medium)[-1], 4000, 0xAA, "<B", BITMAP_SALT),
        "counts blocks beyond the last of 200000",
    ),
    "a circle": (
        lambda medium: put(medium, number(medium, device(medium), VALUES), VALUES, device(medium)),
        "below itself, or 17 levels deep",
    ),
    "no children": (no_children, "no children"),
    "no entries": (no_entries, "no entries"),
    "children out of order": (
        lambda medium: put(medium, device(medium), 32, 1),
        "are not in 1..",
    ),
    "several heights": (
        lambda medium: put(medium, device(medium), VALUES, leaf(medium, device(medium))),
        "children of several heights",
    ),
    "in use and free": (
        lambda medium: count(medium, root(medium, "mappings"), 0),
        "in use, and counted as free",
    ),
    "a data block beyond": (
        lambda medium: put(medium, leaf(medium, device(medium)), VALUES, BLOCKS << 24),
        "block 0 is mapped to data block 200000, which is beyond 200000",
    ),
    "a data block that is free": (
        lambda medium: put(medium, leaf(medium, device(medium)), VALUES, BLOCKS - 1 << 24),
        "block 0 is mapped to data block 199999, which is counted as free",
    ),
    "no mappings": (lonely, "thin device 4 has no details, or no mappings"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_metadata_are_refused_and_left_alone(medium: Medium, name: str):
    damage, text = DAMAGES[name]
    damage(medium)
    with pytest.raises(StackError) as raised:
        medium.open()
    assert text in str(raised.value)
    assert str(raised.value).startswith("metadata block ")
    assert raised.value.errno == errno.EILSEQ
    assert not medium.log


def test_undamaged_metadata_are_read(medium: Medium):
    pool = medium.open()
    assert {device: len(of) for device, of in mappings(pool).items()} == {
        1: 60,
        2: 60,
        3: 60,
        4: 60,
    }
    assert pool.held_root
    assert not medium.log


def test_a_tree_whose_root_lies_lower_elsewhere_is_read(medium: Medium):
    pool = medium.open()
    pool.remove(3, 12, 1 << 64)
    medium.run(pool.commit())
    assert mappings(medium.open())[3] == {block * 2: block for block in range(6)}


def test_a_device_that_ends_before_the_metadata_do_is_refused(medium: Medium):
    del medium.image[20 * BLOCK :]
    with pytest.raises(StackError, match=r"lies beyond the end \(20 blocks\)"):
        medium.open()
    with pytest.raises(StackError, match=r"meta is too small for metadata \(no block 0\)"):
        Medium(image=bytes(512)).open()


def test_another_block_size_is_refused(medium: Medium):
    with pytest.raises(StackError, match=f"has blocks of {BLOCK_SECTORS} sectors, not 256"):
        medium.open(256)


def test_features_that_are_not_known_may_be_read_only(medium: Medium):
    put(medium, 0, 356, 4, "<I", SUPERBLOCK_SALT)
    with pytest.raises(StackError, match=r"not known \(0x4\) and cannot be changed"):
        medium.open()
    assert mappings(medium.open(is_read_only=True))


def test_zeros_are_a_new_pool_unless_nothing_may_be_written():
    with pytest.raises(StackError, match="meta has no metadata of a pool") as raised:
        Medium().open(is_read_only=True)
    assert raised.value.errno == errno.EPERM
    assert not Medium().open().devices


def test_a_read_that_fails_fails_the_opening(medium: Medium):
    reads = []
    medium.fails = lambda bio: reads.append(bio) or False
    medium.open()
    assert {bio.op for bio in reads} == {Op.READ}
    for number in range(len(reads)):
        left = iter(range(len(reads)))
        medium.fails = lambda bio, left=left, number=number: next(left) == number
        with pytest.raises(BlockIOError):
            medium.open()
