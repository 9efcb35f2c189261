"""Numbers: the lowest free minor, and block devices that stand for one of ours."""

import errno

import pytest

from fusedm.block.errors import StackError
from fusedm.system.device_numbers import FIRST_DISK_MINOR, MINOR_LIMIT, DeviceNumbers
from tests.helpers.devices import RecordingDevice

A, B, C = (RecordingDevice(name, 8) for name in "abc")


def test_a_device_gets_the_lowest_free_minor():
    numbers = DeviceNumbers()
    for device in (A, B):
        numbers.add(device)
    numbers.remove(A)
    numbers.add(C)
    assert (numbers.of(B), numbers.of(C)) == ((253, 1), (253, 0))


def test_disks_are_numbered_from_their_own_first_minor_on():
    numbers = DeviceNumbers()
    numbers.add(A, FIRST_DISK_MINOR)
    assert numbers.of(A) == (253, FIRST_DISK_MINOR)


@pytest.mark.parametrize(("minor", "number"), [(7, errno.EBUSY), (MINOR_LIMIT, errno.EINVAL)])
def test_a_minor_that_is_taken_or_cannot_be_is_refused(minor, number):
    numbers = DeviceNumbers()
    numbers.add(A, minor=7)
    with pytest.raises(StackError) as caught:
        numbers.add(B, minor=minor)
    assert caught.value.errno == number


def test_both_the_own_and_the_shown_number_lead_to_a_device():
    numbers = DeviceNumbers()
    numbers.add(A)
    numbers.show(A, (7, 3))
    assert numbers.of(A) == (7, 3)
    assert numbers.find("7:3") is numbers.find("253:0") is A
    numbers.show(A, None)
    assert numbers.of(A) == (253, 0)
    assert numbers.find("7:3") is None


def test_a_number_that_another_device_has_got_since_is_that_ones():
    numbers = DeviceNumbers()
    numbers.add(A)
    numbers.add(B)
    numbers.show(A, (7, 3))
    numbers.show(B, (7, 3))
    numbers.remove(A)
    assert numbers.find("7:3") is B


@pytest.mark.parametrize("word", ["a", "253", "253:0:0", ":0", "253:x", "253:" + "9" * 30])
def test_other_words_are_no_numbers(word):
    numbers = DeviceNumbers()
    numbers.add(A)
    assert numbers.find(word) is None
