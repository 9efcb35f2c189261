"""Trees of metadata: sorted keys with values, changed by copying what others refer to. Pure.

A node that the last commit knows, or that several parents share, is never changed: its parent gets
a copy (`NodeStore.own`). Nodes that are full are split on the way down, so there is always room for
one more child above; what has become too small is joined with a sibling on the way down too. So all
but the root keep a third of their entries at least, which thin_check insists on.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from fusedm.dm.thin.blocks import Kind, Node
from fusedm.dm.thin.node_store import NodeStore

#: A sibling with so many free places takes entries of a full node; else a new node is made.
ROOM_WORTH_USING = 8


class Tree:
    """One tree of a kind.

    Raises: all that changes it raises StackError(ENOSPC) if there is no block for a copy. Then
        only the whole transaction can be given up.
    """

    __slots__ = ("kind", "root", "store")

    def __init__(self, store: NodeStore, kind: Kind, root: int) -> None:
        self.store = store
        self.kind = kind
        self.root = root

    @classmethod
    def new(cls, store: NodeStore, kind: Kind) -> "Tree":
        """A tree without entries."""
        return cls(store, kind, store.new(kind).block)

    def get(self, key: int) -> "array[int] | None":
        """The value of a key."""
        for leaf, begin, end in self.leaves(key, key + 1):
            width = self.kind.words
            return leaf.values[begin * width : end * width]
        return None

    def leaves(self, begin: int, end: int, block: int = 0) -> Iterator[tuple[Node, int, int]]:
        """The leaves with keys from begin to end, and which of their entries these are."""
        node = self.store.nodes[block or self.root]
        if node.is_leaf:
            first, last = bisect_left(node.keys, begin), bisect_left(node.keys, end)
            if first < last:
                yield node, first, last
            return
        for at in range(_child(node, begin), bisect_left(node.keys, end)):
            yield from self.leaves(begin, end, node.values[at])

    def first_key(self, begin: int) -> int | None:
        """The first key that is not less."""
        for leaf, first, _ in self.leaves(begin, 1 << 64):
            return leaf.keys[first]
        return None

    def last_key(self) -> int | None:
        """The last key."""
        node = self.store.nodes[self.root]
        while not node.is_leaf:
            node = self.store.nodes[node.values[-1]]
        return node.keys[-1] if node.keys else None

    def set(self, key: int, value: Sequence[int]) -> int | None:
        """Give a key a value; returns the first number of the one it had.

        References that the values are stay as they are: they are the caller's.
        """
        node, parent = self._own_root(), None
        while True:
            at = bisect_right(node.keys, key) - 1
            if node.is_leaf and at >= 0 and node.keys[at] == key:
                return _replace(node, at, value)
            if len(node.keys) >= node.most:
                if parent is None:
                    self._split_root(node)
                else:
                    self._make_room(parent, _child(parent, key))
                    node = self._own_child(parent, _child(parent, key))
            elif node.is_leaf:
                node.keys.insert(at + 1, key)
                place = (at + 1) * node.width
                node.values[place:place] = array(node.kind.code, value)
                return None
            else:
                if at < 0:
                    node.keys[0], at = key, 0
                parent, node = node, self._own_child(node, at)

    def remove(self, begin: int, end: int) -> int:
        """Take out all keys from begin to end, and give up what they refer to; returns how many."""
        if not self._has(self.root, begin, end):
            return 0
        count = self._cut(self._own_root(), begin, end)
        for key in sorted({begin, end - 1}):
            while self._mend(key):
                pass
        return count

    def _own_root(self) -> Node:
        root = self.store.own(self.root)
        self.root = root.block
        return root

    def _own_child(self, parent: Node, at: int) -> Node:
        child = self.store.own(parent.values[at])
        parent.values[at] = child.block
        return child

    def _split_root(self, root: Node) -> None:
        """The root becomes the parent of two nodes that share its entries."""
        left, right = self.store.new(self.kind), self.store.new(self.kind)
        left.is_leaf = right.is_leaf = root.is_leaf
        left.keys, left.values, right.values = root.keys, root.values, root.values[:0]
        root.keys, root.is_leaf = array("Q", (left.keys[0], 0)), False
        root.values = array("Q", (left.block, right.block))
        _spread(root, 0, left, right)

    def _make_room(self, parent: Node, at: int) -> None:
        """Have a full child share its entries: with a sibling, or with a new one."""
        for first in (at - 1, at):
            if 0 <= first < len(parent.keys) - 1:
                other = self.store.nodes[parent.values[first + (first == at)]]
                if len(other.keys) <= other.most - ROOM_WORTH_USING:
                    self._share(parent, first)
                    return
        child = self._own_child(parent, at)
        new = self.store.new(self.kind)
        new.is_leaf, new.values = child.is_leaf, child.values[:0]
        # At an end keys are likely to come in order. In between, siblings are full as well, and
        # three nodes are made of two.
        is_last = at == len(parent.keys) - 1
        parent.keys.insert(at + 1, 0)
        parent.values.insert(at + 1, new.block)
        if at == 0 or is_last:
            _spread(parent, at, child, new)
        else:
            _spread(parent, at - 1, self._own_child(parent, at - 1), child, new)

    def _share(self, parent: Node, first: int) -> None:
        """Have two children share their entries."""
        children = self._own_child(parent, first), self._own_child(parent, first + 1)
        _spread(parent, first, *children)

    def _has(self, block: int, begin: int, end: int) -> bool:
        return any(True for _ in self.leaves(begin, end, block))

    def _cut(self, node: Node, begin: int, end: int) -> int:
        """Take keys out below a node that is this transaction's."""
        if node.is_leaf:
            first, last = bisect_left(node.keys, begin), bisect_left(node.keys, end)
            values = slice(first * node.width, last * node.width)
            self.store.release(node.kind, node.values[values])
            del node.keys[first:last], node.values[values]
            return last - first
        count = 0
        for at in reversed(range(_child(node, begin), bisect_left(node.keys, end))):
            block, is_last = node.values[at], at == len(node.keys) - 1
            if begin <= node.keys[at] and not is_last and node.keys[at + 1] <= end:
                count += sum(last - first for _, first, last in self.leaves(begin, end, block))
                self.store.drop(block)
                del node.keys[at], node.values[at]
            elif self._has(block, begin, end):
                child = self._own_child(node, at)
                count += self._cut(child, begin, end)
                if not child.keys:
                    self.store.give_back(child)
                    del node.keys[at], node.values[at]
        return count

    def _mend(self, key: int) -> bool:
        """Join what has become too small on the way to a key; whether anything was."""
        node, has_joined = self._own_root(), False
        while not node.is_leaf:
            if len(node.keys) <= 1 and node.block == self.root:
                node = self._lower(node)
                continue
            at = _child(node, key)
            child = self.store.nodes[node.values[at]]
            if len(child.keys) < child.most // 3 and len(node.keys) > 1:
                self._join(node, max(at - 1, 0))
                # The node above has lost one by that, and what was joined may still be small.
                has_joined = True
            else:
                node = self._own_child(node, at)
        return has_joined

    def _lower(self, root: Node) -> Node:
        """A root with one child makes way for it; one with none is an empty leaf."""
        if root.keys:
            child = self._own_child(root, 0)
            self.store.give_back(root)
            self.root = child.block
            return child
        root.is_leaf, root.values = True, array(self.kind.code)
        return root

    def _join(self, parent: Node, first: int) -> None:
        """Make one of two children, or have them share if that would be too large soon."""
        left, right = self._own_child(parent, first), self._own_child(parent, first + 1)
        if len(left.keys) + len(right.keys) > left.most // 3 * 2:
            _spread(parent, first, left, right)
            return
        left.keys.extend(right.keys)
        left.values.extend(right.values)
        self.store.give_back(right)
        del parent.keys[first + 1], parent.values[first + 1]


def _child(node: Node, key: int) -> int:
    """Below which child a key is, or would be."""
    return max(bisect_right(node.keys, key) - 1, 0)


def _replace(node: Node, at: int, value: Sequence[int]) -> int:
    width = node.width
    old = node.values[at * width]
    node.values[at * width : (at + 1) * width] = array(node.kind.code, value)
    return old


def _spread(parent: Node, first: int, *nodes: Node) -> None:
    """Spread the entries of children that lie side by side evenly over them."""
    keys, values = nodes[0].keys[:0], nodes[0].values[:0]
    for node in nodes:
        keys.extend(node.keys)
        values.extend(node.values)
    begin, width = 0, nodes[0].width
    for number, node in enumerate(nodes):
        end = len(keys) * (number + 1) // len(nodes)
        node.keys, node.values = keys[begin:end], values[begin * width : end * width]
        if number:
            parent.keys[first + number] = keys[begin]
        begin = end
