"""Range locks, for all orders of taking, releasing and giving up."""

from hypothesis import given
from hypothesis import strategies as st

from fusedm.block.range_locks import RangeLocks, merged


def overlap(left, right):
    return any(a < d and c < b for a, b in left for c, d in right)


@st.composite
def ranges(draw):
    """One to three ranges side by side, none empty."""
    edges = sorted(draw(st.sets(st.integers(0, 16), min_size=2, max_size=6)))
    return tuple(zip(edges[::2], edges[1::2], strict=False))


class Run:
    """The locks, and by order of arrival all that want or hold something."""

    def __init__(self):
        self.locks = RangeLocks()
        self.here = []
        self.woken = []

    def take(self, wanted):
        hold = self.locks.take(wanted, lambda: self.woken.append(len(self.woken)))
        self.here.append(hold)

    def leave(self, index):
        self.locks.release(self.here.pop(index))

    def check(self):
        """Granted exactly those that overlap nobody who came earlier."""
        for index, hold in enumerate(self.here):
            free = not any(overlap(earlier.ranges, hold.ranges) for earlier in self.here[:index])
            assert hold.granted == free


steps = st.lists(st.one_of(ranges(), st.integers(0, 20)), max_size=30)


@given(steps)
def test_who_overlaps_nobody_earlier_holds_and_nobody_else(some_steps):
    # Exclusion, first come first served, and no lost wake-up, in one law.
    run = Run()
    for step in some_steps:
        if isinstance(step, tuple):
            run.take(step)
        elif run.here:
            run.leave(step % len(run.here))
        run.check()


@given(steps)
def test_everybody_gets_a_turn_when_holders_leave(some_steps):
    run = Run()
    for step in some_steps:
        if isinstance(step, tuple):
            run.take(step)
    waiting = sum(not hold.granted for hold in run.here)
    while run.here:
        run.leave(next(index for index, hold in enumerate(run.here) if hold.granted))
    assert len(run.woken) == waiting
    assert run.locks.is_free(0, 100)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 8))))
def test_merging_keeps_every_sector_and_adds_none(extents):
    devices = [RangeLocks() for _ in range(3)]
    wanted = [(devices[index], begin, begin + length) for index, begin, length in extents]
    taken = merged(wanted)
    assert [locks.serial for locks, _ in taken] == sorted({locks.serial for locks, _, _ in wanted})
    covered = {(locks, sector) for locks, begin, end in wanted for sector in range(begin, end)}
    again = [(locks, sector) for locks, some in taken for b, e in some for sector in range(b, e)]
    assert set(again) == covered
    assert len(again) == len(covered)
    for _, some in taken:
        assert all(left[1] < right[0] for left, right in zip(some, some[1:], strict=False))
