"""The metadata of a thin pool: thin devices, their mappings, and what is free. Pure.

Everything is in memory; only opening, committing and what is named Steps does I/O. A transaction
is all that has changed since the last commit. What the last one refers to is never overwritten, so
until the superblock of the next has been written, whole and after everything else, the device says
what it said before. Only one party may change or commit at a time; looking up may be done always.

Source: dm-thin-metadata.c, whose rules are followed: what is shared, when time goes on, what is
held for a metadata snapshot.
"""

import errno
from collections.abc import Sequence
from dataclasses import replace

from fusedm.block import BlockDevice
from fusedm.block.errors import StackError
from fusedm.dm.thin.blocks import (
    BLOCK_SECTORS,
    MAPPINGS,
    MAX_METADATA_BLOCKS,
    damaged,
)
from fusedm.dm.thin.committing import (
    Trees,
    new_blocks,
    settle,
    space_root,
    write_blocks,
    write_superblock,
)
from fusedm.dm.thin.loading import load, read_block
from fusedm.dm.thin.node_store import TIME_BITS, NodeStore
from fusedm.dm.thin.pool_state import TIME_MASK, PoolState, ThinDevice
from fusedm.dm.thin.space_map import SpaceMap
from fusedm.dm.thin.superblock import NEEDS_CHECK, Superblock, parse_superblock
from fusedm.dm.thin.tree import Tree
from fusedm.dm.turns import Steps


class PoolMetadata(PoolState):
    """What a pool's metadata say, and how that is changed.

    Raises: what changes it raises StackError(ENOSPC) if there is no room for metadata; then abort()
        is the only way on. Unknown thin devices are StackError(ENODATA).
    """

    @classmethod
    def open(
        cls, device: BlockDevice, block_sectors: int, is_read_only: bool = False
    ) -> Steps["PoolMetadata"]:
        """Read a pool's metadata, or begin those of a new pool where a device begins with zeros.

        Raises: BlockIOError; StackError: EILSEQ for what is damaged or none, EPERM for a new pool
            that may not be written, ENOSPC for too small a device, EINVAL for what does not fit.
        """
        data = yield from read_block(device, 0)
        if not any(data):
            if is_read_only:
                raise StackError(f"{device.name} has no metadata of a pool", errno.EPERM)
            pool = cls._new(device, block_sectors)
            yield from pool.commit()
            return pool
        superblock = parse_superblock(data)
        if superblock.block_sectors != block_sectors:
            text = f"the pool has blocks of {superblock.block_sectors} sectors, not {block_sectors}"
            raise StackError(text)
        if superblock.features[1] and not is_read_only:
            text = f"thin metadata have features that are not known ({superblock.features[1]:#x})"
            raise StackError(f"{text} and cannot be changed")
        store, held = yield from load(device, superblock)
        pool = cls(device, superblock, store, Trees.of(store, superblock), held, is_read_only)
        pool._find_devices()
        return pool

    @classmethod
    def _new(cls, device: BlockDevice, block_sectors: int) -> "PoolMetadata":
        blocks = min(device.sector_count // BLOCK_SECTORS, MAX_METADATA_BLOCKS)
        space = SpaceMap(0, [], {})
        space.resize(blocks)
        space.add(0)
        store = NodeStore({}, space, SpaceMap(0, [], {}))
        return cls(device, Superblock(block_sectors, blocks), store, Trees.new(store), None)

    def _find_devices(self) -> None:
        roots, details = (
            {
                key: leaf.values[at * leaf.width : (at + 1) * leaf.width]
                for leaf, first, last in tree.leaves(0, 1 << 64)
                for at, key in enumerate(leaf.keys[first:last])
            }
            for tree in (self._trees.devices, self._trees.details)
        )
        if roots.keys() != details.keys():
            some = min(roots.keys() ^ details.keys())
            text = f"thin device {some} has no details, or no mappings"
            raise damaged(self._trees.details.root, text)
        for key, (root,) in roots.items():
            mapped, transaction, times = details[key]
            tree = Tree(self._store, MAPPINGS, root)
            creation, snapshotted = times & 0xFFFFFFFF, times >> 32
            self.devices[key] = ThinDevice(tree, mapped, transaction, creation, snapshotted, root)

    # What changes it.

    def create_thin(self, device: int) -> None:
        """Make a thin device without mappings.

        Raises: StackError: EEXIST.
        """
        self._refuse_known(device)
        tree = Tree.new(self._store, MAPPINGS)
        self._add(device, tree, 0)

    def create_snap(self, device: int, origin: int) -> None:
        """Make a thin device with the mappings of another one.

        Raises: StackError: EEXIST.
        """
        self._refuse_known(device)
        old = self._own(origin)
        root = old.mappings.root
        self._store.space.add(root)
        self._now = replace(self._now, time=self._now.time + 1)
        old.snapshotted_time = self._now.time
        self._add(device, Tree(self._store, MAPPINGS, root), old.mapped_blocks)

    def delete(self, device: int) -> None:
        """Give up a thin device and what only it is mapped to."""
        self._own(device)
        del self.devices[device]
        self._trees.details.remove(device, device + 1)
        self._trees.devices.remove(device, device + 1)

    def insert(self, device: int, block: int, data: int) -> None:
        """Map a block to a data block from allocate; the one it was mapped to loses a reference."""
        thin = self._own(device)
        value = data << TIME_BITS | self._now.time & TIME_MASK
        old = thin.mappings.set(block, (value,))
        if old is None:
            thin.mapped_blocks += 1
        else:
            self._store.data_space.drop(old >> TIME_BITS)
        self._keep_root(device, thin)

    def remove(self, device: int, begin: int, end: int) -> int:
        """Unmap blocks from begin to end, whose data blocks lose a reference; returns how many."""
        first = self._device(device).mappings.first_key(begin)
        if first is None or first >= end:
            return 0
        thin = self._own(device)
        count = thin.mappings.remove(begin, end)
        thin.mapped_blocks -= count
        self._keep_root(device, thin)
        return count

    def set_transaction_id(self, old: int, new: int) -> None:
        """Give the state another number.

        Raises: StackError(EINVAL) if the number is not the old one.
        """
        if self.transaction_id != old:
            raise StackError(f"transaction id is {self.transaction_id}, not {old}")
        self._now = replace(self._now, transaction_id=new)

    def allocate(self) -> int:
        """A data block, for insert.

        Raises: StackError(ENOSPC) if none may be had.
        """
        return self._store.data_space.allocate("data")

    def hold(self, begin: int, end: int) -> None:
        """Refer to data blocks once more."""
        for data in range(begin, end):
            self._store.data_space.add(data)

    def release(self, begin: int, end: int) -> None:
        """Take back what hold or allocate did."""
        for data in range(begin, end):
            self._store.data_space.drop(data)

    def take_freed(self) -> Sequence[int]:
        """Data blocks that commits have made free since this was called last.

        They are given out again only after recycle, when nobody writes to them any more.
        """
        return self._store.data_space.take_freed()

    def recycle(self, freed: Sequence[int]) -> None:
        """Let data blocks that were freed be given out."""
        self._store.data_space.recycle(freed)

    def resize_data(self, blocks: int) -> None:
        """Use more of the data device.

        Raises: StackError(EINVAL) for less.
        """
        self._store.data_space.resize(blocks)

    def resize_metadata(self, blocks: int) -> None:
        """Use more of the metadata device.

        Raises: StackError(EINVAL) for less.
        """
        self._store.space.resize(min(blocks, MAX_METADATA_BLOCKS))

    def reserve_metadata_snap(self) -> Steps[None]:
        """Commit, and hold what has been committed for readers outside.

        Raises: StackError(EBUSY) if something is held; BlockIOError.
        """
        if self.held_root:
            raise StackError("there is a metadata snapshot already", errno.EBUSY)
        yield from self.commit()
        block = self._store.allocate()
        self._held = held = self._committed.held()
        self._held_blocks[block] = held.pack(block)
        self._store.space.add(held.mappings)
        self._store.space.add(held.details)
        self._now = replace(self._now, held_root=block)

    def release_metadata_snap(self) -> None:
        """Give up what is held.

        Raises: StackError(EINVAL) if nothing is.
        """
        if self._held is None:
            raise StackError("there is no metadata snapshot")
        self._store.drop(self._held.mappings)
        self._store.drop(self._held.details)
        self._store.space.drop(self.held_root)
        self._held_blocks.clear()
        self._held = None
        self._now = replace(self._now, held_root=0)

    def _refuse_known(self, device: int) -> None:
        if device in self.devices:
            raise StackError(f"there is a thin device {device} already", errno.EEXIST)

    def _add(self, device: int, mappings: Tree, mapped_blocks: int) -> None:
        time, root = self._now.time, mappings.root
        self._changed.setdefault(device, None)
        self._trees.devices.set(device, (root,))
        self.devices[device] = ThinDevice(
            mappings, mapped_blocks, self.transaction_id, time, time, root, is_own=True
        )

    def _own(self, device: int) -> ThinDevice:
        """A device that is to be changed.

        A metadata snapshot may share the nodes that lead to its root: they are copied first, so
        that the root counts for both.
        """
        thin = self._device(device)
        if not thin.is_own:
            self._changed.setdefault(device, thin.copy())
            self._trees.devices.set(device, (thin.root,))
            thin.is_own = True
        return thin

    def _keep_root(self, device: int, thin: ThinDevice) -> None:
        """Have the tree of devices lead to the mappings, wherever they are now."""
        if thin.root != thin.mappings.root:
            thin.root = thin.mappings.root
            self._trees.devices.set(device, (thin.root,))

    # The end of a transaction.

    def commit(self) -> Steps[None]:
        """Make what has changed durable; data that it leads to must be so already.

        Raises: BlockIOError, StackError(ENOSPC): then abort() is the only way on.
        """
        if not self.has_changes:
            return
        assert self._doubtful is None, "a commit that failed is to be aborted"
        store, trees = self._store, self._trees
        for device in sorted(self._changed.keys() & self.devices.keys()):
            trees.details.set(device, self.devices[device].details())
        settle(store, trees)
        superblock = replace(
            self._now,
            mappings=trees.devices.root,
            details=trees.details.root,
            data_map=space_root(store.data_space, trees.bitmaps.root, trees.data_ref_counts),
            metadata_map=space_root(store.space, trees.index, trees.ref_counts),
        )
        blocks = dict(new_blocks(store, trees)) | self._held_blocks
        yield from write_blocks(self.device, blocks)
        self._doubtful = superblock
        yield from write_superblock(self.device, superblock)
        self._has_committed(superblock)

    def _has_committed(self, superblock: Superblock) -> None:
        self._doubtful = None
        self._now = self._committed = superblock
        self._committed_held = self._held
        self._held_blocks.clear()
        for device in self._changed.keys() & self.devices.keys():
            self.devices[device].is_own = False
        self._changed.clear()
        self._store.commit()

    def abort(self) -> Steps[None]:
        """Go back to the last commit.

        Where writing a superblock has failed, that is what the device says.
        Raises: BlockIOError, StackError: then nothing is known of what is committed.
        """
        if self._doubtful is not None:
            found = parse_superblock((yield from read_block(self.device, 0)))
            if found == self._doubtful:
                self._has_committed(found)
                return
            if found != self._committed:
                raise damaged(0, "the superblock is neither the old one nor the new one")
        self._doubtful = None
        self._now, self._held = self._committed, self._committed_held
        self._held_blocks.clear()
        for device, old in self._changed.items():
            self.devices.pop(device, None)
            if old is not None:
                self.devices[device] = old
        self._changed.clear()
        self._store.abort()
        self._trees = Trees.of(self._store, self._committed)

    def set_needs_check(self) -> Steps[None]:
        """Ask for thin_check, in the superblock of the last commit.

        Raises: BlockIOError.
        """
        self._now = replace(self._now, flags=self._now.flags | NEEDS_CHECK)
        superblock = replace(self._committed, flags=self._committed.flags | NEEDS_CHECK)
        yield from write_superblock(self.device, superblock)
        self._committed = superblock
