"""What a pool's metadata say: devices, mappings, and what is free. Pure."""

import errno
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fusedm.block import BlockDevice
from fusedm.block.errors import StackError
from fusedm.dm.thin.committing import Trees
from fusedm.dm.thin.node_store import TIME_BITS, NodeStore
from fusedm.dm.thin.superblock import NEEDS_CHECK, Superblock
from fusedm.dm.thin.tree import Tree

TIME_MASK = (1 << TIME_BITS) - 1
#: Blocks of metadata that are not counted as free, so that what is begun can be committed.
MAX_RESERVE = 4096


@dataclass
class ThinDevice:
    """A thin device: its mappings, and what is told of it.

    root is that of mappings as the tree of devices has it; is_own: the way to it there is this
    transaction's, so mappings may be changed.
    """

    mappings: Tree
    mapped_blocks: int
    transaction_id: int
    creation_time: int
    snapshotted_time: int
    root: int
    is_own: bool = False

    def details(self) -> tuple[int, int, int]:
        """As the tree of details has them."""
        times = self.creation_time | self.snapshotted_time << 32
        return self.mapped_blocks, self.transaction_id, times

    def copy(self) -> "ThinDevice":
        """The same with a tree of its own."""
        tree = self.mappings
        return replace(self, mappings=Tree(tree.store, tree.kind, tree.root))


@dataclass(frozen=True)
class Run:
    """Blocks that are mapped alike: to data blocks that lie together, from data on, or not at all.

    is_shared: some snapshot may have the same data blocks, which must not be overwritten.
    """

    data: int | None
    is_shared: bool
    count: int


class PoolState:
    """A pool as it is now, committed or not.

    Units: blocks and data blocks are of the pool, block_sectors sectors each; metadata blocks of
        BLOCK_SECTORS.
    Raises: asked for a thin device that there is not, StackError(ENODATA).
    """

    def __init__(
        self,
        device: BlockDevice,
        superblock: Superblock,
        store: NodeStore,
        trees: Trees,
        held: Superblock | None,
        is_read_only: bool = False,
    ) -> None:
        self.device = device
        self.is_read_only = is_read_only
        self.devices: dict[int, ThinDevice] = {}
        self._store = store
        self._trees = trees
        self._now = self._committed = superblock
        self._doubtful: Superblock | None = None
        self._held = self._committed_held = held
        self._held_blocks: dict[int, bytearray] = {}
        self._changed: dict[int, ThinDevice | None] = {}

    @property
    def block_sectors(self) -> int:
        """The size of a data block."""
        return self._now.block_sectors

    @property
    def transaction_id(self) -> int:
        """The number that whoever uses the pool gives its states."""
        return self._now.transaction_id

    @property
    def held_root(self) -> int:
        """The block of the metadata snapshot; 0 if there is none."""
        return self._now.held_root

    @property
    def needs_check(self) -> bool:
        """Whether thin_check is to be run before anything is changed."""
        return bool(self._now.flags & NEEDS_CHECK)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to commit."""
        store = self._store
        return bool(
            self._changed
            or store.fresh
            or store.space.has_changes
            or store.data_space.has_changes
            or self._now != self._committed
        )

    @property
    def data_blocks(self) -> int:
        """The blocks that the data device is used for."""
        return self._store.data_space.blocks

    @property
    def free_data_blocks(self) -> int:
        """Data blocks that nothing is mapped to, also those that may not be given out yet."""
        return self._store.data_space.free

    @property
    def metadata_blocks(self) -> int:
        """The blocks that the metadata device is used for."""
        return self._store.space.blocks

    @property
    def free_metadata_blocks(self) -> int:
        """Free blocks but those that are kept for commits."""
        reserve = min(MAX_RESERVE, self.metadata_blocks // 10)
        return max(self._store.space.free - reserve, 0)

    @property
    def can_allocate(self) -> bool:
        """Whether a data block may be had in this transaction."""
        return self._store.data_space.find() is not None

    def is_data_shared(self, data: int) -> bool:
        """Whether several mappings lead to a data block."""
        return self._store.data_space.count(data) > 1

    def has_device(self, device: int) -> bool:
        """Whether there is a thin device of that number."""
        return device in self.devices

    def mapped_blocks(self, device: int) -> int:
        """How many blocks are mapped."""
        return self._device(device).mapped_blocks

    def highest_mapped(self, device: int) -> int | None:
        """The last block that is mapped."""
        return self._device(device).mappings.last_key()

    def lookup(self, device: int, block: int) -> tuple[int, bool] | None:
        """The data block of a block, and whether a snapshot may have it too."""
        thin = self.devices.get(device) or self._device(device)
        nodes = self._store.nodes
        node = nodes[thin.mappings.root]
        at = bisect_right(node.keys, block) - 1
        while not node.is_leaf and at >= 0:
            node = nodes[node.values[at]]
            at = bisect_right(node.keys, block) - 1
        if at < 0 or node.keys[at] != block:
            return None
        value = node.values[at]
        return value >> TIME_BITS, value & TIME_MASK < thin.snapshotted_time

    def run(self, device: int, block: int, limit: int) -> Run:
        """How the blocks from one on are mapped, at most limit of them."""
        thin = self._device(device)
        snapshotted, start, count = thin.snapshotted_time, 0, 0
        for leaf, begin, end in thin.mappings.leaves(block, block + limit):
            keys, values = leaf.keys[begin:end], leaf.values[begin:end]
            if not count:
                if keys[0] > block:
                    return Run(None, False, keys[0] - block)
                start = values[0]
            is_whole = keys[0] == block + count and keys[-1] - keys[0] == len(keys) - 1
            here = start + (count << TIME_BITS)
            # Compared at once, which is ten times as fast as one by one.
            if is_whole and list(values) == list(
                range(here, here + (len(keys) << TIME_BITS), 1 << TIME_BITS)
            ):
                count += len(keys)
                continue
            first = start >> TIME_BITS, start & TIME_MASK < snapshotted
            for key, value in zip(keys, values, strict=True):
                place = (value >> TIME_BITS) - count, value & TIME_MASK < snapshotted
                if key > block + count or place != first:
                    return Run(*first, count)
                count += 1
        if not count:
            return Run(None, False, limit)
        return Run(start >> TIME_BITS, start & TIME_MASK < snapshotted, count)

    def mapped(self, device: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Blocks from begin to end that are mapped, and their data blocks."""
        for key, value in self._values(device, begin, end):
            yield key, value >> TIME_BITS

    def _values(self, device: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
        for leaf, first, last in self._device(device).mappings.leaves(begin, end):
            yield from zip(leaf.keys[first:last], leaf.values[first:last], strict=True)

    def _device(self, device: int) -> ThinDevice:
        thin = self.devices.get(device)
        if thin is None:
            raise StackError(f"there is no thin device {device}", errno.ENODATA)
        return thin
