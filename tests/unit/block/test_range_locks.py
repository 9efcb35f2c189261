"""Range locks: exclusion, first come first served, and no circle of waiters."""

import pytest

from fusedm.block.range_locks import RangeLocks, merged


class Taker:
    """Takes ranges and notes when they are granted."""

    def __init__(self, locks, *ranges):
        self.woken = 0
        self.hold = locks.take(tuple(ranges), self.wake)

    def wake(self):
        assert self.hold.granted, "woken without being granted"
        self.woken += 1


def test_a_free_range_is_granted_at_once_without_a_wake():
    taker = Taker(RangeLocks(), (0, 8))
    assert taker.hold.granted
    assert taker.woken == 0


def test_ranges_side_by_side_do_not_meet():
    locks = RangeLocks()
    Taker(locks, (0, 8))
    assert Taker(locks, (8, 16)).hold.granted
    assert locks.is_free(16, 17)


@pytest.mark.parametrize("second", [(0, 1), (7, 8), (0, 8), (3, 4), (-5, 100)])
def test_a_range_with_a_sector_in_common_waits(second):
    locks = RangeLocks()
    first = Taker(locks, (0, 8))
    waiter = Taker(locks, second)
    assert not waiter.hold.granted
    locks.release(first.hold)
    assert (waiter.hold.granted, waiter.woken) == (True, 1)


def test_a_newcomer_waits_behind_an_earlier_waiter_it_overlaps():
    locks = RangeLocks()
    first = Taker(locks, (0, 8))
    wide = Taker(locks, (4, 16))
    narrow = Taker(locks, (12, 16))
    assert not narrow.hold.granted
    assert not locks.is_free(12, 16)
    locks.release(first.hold)
    assert (wide.hold.granted, narrow.hold.granted) == (True, False)
    locks.release(wide.hold)
    assert narrow.hold.granted


def test_one_release_grants_all_it_frees():
    locks = RangeLocks()
    wide = Taker(locks, (0, 16))
    waiters = [Taker(locks, (0, 8)), Taker(locks, (8, 16)), Taker(locks, (0, 1))]
    locks.release(wide.hold)
    assert [waiter.hold.granted for waiter in waiters] == [True, True, False]


def test_a_waiter_that_gives_up_lets_those_behind_it_pass():
    locks = RangeLocks()
    Taker(locks, (0, 8))
    gives_up = Taker(locks, (4, 16))
    behind = Taker(locks, (12, 16))
    locks.release(gives_up.hold)
    assert behind.hold.granted
    assert gives_up.woken == 0


def test_several_ranges_are_granted_all_at_once():
    locks = RangeLocks()
    low, high = Taker(locks, (0, 8)), Taker(locks, (20, 28))
    both = Taker(locks, (4, 6), (24, 26))
    locks.release(low.hold)
    assert (both.hold.granted, both.woken) == (False, 0)
    locks.release(high.hold)
    assert (both.hold.granted, both.woken) == (True, 1)


def test_a_wide_waiter_does_not_come_between_the_ranges_of_one_holder():
    # Taken singly, (0, 2) would be held while (20, 22) queued behind the wide one: a circle.
    locks = RangeLocks()
    middle = Taker(locks, (10, 12))
    several = Taker(locks, (0, 2), (10, 12), (20, 22))
    wide = Taker(locks, (0, 30))
    locks.release(middle.hold)
    assert several.hold.granted
    locks.release(several.hold)
    assert wide.hold.granted


def test_an_empty_range_is_a_bug():
    with pytest.raises(AssertionError, match="empty range"):
        RangeLocks().take(((4, 4),), lambda: None)


def test_a_hold_is_given_back_once():
    locks = RangeLocks()
    taker = Taker(locks, (0, 8))
    locks.release(taker.hold)
    with pytest.raises(ValueError, match="not in list"):
        locks.release(taker.hold)


def test_extents_are_taken_by_device_in_the_order_of_making():
    first, second = RangeLocks(), RangeLocks()
    extents = [(second, 0, 8), (first, 40, 48), (first, 0, 8)]
    assert merged(extents) == [(first, ((0, 8), (40, 48))), (second, ((0, 8),))]


def test_extents_that_touch_or_overlap_are_made_one():
    locks = RangeLocks()
    extents = [(locks, 8, 16), (locks, 0, 8), (locks, 4, 12), (locks, 2, 3), (locks, 17, 18)]
    assert merged(extents) == [(locks, ((0, 16), (17, 18)))]


def test_no_extents_are_nothing_to_take():
    assert merged([]) == []


def test_what_is_lent_is_held_against_others_and_leaves_it_open():
    locks = RangeLocks()
    assert not locks.claimed
    lent = locks.lend(((0, 8), (16, 24)))
    assert lent.granted
    assert not locks.claimed
    assert [locks.is_free(begin, begin + 8) for begin in (0, 8, 16)] == [False, True, False]
    locks.release(lent)
    assert locks.is_free(0, 24)


def test_ranges_that_overlap_are_lent_at_once():
    locks = RangeLocks()
    first, second = locks.lend(((0, 8),)), locks.lend(((4, 12),))
    assert first.granted
    assert second.granted
    locks.release(first)
    assert not locks.is_free(4, 5)
    assert locks.is_free(0, 4)


def test_who_takes_what_is_lent_waits_and_nothing_more_is_open():
    locks = RangeLocks()
    first, second = locks.lend(((0, 8),)), locks.lend(((4, 12),))
    taker = Taker(locks, (6, 7))
    assert not taker.hold.granted
    assert locks.claimed
    locks.release(first)
    assert taker.woken == 0
    locks.release(second)
    assert taker.woken == 1
    assert locks.claimed
    locks.release(taker.hold)
    assert not locks.claimed


def test_who_takes_beside_what_is_lent_does_not_wait_and_it_is_open_no_more():
    locks = RangeLocks()
    locks.lend(((0, 8),))
    assert Taker(locks, (8, 16)).hold.granted
    assert locks.claimed


def test_what_is_lent_anew_before_it_is_given_back_keeps_who_waits_waiting():
    """So is told how far writes reach that are under way; they began before whoever waits."""
    locks = RangeLocks()
    old = locks.lend(((0, 8),))
    taker = Taker(locks, (4, 5))
    new = locks.lend(((4, 8),))
    locks.release(old)
    assert taker.woken == 0
    locks.release(new)
    assert taker.woken == 1
