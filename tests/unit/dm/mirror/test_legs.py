"""Which legs of a mirror have failed, and which one is read."""

import pytest

from fusedm.dm.mirror.legs import Failure, Legs
from fusedm.dm.target import Segment
from tests.helpers.devices import RecordingDevice


def legs(count: int = 3, handles_errors: bool = True) -> Legs:
    devices = [RecordingDevice(f"d{index}", 64) for index in range(count)]
    return Legs([Segment(device, 0, 64) for device in devices], handles_errors)


def test_the_first_leg_is_read_as_long_as_nothing_of_it_fails():
    assert legs().to_read() == 0


@pytest.mark.parametrize("handles_errors", [True, False])
def test_a_leg_of_which_anything_has_failed_is_not_read(handles_errors):
    some = legs(handles_errors=handles_errors)
    assert len(some) == 3
    some.fail(0, Failure.READ, True)
    assert not some.is_whole(0)
    # From the default leg downwards, and around.
    assert some.to_read() == (1 if handles_errors else 2)
    some.fail(some.to_read(), Failure.READ, True)
    some.fail(some.to_read(), Failure.READ, True)
    assert some.to_read() is None
    assert some.all_failed


def test_another_leg_takes_the_place_of_the_default_one_if_all_are_in_sync():
    some = legs()
    some.fail(0, Failure.WRITE, True)
    assert (some.default, some.is_default_whole) == (1, True)


def test_a_default_leg_that_fails_before_all_are_in_sync_stays_it():
    some = legs()
    some.fail(0, Failure.SYNC, False)
    assert (some.default, some.is_default_whole) == (0, False)


def test_without_handle_errors_the_default_leg_stays_it():
    some = legs(handles_errors=False)
    some.fail(0, Failure.WRITE, True)
    assert some.default == 0


def test_the_last_leg_stays_the_default_one_when_it_fails():
    some = legs(2)
    some.fail(0, Failure.WRITE, True)
    some.fail(1, Failure.WRITE, True)
    assert (some.default, some.all_failed) == (1, True)


def test_a_leg_that_is_not_the_default_one_leaves_it_as_it_is():
    some = legs()
    some.fail(2, Failure.WRITE, True)
    assert (some.default, some.any_failed, some.all_failed) == (0, True, False)


def test_each_kind_of_failure_of_a_leg_is_an_event_once():
    some = legs()
    assert some.fail(1, Failure.WRITE, True)
    assert not some.fail(1, Failure.WRITE, True)
    assert some.fail(1, Failure.READ, True)
    assert not legs(handles_errors=False).fail(1, Failure.WRITE, True)


@pytest.mark.parametrize(
    ("failures", "letter"),
    [
        ([], "A"),
        ([Failure.READ], "R"),
        ([Failure.READ, Failure.SYNC], "S"),
        ([Failure.WRITE, Failure.SYNC], "D"),
        ([Failure.READ, Failure.FLUSH], "F"),
    ],
)
def test_a_leg_has_the_letter_of_the_worst_that_has_failed(failures, letter):
    some = legs()
    for failure in failures:
        some.fail(1, failure, True)
    assert some.letters == f"A{letter}A"
