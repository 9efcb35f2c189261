"""Sets of regions, as bits."""

from hypothesis import given
from hypothesis import strategies as st

from fusedm.dm.mirror.regions import Regions, set_bytes

counts = st.integers(1, 200)


@st.composite
def sets(draw: st.DrawFn) -> tuple[int, set[int]]:
    count = draw(counts)
    return count, draw(st.sets(st.integers(0, count - 1)))


def made(count: int, some: set[int]) -> Regions:
    regions = Regions(count)
    for region in some:
        regions.add(region)
    return regions


def held(regions: Regions) -> set[int]:
    return {region for region in range(regions.count) if region in regions}


@given(sets())
def test_it_holds_what_was_put_in(given):
    count, some = given
    regions = made(count, some)
    assert held(regions) == some
    assert len(regions) == len(some)
    assert list(regions.missing()) == sorted(set(range(count)) - some)


@given(sets(), st.data())
def test_what_was_taken_out_is_not_in_it(given, data):
    count, some = given
    regions = made(count, some)
    one = data.draw(st.integers(0, count - 1))
    regions.discard(one)
    regions.discard(one)
    assert held(regions) == some - {one}


@given(sets(), st.booleans(), st.data())
def test_all_from_one_on_are_put_in_or_taken_out(given, is_in, data):
    count, some = given
    regions = made(count, some)
    begin = data.draw(st.integers(0, count))
    regions.fill(begin, is_in)
    rest = set(range(begin, count)) if is_in else set()
    assert held(regions) == {one for one in some if one < begin} | rest
    assert len(regions) == len(held(regions)), "the bits after the last are 0"


@given(sets())
def test_it_holds_what_another_does_but_not_what_that_holds_later(given):
    count, some = given
    other, regions = made(count, some), Regions(count)
    regions.take(other)
    other.fill(0, False)
    assert held(regions) == some


def test_those_that_are_missing_are_those_of_when_it_was_asked():
    regions = Regions(3)
    missing = regions.missing()
    regions.fill(0, True)
    assert list(missing) == [0, 1, 2]


def test_the_lowest_bit_of_a_byte_is_the_first_region():
    regions = made(12, {0, 9})
    assert bytes(regions.bits) == b"\x01\x02" + bytes(6)


def test_a_set_is_of_whole_words():
    assert [set_bytes(count) for count in (1, 64, 65)] == [8, 8, 16]
