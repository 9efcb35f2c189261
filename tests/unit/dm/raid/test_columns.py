"""Ranges of an array in columns: each sector once, and as whole chunks of each column."""

from hypothesis import given
from hypothesis import strategies as st

from fusedm.dm.raid.columns import Column, columns_of, columns_of_members, finer
from fusedm.dm.raid.layouts import LAYOUTS, Geometry

CHUNK = 16
FIVE = Geometry(LAYOUTS["raid5_ls"], 4, CHUNK)
ranges = st.tuples(st.integers(0, 500), st.integers(1, 300))


@given(extent=ranges)
def test_each_sector_of_a_range_is_in_one_column(extent):
    begin, end = extent[0], sum(extent)
    found = []
    for column in columns_of(FIVE, begin, end):
        assert column.sector_count > 0
        for chunk in column.chunks:
            member = FIVE.row(column.stripe).data[chunk]
            found += [FIVE.array_sector(member, at) for at in range(column.begin, column.end)]
    assert sorted(found) == list(range(begin, end))


@given(extent=ranges)
def test_a_stripe_has_three_columns_at_most_and_they_do_not_overlap(extent):
    columns = list(columns_of(FIVE, extent[0], sum(extent)))
    for stripe in {column.stripe for column in columns}:
        own = [column for column in columns if column.stripe == stripe]
        assert len(own) <= 3
        at = stripe * CHUNK
        for column in own:
            assert at <= column.begin < column.end <= (stripe + 1) * CHUNK
            at = column.end


def test_a_whole_stripe_is_one_column():
    assert list(columns_of(FIVE, 48, 96)) == [Column(1, 16, 32, (0, 1, 2))]
    assert next(columns_of(FIVE, 48, 96)).chunks == (0, 1, 2)


def test_columns_are_cut_where_other_chunks_are_touched():
    columns = list(columns_of(FIVE, 10, 38))
    assert columns == [Column(0, 0, 6), Column(0, 6, 10), Column(0, 10, 16)]
    assert [column.chunks for column in columns] == [(1, 2), (1,), (0, 1)]
    ends = list(columns_of(FIVE, 15, 17))
    assert [(each.begin, each.end, each.chunks) for each in ends] == [(0, 1, (1,)), (15, 16, (0,))]


def test_a_range_of_members_has_a_column_for_each_stripe():
    assert columns_of_members(FIVE, 8, 40) == [
        Column(0, 8, 16),
        Column(1, 16, 32),
        Column(2, 32, 40),
    ]


def test_finer_columns_are_as_high_as_the_stripes_of_md():
    parts = finer(FIVE, Column(1, 19, 32, (2,)))
    assert parts == [Column(1, 19, 24), Column(1, 24, 32)]
    assert {part.chunks for part in parts} == {(2,)}
    assert finer(FIVE, Column(1, 17, 19)) == [Column(1, 17, 19)]
    assert finer(FIVE, Column(0, 8, 32)) == [Column(0, 8, 16), Column(1, 16, 24), Column(1, 24, 32)]
