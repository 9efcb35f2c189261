"""The counters behind stat and inflight, with a clock of the test's own."""

import pytest

from fusedm.block import CryptoCounts, IoStats, Op


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_bio_counts_when_it_has_ended():
    clock = Clock()
    stats = IoStats(clock)
    began = stats.begin(Op.WRITE)
    assert (stats.ios, stats.in_flight) == ([0, 0, 0, 0], 1)
    clock.now = 0.25
    stats.end(Op.WRITE, 8, began)
    assert (stats.ios, stats.sectors, stats.in_flight) == ([0, 1, 0, 0], [0, 8, 0, 0], 0)
    assert stats.seconds == [0.0, 0.25, 0.0, 0.0]


def test_the_device_is_busy_from_the_first_to_the_last_bio():
    clock = Clock()
    stats = IoStats(clock)
    first = stats.begin(Op.READ)
    clock.now = 1.0
    second = stats.begin(Op.READ)
    clock.now = 3.0
    stats.end(Op.READ, 1, first)
    assert stats.busy_seconds == 0.0
    clock.now = 4.0
    stats.end(Op.READ, 1, second)
    assert stats.busy_seconds == 4.0
    assert stats.seconds[0] == 6.0


def test_idle_is_told_once_the_last_bio_has_ended():
    stats, told = IoStats(Clock()), []
    stats.on_idle = lambda: told.append(stats.in_flight)
    first, second = stats.begin(Op.READ), stats.begin(Op.FLUSH)
    stats.end(Op.READ, 1, first)
    assert told == []
    stats.end(Op.FLUSH, 0, second)
    assert told == [0]


def test_a_bio_that_never_began_cannot_end():
    stats = IoStats(Clock())
    stats.begin(Op.READ)
    with pytest.raises(AssertionError, match="a bio ended that had not begun"):
        stats.end(Op.WRITE, 1, 0.0)


def test_stat_has_the_kernels_seventeen_columns():
    clock = Clock()
    stats = IoStats(clock)
    for op, sectors, ms in [
        (Op.READ, 8, 1),
        (Op.WRITE, 16, 2),
        (Op.WRITE_ZEROES, 4, 4),
        (Op.DISCARD, 32, 8),
        (Op.FLUSH, 0, 16),
    ]:
        began = stats.begin(op)
        clock.now += ms / 1000 + 1e-9
        stats.end(op, sectors, began)
    stats.begin(Op.READ)
    line = stats.stat_line()
    assert [int(word) for word in line.split()] == [
        *(1, 0, 8, 1),
        *(2, 0, 20, 6),
        *(1, 31, 31),
        *(1, 0, 32, 8),
        *(1, 16),
    ]
    assert all(len(word) == 8 for word in [line[i : i + 8] for i in range(0, len(line), 9)])


def test_inflight_tells_reads_from_all_else():
    stats = IoStats(Clock())
    for op in (Op.READ, Op.WRITE, Op.WRITE, Op.FLUSH):
        stats.begin(op)
    assert stats.inflight_line() == "       1        3"


@pytest.mark.parametrize(("in_flight", "busy"), [(0, 2.0), (1, 0.0)])
def test_what_was_counted_elsewhere_is_busy_time_unless_that_is_counted_already(in_flight, busy):
    stats = IoStats(Clock())
    for _ in range(in_flight):
        stats.begin(Op.READ)
    stats.add(Op.WRITE, 3, 24, 2_000_000_000)
    assert (stats.ios[1], stats.sectors[1], stats.seconds[1]) == (3, 24, 2.0)
    assert stats.busy_seconds == busy


def test_what_is_under_way_elsewhere_is_in_flight_until_it_is_there_no_more():
    clock = Clock()
    stats = IoStats(clock)
    stats.under_way_elsewhere(Op.WRITE, 2)
    stats.under_way_elsewhere(Op.READ, 1)
    stats.under_way_elsewhere(Op.FLUSH, 0)
    assert (stats.in_flight, stats.in_flight_by_op) == (3, [1, 2, 0, 0])
    assert stats.inflight_line() == "       1        2"
    stats.under_way_elsewhere(Op.WRITE, -1)
    assert (stats.in_flight, stats.in_flight_by_op) == (2, [1, 1, 0, 0])
    assert stats.ios == [0, 0, 0, 0]


def test_the_device_is_busy_while_anything_is_under_way_elsewhere():
    clock = Clock()
    stats = IoStats(clock)
    clock.now = 1.0
    stats.under_way_elsewhere(Op.WRITE, 1)
    clock.now = 2.0
    began = stats.begin(Op.READ)
    clock.now = 3.0
    stats.end(Op.READ, 1, began)
    assert stats.busy_seconds == 0.0
    clock.now = 4.0
    stats.under_way_elsewhere(Op.WRITE, -1)
    assert stats.busy_seconds == 3.0
    stats.under_way_elsewhere(Op.WRITE, 0)
    assert stats.busy_seconds == 3.0


def test_idle_is_told_when_nothing_is_under_way_elsewhere_any_more():
    stats, told = IoStats(Clock()), []
    stats.under_way_elsewhere(Op.WRITE, 2)
    stats.on_idle = lambda: told.append(stats.in_flight)
    stats.under_way_elsewhere(Op.WRITE, -1)
    stats.under_way_elsewhere(Op.READ, 0)
    assert told == []
    stats.under_way_elsewhere(Op.WRITE, -1)
    assert told == [0]


def test_idle_where_nobody_waits_is_told_to_nobody():
    stats = IoStats(Clock())
    stats.under_way_elsewhere(Op.WRITE, 1)
    stats.under_way_elsewhere(Op.WRITE, -1)
    assert stats.in_flight == 0


def test_crypto_counts_begin_at_nothing():
    assert CryptoCounts() == CryptoCounts(native=0, fallback=0)


def test_what_was_counted_elsewhere_adds_busy_time_unless_the_device_is_busy_anyway():
    clock = Clock()
    stats = IoStats(clock)
    stats.add(Op.READ, 2, 16, 500_000_000)
    assert (stats.ios[0], stats.sectors[0], stats.seconds[0]) == (2, 16, 0.5)
    assert stats.busy_seconds == 0.5
    began = stats.begin(Op.WRITE)
    stats.add(Op.READ, 1, 8, 250_000_000)
    clock.now = 1.0
    stats.end(Op.WRITE, 8, began)
    assert (stats.seconds[0], stats.busy_seconds) == (0.75, 1.5)
