"""New parity comes out of either way to it, and the one that reads less is taken."""

import random
from itertools import chain, combinations

import pytest

from fusedm.dm.raid.changes import change, compare, regain
from fusedm.dm.raid.layouts import LAYOUTS, Geometry, Row
from tests.helpers.reference_parity import p_of, product, q_of

KINDS = ["raid5_ls", "raid6_nr", "raid6_ra_6"]


def full_stripe(row: Row, seed: int) -> dict[int, int]:
    """A byte of each member, with its parities."""
    some = random.Random(seed)
    members = {member: some.randrange(256) for member in row.data}
    return with_parity(row, members)


def with_parity(row: Row, members: dict[int, int]) -> dict[int, int]:
    data = [bytes([members[member]]) for member in row.data]
    made = {**members, row.p: p_of(data)[0]}
    if row.q is not None:
        made[row.q] = q_of(data, row.exponents)[0]
    return made


def subsets(members, least: int, most: int):
    return chain.from_iterable(combinations(members, n) for n in range(least, most + 1))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("trusted", [False, True])
def test_new_parity_is_right_whatever_is_written_and_lost(name, trusted):
    layout = LAYOUTS[name]
    row = Geometry(layout, 6, 8).row(3)
    old = full_stripe(row, 1)
    for written in subsets(row.data, 1, len(row.data)):
        new = {member: 100 + member for member in written}
        after = with_parity(row, {**{m: old[m] for m in row.data}, **new})
        for lost in map(frozenset, subsets(range(6), 0, layout.parities)):
            targets = tuple(member for member in row.parities if member not in lost)
            way = change(row, lost, written, targets, trusted)
            assert way is not None
            assert lost.isdisjoint(way.reads)
            sources = [new[member] for member in written] + [old[member] for member in way.reads]
            for target, factors in zip(way.targets, way.factors, strict=True):
                found = 0
                for source, factor in zip(sources, factors, strict=True):
                    found ^= product(source, factor)
                assert found == after[target], (written, lost)


def test_the_way_that_reads_less_is_taken():
    row = Geometry(LAYOUTS["raid5_n"], 8, 8).row(0)
    none = frozenset[int]()
    assert change(row, none, (2,), (7,), True).reads == (2, 7)
    assert change(row, none, (2,), (7,), False).reads == (0, 1, 3, 4, 5, 6)
    assert change(row, none, (0, 1, 2, 3, 4), (7,), True).reads == (5, 6)
    assert change(row, none, (0, 1, 2, 3, 4, 5, 6), (7,), True).reads == ()
    assert change(row, none, (0, 1, 2), (), True).reads == ()
    # As many either way: by all data, as md.
    assert change(row, none, (0, 1, 2), (7,), True).reads == (3, 4, 5, 6)


def test_what_is_lost_and_not_needed_is_not_asked_for():
    row = Geometry(LAYOUTS["raid5_n"], 5, 8).row(0)
    assert change(row, frozenset({3}), (1,), (4,), True).reads == (1, 4)
    assert change(row, frozenset({1}), (1,), (4,), True).reads == (0, 2, 3)
    assert change(row, frozenset({0, 3}), (1,), (4,), True).reads == (1, 4)


def test_no_way_is_found_where_too_much_is_lost():
    row = Geometry(LAYOUTS["raid5_n"], 5, 8).row(0)
    assert change(row, frozenset({0, 1}), (1,), (4,), True) is None
    assert regain(row, frozenset({0, 1}), (0,)) is None
    assert regain(row, frozenset({0, 1}), ()).reads == ()


@pytest.mark.parametrize("name", KINDS)
def test_what_the_others_tell_as_well_differs_by_nothing(name):
    layout = LAYOUTS[name]
    row = Geometry(layout, 6, 8).row(2)
    full = full_stripe(row, 2)
    for lost in map(frozenset, subsets(range(6), 0, layout.parities)):
        way = compare(row, lost)
        assert len(way.targets) == layout.parities - len(lost)
        assert lost.isdisjoint(way.reads)
        assert set(way.targets) <= set(way.reads)
        for target, factors in zip(way.targets, way.factors, strict=True):
            found = 0
            for member, factor in zip(way.reads, factors, strict=True):
                found ^= product(full[member], factor)
                assert member != target or factor == 1
            assert found == 0
