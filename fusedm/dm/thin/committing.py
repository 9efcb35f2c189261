"""Committing a transaction: what is written where, and in which order. Pure.

Bitmaps and what else counts blocks are given their places last. For those of data that is like any
change. Those of metadata count the very blocks that they are given, so bitmaps are moved until none
has changed that has not been moved; each is moved once at most, so that ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fusedm.block import FLUSH, FUA, Bio, BlockDevice
from fusedm.dm.target import Many, Remap
from fusedm.dm.thin.blocks import (
    BITMAPS,
    BLOCK_SECTORS,
    DETAILS,
    DEVICES,
    MANY,
    REF_COUNTS,
    index_entry,
    pack_bitmap,
    pack_index,
)
from fusedm.dm.thin.node_store import NodeStore
from fusedm.dm.thin.space_map import SpaceMap
from fusedm.dm.thin.superblock import SpaceMapRoot, Superblock
from fusedm.dm.thin.tree import Tree
from fusedm.dm.turns import Steps

#: Blocks written by one bio, and bios at a time: four megabytes in all.
MAX_RUN = 64
MAX_WRITES = 16


@dataclass
class Trees:
    """The trees of a pool but those of mappings, and the index of the metadata's own bitmaps."""

    index: int
    devices: Tree
    details: Tree
    bitmaps: Tree
    data_ref_counts: Tree
    ref_counts: Tree

    @classmethod
    def of(cls, store: NodeStore, superblock: Superblock) -> "Trees":
        """Those that a superblock leads to."""
        return cls(
            superblock.metadata_map.bitmaps,
            Tree(store, DEVICES, superblock.mappings),
            Tree(store, DETAILS, superblock.details),
            Tree(store, BITMAPS, superblock.data_map.bitmaps),
            Tree(store, REF_COUNTS, superblock.data_map.ref_counts),
            Tree(store, REF_COUNTS, superblock.metadata_map.ref_counts),
        )

    @classmethod
    def new(cls, store: NodeStore) -> "Trees":
        """Those of a new pool.

        Raises: StackError(ENOSPC).
        """
        kinds = DEVICES, DETAILS, BITMAPS, REF_COUNTS, REF_COUNTS
        return cls(store.allocate(), *(Tree.new(store, kind) for kind in kinds))


def settle(store: NodeStore, trees: Trees) -> None:
    """Give all that has changed its place; nothing may change any more.

    Raises: StackError(ENOSPC).
    """
    data, space = store.data_space, store.space
    for number, chunk in sorted(data.dirty.items()):
        chunk.block = _move(store, chunk.block)
        trees.bitmaps.set(number, index_entry(chunk.block, chunk.counts))
    _settle_counts(data, trees.data_ref_counts)
    _settle_counts(space, trees.ref_counts)
    trees.index = _move(store, trees.index)
    moved: set[int] = set()
    while new := space.dirty.keys() - moved:
        for number in sorted(new):
            space.chunks[number].block = _move(store, space.chunks[number].block)
        moved |= new


def _settle_counts(space: SpaceMap, tree: Tree) -> None:
    for block in sorted(space.changed_many):
        count = space.many.get(block, 0)
        if count < MANY:
            tree.remove(block, block + 1)
        else:
            tree.set(block, (count,))


def _move(store: NodeStore, block: int) -> int:
    """Another place for what lies in a block, or for what has none yet (0)."""
    new = store.allocate()
    if block:
        store.space.drop(block)
    return new


def space_root(space: SpaceMap, bitmaps: int, ref_counts: Tree) -> SpaceMapRoot:
    """What the superblock says of a space map."""
    return SpaceMapRoot(space.blocks, space.allocated, bitmaps, ref_counts.root)


def new_blocks(store: NodeStore, trees: Trees) -> Iterator[tuple[int, bytearray]]:
    """All that is to be written for a transaction that has been settled."""
    for node in store.fresh_nodes():
        yield node.block, node.pack()
    for space in store.data_space, store.space:
        for chunk in space.dirty.values():
            yield chunk.block, pack_bitmap(chunk.block, chunk.counts)
    entries = (index_entry(chunk.block, chunk.counts) for chunk in store.space.chunks)
    yield trees.index, pack_index(trees.index, entries)


def write_blocks(device: BlockDevice, blocks: dict[int, bytearray]) -> Steps[None]:
    """Write blocks and make them durable.

    Raises: BlockIOError.
    """
    writes = [
        Remap(device, Bio.write(first * BLOCK_SECTORS, memoryview(data)))
        for first, data in _runs(blocks)
    ]
    for first in range(0, len(writes), MAX_WRITES):
        yield Many(tuple(writes[first : first + MAX_WRITES]))
    yield Remap(device, FLUSH)


def write_superblock(device: BlockDevice, superblock: Superblock) -> Steps[None]:
    """Write a superblock, durably.

    Raises: BlockIOError; then the old one or this one is there.
    """
    yield Remap(device, Bio.write(0, memoryview(superblock.pack()), flags=FUA))


def _runs(blocks: dict[int, bytearray]) -> Iterator[tuple[int, bytes]]:
    """Blocks that lie together, as one."""
    order = sorted(blocks)
    first = 0
    for at in range(1, len(order) + 1):
        is_end = at == len(order) or order[at] != order[at - 1] + 1 or at - first == MAX_RUN
        if is_end:
            yield order[first], b"".join(blocks[block] for block in order[first:at])
            first = at
