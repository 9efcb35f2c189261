"""Capabilities form a semilattice: intersect is its meet and covers its order."""

from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import (
    ALL_CAPABILITIES,
    NO_CAPABILITIES,
    Capabilities,
    CryptoConfig,
    KeyType,
    Limits,
)
from tests.helpers.builders import MODE

SIZES = [512 << shift for shift in range(8)]
sizes = st.lists(st.sampled_from(SIZES), unique=True)
capabilities = st.builds(
    lambda some, count, types: Capabilities.of({MODE: some}, count, types),
    sizes,
    st.integers(1, 32),
    st.sets(st.sampled_from(KeyType)),
)
configs = st.builds(
    lambda size, count, kind: CryptoConfig(MODE, size, count, kind),
    st.sampled_from(SIZES),
    st.integers(1, 16),
    st.sampled_from(KeyType),
)
limits = st.builds(
    Limits,
    st.sampled_from([512, 1024, 4096]),
    st.sampled_from([512, 4096, 65536]),
    st.integers(0, 40).map(lambda n: n * 512),
    st.booleans(),
)


@given(capabilities, capabilities)
def test_intersection_is_commutative(a, b):
    assert a.intersect(b) == b.intersect(a)


@given(capabilities, capabilities, capabilities)
def test_intersection_is_associative(a, b, c):
    assert a.intersect(b).intersect(c) == a.intersect(b.intersect(c))


@given(capabilities)
def test_intersection_is_idempotent_with_all_as_unit_and_none_as_zero(a):
    assert a.intersect(a) == a
    assert a.intersect(ALL_CAPABILITIES) == a
    assert a.intersect(NO_CAPABILITIES) == NO_CAPABILITIES


@given(capabilities, capabilities)
def test_covers_is_the_order_of_intersection(a, b):
    assert a.covers(b) == (a.intersect(b) == b)
    assert (a.covers(b) and b.covers(a)) == (a == b)
    assert a.covers(a.intersect(b))
    assert b.covers(a.intersect(b))


@given(capabilities, capabilities, configs)
def test_both_support_what_their_intersection_supports(a, b, config):
    assert a.intersect(b).supports(config) == (a.supports(config) and b.supports(config))


@given(capabilities, capabilities, configs)
def test_who_covers_another_supports_all_it_supports(a, b, config):
    if a.covers(b) and b.supports(config):
        assert a.supports(config)


@given(limits, limits, limits)
def test_limits_stack_in_any_order(a, b, c):
    assert a.stack(b) == b.stack(a)
    assert a.stack(b).stack(c) == a.stack(b.stack(c))
    assert a.stack(a) == a
