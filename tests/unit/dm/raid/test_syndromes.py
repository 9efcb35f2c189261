"""What is lost of a stripe is found again, whichever members it is."""

import random
from itertools import combinations

import pytest

from fusedm.dm.raid.layouts import LAYOUTS, Geometry, Row
from fusedm.dm.raid.syndromes import inverse, multiply, power_of_two, sums
from tests.helpers.reference_parity import p_of, product, q_of


def stripe_of(row: Row, seed: int) -> list[int]:
    """A byte for each member of a row, with P and Q by the reference."""
    some = random.Random(seed)
    members = [0] * (len(row.data) + len(row.parities))
    for member in row.data:
        members[member] = some.randrange(256)
    data = [bytes([members[member]]) for member in row.data]
    members[row.p] = p_of(data)[0]
    if row.q is not None:
        members[row.q] = q_of(data, row.exponents)[0]
    return members


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("members", [4, 5, 8])
def test_whatever_is_lost_is_a_sum_of_what_is_there(name, members):
    layout = LAYOUTS[name]
    made = Geometry(layout, members, 8)
    for stripe in range(members):
        row = made.row(stripe)
        full = stripe_of(row, stripe)
        for count in range(1, layout.parities + 1):
            for lost in map(frozenset, combinations(range(members), count)):
                for member, factors in sums(row, lost).items():
                    assert lost.isdisjoint(factors)
                    found = 0
                    for other, factor in factors.items():
                        found ^= product(full[other], factor)
                    assert found == full[member], (stripe, lost, member)


def test_one_lost_chunk_of_data_is_found_without_q():
    row = Geometry(LAYOUTS["raid6_ls_6"], 6, 8).row(0)
    lost = row.data[1]
    by_p = {member: 1 for member in (*row.data, row.p) if member != lost}
    assert sums(row, frozenset({lost}))[lost] == by_p
    assert sums(row, frozenset({lost, row.q}))[lost] == by_p


def test_the_field_is_the_one_of_the_kernels_raid6():
    for a in range(256):
        assert a == 0 or multiply(a, inverse(a)) == 1
        for b in (0, 1, 2, 3, 29, 142, 255):
            assert multiply(a, b) == product(a, b)
    assert power_of_two(0) == 1
    assert power_of_two(8) == 0x1D
    assert power_of_two(255) == 1, "2 generates all but 0"
    assert len({power_of_two(exponent) for exponent in range(255)}) == 255


def test_a_row_is_not_asked_for_more_than_it_has_parities():
    row = Geometry(LAYOUTS["raid5_ls"], 4, 8).row(0)
    with pytest.raises(AssertionError, match="2 lost of a row with 1 parities"):
        sums(row, frozenset({0, 1}))
