"""Reading a pool's metadata: all blocks that can be reached, and whether they make sense. Pure.

Everything is read level by level, many blocks at a time, and nothing is written. What is checked is
what would do harm: that blocks are what they are taken for, that trees are trees, and that nothing
that is in use counts as free.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator

from fusedm.block import Bio, BlockDevice
from fusedm.block.errors import StackError
from fusedm.dm.target import Many, Remap
from fusedm.dm.thin.blocks import (
    BITMAPS,
    BLOCK_SECTORS,
    BLOCK_SIZE,
    DETAILS,
    DEVICES,
    MAPPINGS,
    PER_BITMAP,
    REF_COUNTS,
    Kind,
    Node,
    damaged,
    parse_bitmap,
    parse_index,
    parse_node,
)
from fusedm.dm.thin.node_store import TIME_BITS, NodeStore
from fusedm.dm.thin.space_map import Chunk, SpaceMap
from fusedm.dm.thin.superblock import SpaceMapRoot, Superblock, parse_superblock
from fusedm.dm.turns import Steps

#: Blocks read at a time: a megabyte.
MAX_READS = 256
#: Levels of a tree; one with all keys there are has 11.
MAX_HEIGHT = 16


def read_block(device: BlockDevice, block: int) -> Steps[bytearray]:
    """One block.

    Raises: BlockIOError; StackError if the device is too small.
    """
    (data,) = yield from _read(device, [block])
    return data


def load(device: BlockDevice, superblock: Superblock) -> Steps[tuple[NodeStore, Superblock | None]]:
    """All that a superblock leads to, and the superblock of the metadata snapshot.

    Raises: BlockIOError; StackError: EILSEQ for metadata that are damaged.
    """
    loader = _Loader(device, superblock.metadata_map.blocks)
    held = None
    if superblock.held_root:
        loader.claim(superblock.held_root, "superblock of a metadata snapshot")
        data = yield from read_block(device, superblock.held_root)
        held = parse_superblock(data, superblock.held_root)
    space = yield from loader.space(superblock.metadata_map, is_of_metadata=True)
    data_space = yield from loader.space(superblock.data_map, is_of_metadata=False)
    for each in filter(None, (superblock, held)):
        yield from loader.tree(DEVICES, each.mappings)
        yield from loader.tree(DETAILS, each.details)
    _check_counts(loader.blocks, space)
    for node in loader.nodes.values():
        if node.is_leaf and node.kind is MAPPINGS:
            _check_data(node, data_space)
    return NodeStore(loader.nodes, space, data_space), held


class _Loader:
    """What has been read so far: nodes, and what each block was read as."""

    def __init__(self, device: BlockDevice, block_count: int) -> None:
        self.device = device
        self.block_count = min(block_count, device.sector_count // BLOCK_SECTORS)
        self.nodes: dict[int, Node] = {}
        self.blocks = {0: "superblock"}
        self.bounds: dict[int, tuple[int, int, int]] = {}

    def claim(self, block: int, what: str) -> None:
        """Take note what a block is.

        Raises: StackError(EILSEQ) if it cannot be that.
        """
        if not block < self.block_count:
            raise damaged(block, f"{what} lies beyond the end ({self.block_count} blocks)")
        known = self.blocks.setdefault(block, what)
        if known != what:
            raise damaged(block, f"used as {known} and as {what}")

    def space(self, root: SpaceMapRoot, is_of_metadata: bool) -> Steps[SpaceMap]:
        """The space map of a root."""
        count = -(-root.blocks // PER_BITMAP)
        if is_of_metadata:
            self.claim(root.bitmaps, "index of bitmaps")
            data = yield from read_block(self.device, root.bitmaps)
            places = parse_index(data, root.bitmaps, count)
        else:
            yield from self.tree(BITMAPS, root.bitmaps)
            entries = list(self.entries(root.bitmaps))
            if len(entries) != count or any(key >= count for key, _ in entries):
                raise damaged(root.bitmaps, f"not all of {count} bitmaps of data are there")
            places = [value[0] for _, value in entries]
        for block in places:
            self.claim(block, f"bitmap of {'metadata' if is_of_metadata else 'data'}")
        if len(set(places)) < count:
            raise damaged(root.bitmaps, "two bitmaps are one block")
        yield from self.tree(REF_COUNTS, root.ref_counts)
        many = {key: value[0] for key, value in self.entries(root.ref_counts)}
        chunks: list[Chunk] = []
        for first in range(0, count, MAX_READS):
            some = places[first : first + MAX_READS]
            datas = yield from _read(self.device, some)
            for block, data in zip(some, datas, strict=True):
                chunks.append(Chunk(block, parse_bitmap(data, block)))
        return _space_map(root, chunks, many)

    def tree(self, kind: Kind, root: int) -> Steps[None]:
        """The nodes of a tree, and of the trees that it leads to."""
        level, roots = [(root, kind)], {(root, kind)}
        while level:
            for block, each in level:
                self.claim(block, f"node of {each.name}")
            new = {block: each for block, each in level if block not in self.nodes}
            level = []
            blocks = list(new)
            for first in range(0, len(blocks), MAX_READS):
                some = blocks[first : first + MAX_READS]
                datas = yield from _read(self.device, some)
                for block, data in zip(some, datas, strict=True):
                    node = self.nodes[block] = parse_node(data, block, new[block])
                    if not node.is_leaf:
                        level += [(child, node.kind) for child in node.values]
                    elif node.kind is DEVICES:
                        level += [(child, MAPPINGS) for child in node.values]
                        roots.update((child, MAPPINGS) for child in node.values)
        for block, _ in roots:
            self.check(block)

    def check(self, block: int, level: int = 0) -> tuple[int, int, int]:
        """Height, first and last key of what is below a node; (0, 0, 0) for an empty leaf.

        Raises: StackError(EILSEQ) if it is no tree, or its keys are not in order.
        """
        if block in self.bounds:
            return self.bounds[block]
        if level > MAX_HEIGHT:
            raise damaged(block, f"below itself, or {level} levels deep")
        node = self.nodes[block]
        if node.is_leaf:
            ends = (node.keys[0], node.keys[-1]) if node.keys else (0, 0)
            self.bounds[block] = (0, *ends)
        else:
            self.bounds[block] = self._check_children(node, level + 1)
        return self.bounds[block]

    def _check_children(self, node: Node, level: int) -> tuple[int, int, int]:
        if not node.keys:
            raise damaged(node.block, "no children")
        heights, last = set(), -1
        for number, (key, child) in enumerate(zip(node.keys, node.values, strict=True)):
            height, first, end = self.check(child, level)
            if not self.nodes[child].keys:
                raise damaged(child, "no entries")
            limit = node.keys[number + 1] if number + 1 < len(node.keys) else 1 << 64
            if not (last < key <= first and end < limit):
                raise damaged(child, f"keys {first}..{end} are not in {key}..{limit - 1}")
            heights.add(height)
            last = end
        if len(heights) > 1:
            raise damaged(node.block, "children of several heights")
        return heights.pop() + 1, node.keys[0], last

    def entries(self, root: int) -> Iterator[tuple[int, "array[int]"]]:
        """The keys and values of a tree."""
        node = self.nodes[root]
        if not node.is_leaf:
            for child in node.values:
                yield from self.entries(child)
            return
        width = node.width
        for number, key in enumerate(node.keys):
            yield key, node.values[number * width : (number + 1) * width]


def _space_map(root: SpaceMapRoot, chunks: list[Chunk], many: dict[int, int]) -> SpaceMap:
    """Raises: StackError(EILSEQ) if bitmaps and what is beside them contradict each other."""
    space = SpaceMap(root.blocks, chunks, many)
    marked = {
        number * PER_BITMAP + at
        for number, chunk in enumerate(chunks)
        if chunk.counts.count(3)
        for at, count in enumerate(chunk.counts)
        if count == 3
    }
    if marked != set(many):
        text = f"{len(many)} blocks with many references, bitmaps say {len(marked)}"
        raise damaged(root.ref_counts, text)
    if chunks and any(chunks[-1].counts[root.blocks - (len(chunks) - 1) * PER_BITMAP :]):
        raise damaged(chunks[-1].block, f"counts blocks beyond the last of {root.blocks}")
    return space


def _check_counts(blocks: Iterable[int], space: SpaceMap) -> None:
    """Raises: StackError(EILSEQ) if a block that is in use may be given out."""
    for block in blocks:
        if not space.count(block):
            raise damaged(block, "in use, and counted as free")


def _check_data(node: Node, space: SpaceMap) -> None:
    count: Callable[[int], int] = space.count
    for key, value in zip(node.keys, node.values, strict=True):
        data = value >> TIME_BITS
        if data >= space.blocks or not count(data):
            what = "is counted as free" if data < space.blocks else f"is beyond {space.blocks}"
            raise damaged(node.block, f"block {key} is mapped to data block {data}, which {what}")


def _read(device: BlockDevice, blocks: list[int]) -> Steps[list[bytearray]]:
    """Some blocks, all at once.

    Raises: BlockIOError; StackError if the device is too small.
    """
    datas = [bytearray(BLOCK_SIZE) for _ in blocks]
    reads = []
    for block, data in zip(blocks, datas, strict=True):
        if (block + 1) * BLOCK_SECTORS > device.sector_count:
            raise StackError(f"{device.name} is too small for metadata (no block {block})")
        reads.append(Remap(device, Bio.read(block * BLOCK_SECTORS, memoryview(data))))
    yield Many(tuple(reads))
    return datas
