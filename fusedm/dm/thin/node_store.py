"""The nodes of all trees, and which of their blocks are this transaction's. Pure."""

from array import array
from collections.abc import Callable, Iterable

from fusedm.dm.thin.blocks import DEVICES, MAPPINGS, Kind, Node
from fusedm.dm.thin.space_map import SpaceMap

#: The bits of a mapping that are its time; what is above them is the data block.
TIME_BITS = 24


class NodeStore:
    """Nodes by their blocks; those of the last commit stay as they are until the next.

    fresh are blocks given out in this transaction, which may be changed while they have one parent.
    space counts metadata blocks, data_space those that mappings refer to.
    """

    def __init__(self, nodes: dict[int, Node], space: SpaceMap, data_space: SpaceMap) -> None:
        self.nodes = nodes
        self.space = space
        self.data_space = data_space
        self.fresh: set[int] = set()
        self._dropped: list[int] = []

    def allocate(self) -> int:
        """A block for something new.

        Raises: StackError(ENOSPC).
        """
        block = self.space.allocate("metadata")
        self.fresh.add(block)
        return block

    def new(self, kind: Kind) -> Node:
        """An empty leaf.

        Raises: StackError(ENOSPC).
        """
        node = Node.empty(self.allocate(), kind)
        self.nodes[node.block] = node
        return node

    def own(self, block: int) -> Node:
        """A node that may be changed: that of a block if only this transaction has it, else a copy.

        Whoever referred to the block is to refer to the copy.
        Raises: StackError(ENOSPC).
        """
        node = self.nodes[block]
        if block in self.fresh and self.space.count(block) == 1:
            return node
        copy = Node(self.allocate(), node.kind, node.is_leaf, node.keys[:], node.values[:])
        self.nodes[copy.block] = copy
        if self._let_go(block):
            self._retain(node)
        return copy

    def drop(self, block: int) -> None:
        """Give up a reference to a node, and with the last one all that it refers to."""
        if self._let_go(block):
            return
        node = self.nodes[block]
        if node.is_leaf:
            self.release(node.kind, node.values)
        else:
            for child in node.values:
                self.drop(child)

    def give_back(self, node: Node) -> None:
        """Give up a node of this transaction whose entries have gone elsewhere."""
        self._let_go(node.block)

    def release(self, kind: Kind, values: "array[int]") -> None:
        """Give up what the values of a leaf refer to."""
        if kind is MAPPINGS:
            drop_data = self.data_space.drop
            for value in values:
                drop_data(value >> TIME_BITS)
        elif kind is DEVICES:
            for root in values:
                self.drop(root)

    def fresh_nodes(self) -> list[Node]:
        """The nodes that are to be written."""
        blocks = sorted(block for block in self.fresh if self.space.count(block))
        return [self.nodes[block] for block in blocks if block in self.nodes]

    def commit(self) -> None:
        """What is there now has been committed, in both spaces."""
        self._end(self._dropped)
        self.space.commit()
        self.space.recycle(self.space.take_freed())
        self.space.rewind()
        self.data_space.commit()

    def abort(self) -> None:
        """Go back to the last commit."""
        self.space.abort()
        self.data_space.abort()
        self._end(self.fresh)

    def _let_go(self, block: int) -> int:
        left = self.space.drop(block)
        if not left:
            self._dropped.append(block)
        return left

    def _retain(self, node: Node) -> None:
        """What a node refers to is referred to once more."""
        if not node.is_leaf or node.kind is DEVICES:
            add: Callable[[int], None] = self.space.add
            for block in node.values:
                add(block)
        elif node.kind is MAPPINGS:
            add = self.data_space.add
            for value in node.values:
                add(value >> TIME_BITS)

    def _end(self, gone: Iterable[int]) -> None:
        for block in gone:
            self.nodes.pop(block, None)
        self.fresh.clear()
        self._dropped.clear()
