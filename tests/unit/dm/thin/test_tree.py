"""Trees: entries against a dictionary, with nodes so small that there are many levels."""

import random
from bisect import bisect_left

import pytest

from fusedm.block.errors import StackError
from fusedm.dm.thin.blocks import DETAILS, MAPPINGS, REF_COUNTS, Node
from fusedm.dm.thin.node_store import NodeStore
from fusedm.dm.thin.space_map import SpaceMap
from fusedm.dm.thin.tree import Tree
from tests.helpers.thin_metadata import make_nodes_small

MOST = 6
KEYS = 400


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_nodes_small(monkeypatch, MOST)


def make(kind=REF_COUNTS, blocks: int = 4000) -> Tree:
    space, data = SpaceMap(0, [], {}), SpaceMap(0, [], {})
    space.resize(blocks)
    data.resize(blocks)
    space.add(0)
    return Tree.new(NodeStore({}, space, data), kind)


def entries(tree: Tree) -> dict[int, int]:
    return {
        key: leaf.values[at * leaf.width]
        for leaf, first, last in tree.leaves(0, 1 << 64)
        for at, key in enumerate(leaf.keys[first:last], first)
    }


def nodes(tree: Tree, block: int = 0) -> list[Node]:
    node = tree.store.nodes[block or tree.root]
    below = [] if node.is_leaf else [each for child in node.values for each in nodes(tree, child)]
    return [node, *below]


def check(tree: Tree, wanted: dict[int, int]) -> None:
    assert entries(tree) == wanted
    assert list(entries(tree)) == sorted(wanted)
    root, *others = nodes(tree)
    assert all(MOST // 3 <= len(node.keys) <= MOST for node in others)
    assert root.is_leaf or len(root.keys) > 1
    assert tree.last_key() == max(wanted, default=None)
    # Each block is referred to as often as there are parents, and nothing else is allocated.
    assert tree.store.space.allocated == 1 + len(nodes(tree))


@pytest.mark.parametrize("order", ["up", "down", "random"])
@pytest.mark.parametrize("kind", [REF_COUNTS, MAPPINGS, DETAILS])
def test_keys_come_in_any_order_and_go_in_any_order(order: str, kind):
    tree, wanted = make(kind), {}
    keys = list(range(0, KEYS * 2, 2))
    if order == "down":
        keys.reverse()
    elif order == "random":
        random.Random(1).shuffle(keys)
    for key in keys:
        wanted[key] = key + 1 << (24 if kind is MAPPINGS else 0)
        assert tree.set(key, (wanted[key], 5, 6)[: kind.words]) is None
        tree.store.data_space.add(key + 1)
    check(tree, wanted)
    # In order of keys, nodes are nearly full.
    assert order == "random" or len(nodes(tree)) < KEYS / MOST * 2
    for key in keys:
        assert tree.get(key)[0] == wanted[key]
        assert tree.get(key + 1) is None
        assert tree.remove(key + 1, key + 2) == 0
        assert tree.remove(key, key + 1) == 1
        del wanted[key]
        if key % 7 == 0:
            check(tree, wanted)
    check(tree, {})


def test_another_value_takes_the_place_of_the_old_one():
    tree = make()
    for key in range(MOST):
        tree.set(key, (key,))
    before = tree.store.space.allocated
    assert tree.set(3, (30,)) == 3
    assert tree.get(3)[0] == 30
    assert tree.store.space.allocated == before, "a full leaf is not split for that"


@pytest.mark.parametrize("seed", range(40))
def test_ranges_are_taken_out_whole(seed: int):
    some = random.Random(seed)
    tree = make()
    wanted = {key: key for key in some.sample(range(KEYS), some.randrange(KEYS))}
    for key in wanted:
        tree.set(key, (key,))
    while wanted:
        begin = some.randrange(KEYS)
        end = some.choice((begin + 1, begin + 20, begin + KEYS // 2, 1 << 64))
        gone = [key for key in wanted if begin <= key < end]
        keys = sorted(wanted)
        at = bisect_left(keys, begin)
        assert tree.first_key(begin) == (keys[at] if at < len(keys) else None)
        assert tree.remove(begin, end) == len(gone)
        for key in gone:
            del wanted[key]
        check(tree, wanted)
        if some.random() < 0.2:
            tree.remove(0, 1 << 64)
            wanted.clear()
            check(tree, wanted)


def test_what_was_committed_or_is_shared_is_never_changed():
    tree = make(MAPPINGS)
    space, data = tree.store.space, tree.store.data_space
    for key in range(100):
        tree.set(key, (data.allocate("data") << 24,))
    tree.store.commit()
    before = {node.block: node.pack() for node in nodes(tree)}
    space.add(tree.root)
    other = Tree(tree.store, MAPPINGS, tree.root)
    for key in range(0, 100, 3):
        other.set(key, (data.allocate("data") << 24,))
    assert other.remove(40, 70) == 30
    assert {node.block: node.pack() for node in nodes(tree)} == before
    # Leaves that were copied refer to their data blocks too.
    users = [value >> 24 for each in (tree, other) for value in entries(each).values()]
    leaves = {node.block: node for each in (tree, other) for node in nodes(each) if node.is_leaf}
    counted = [value >> 24 for node in leaves.values() for value in node.values]
    assert all(data.count(block) >= counted.count(block) for block in set(users))
    tree.store.drop(other.root)
    assert {node.block: node.pack() for node in nodes(tree)} == before
    tree.store.drop(tree.root)
    assert space.allocated == 1


def test_without_a_free_block_nothing_can_be_copied():
    tree = make(blocks=2)
    tree.set(1, (1,))
    tree.store.commit()
    with pytest.raises(StackError, match="no metadata block is free"):
        tree.set(2, (2,))
    tree.store.abort()
    assert entries(tree) == {1: 1}
