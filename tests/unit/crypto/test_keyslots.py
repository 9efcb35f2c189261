"""The keyslot state machine, row by row of its table."""

import pytest

from fusedm.block.errors import KeyBusy
from fusedm.crypto.keyslots import Keyslots, SlotState
from tests.helpers.builders import make_key

A, B, C = (make_key(name) for name in "abc")


def machine(*keys, slots=2):
    """Slots of which the first hold the keys, idle, used in this order."""
    result = Keyslots(slots)
    for key in keys:
        result.programmed(result.choose(key))
        result.release(result.index_of(key))
    return result


def states(slots):
    slots.check_invariants()
    return [(slot.state, slot.key, slot.users) for slot in slots.slots]


def test_a_chosen_slot_is_programming_and_not_yet_usable():
    slots = machine(slots=1)
    assert slots.choose(A) == 0
    assert states(slots) == [(SlotState.PROGRAMMING, A, 0)]
    assert slots.find(A) is None
    assert not slots.is_usable(A)
    assert slots.index_of(A) == 0


def test_a_programmed_slot_has_its_chooser_as_first_user():
    slots = machine(slots=1)
    slots.programmed(slots.choose(A))
    assert states(slots) == [(SlotState.IN_USE, A, 1)]


def test_a_key_in_a_slot_is_found_and_shared():
    slots = machine(A)
    assert slots.find(A) == slots.find(A) == 0
    assert states(slots)[0] == (SlotState.IN_USE, A, 2)


def test_the_last_release_makes_a_slot_idle_and_keeps_its_key():
    slots = machine(A)
    slots.find(A)
    slots.find(A)
    slots.release(0)
    assert states(slots)[0] == (SlotState.IN_USE, A, 1)
    slots.release(0)
    assert states(slots)[0] == (SlotState.IDLE, A, 0)


def test_the_least_recently_used_slot_is_chosen():
    slots = machine(A, B)
    slots.find(A)
    slots.release(0)
    assert slots.choose(C) == 1
    assert slots.index_of(B) is None


def test_the_old_key_is_forgotten_the_moment_its_slot_is_chosen():
    slots = machine(A, slots=1)
    assert slots.choose(B) == 0
    assert slots.find(A) is None
    assert slots.index_of(A) is None


def test_slots_are_first_chosen_in_the_order_of_their_numbers():
    slots = machine(slots=3)
    assert [slots.choose(key) for key in (A, B, C)] == [0, 1, 2]


def test_a_reset_leaves_the_order_of_use_as_it_was():
    slots = machine(A, B)
    slots.release(slots.find(A))
    slots.begin_reset()
    for index in slots.lose_keys():
        slots.reprogrammed(index)
    slots.end_reset()
    assert slots.choose(C) == 1


def test_a_slot_in_use_is_never_chosen():
    slots = machine(A, slots=1)
    slots.find(A)
    assert slots.choose(B) is None
    assert states(slots) == [(SlotState.IN_USE, A, 1)]


def test_a_slot_being_programmed_is_never_chosen():
    slots = machine(slots=1)
    slots.choose(A)
    assert slots.choose(B) is None


@pytest.mark.parametrize("programmed", [False, True])
def test_a_key_never_gets_a_second_slot(programmed):
    slots = machine()
    index = slots.choose(A)
    if programmed:
        slots.programmed(index)
    assert slots.choose(A) is None


def test_a_failed_programming_leaves_the_slot_empty_and_next_in_turn():
    slots = machine(A, B)
    index = slots.choose(C)
    slots.program_failed(index)
    assert states(slots)[index] == (SlotState.EMPTY, None, 0)
    assert slots.index_of(A) is None
    assert slots.choose(A) == index


def test_an_evicted_slot_is_empty_and_keeps_its_place():
    slots = machine(A, B)
    assert slots.evict(A) == 0
    assert states(slots)[0] == (SlotState.EMPTY, None, 0)
    assert slots.choose(C) == 0
    slots = machine(A, B)
    slots.evict(B)
    assert slots.choose(C) == 0


def test_evicting_an_unknown_key_does_nothing():
    slots = machine(A)
    before = states(slots)
    assert slots.evict(B) is None
    assert states(slots) == before


@pytest.mark.parametrize("programmed", [False, True])
def test_a_busy_key_is_not_evicted_and_nothing_changes(programmed):
    slots = machine()
    index = slots.choose(A)
    if programmed:
        slots.programmed(index)
    before = states(slots)
    with pytest.raises(KeyBusy, match="key 'a' is (in use|being programmed) in keyslot 0"):
        slots.evict(A)
    assert states(slots) == before
    assert slots.index_of(A) == index


@pytest.mark.parametrize("event", ["programmed", "program_failed", "release"])
def test_events_out_of_order_are_bugs(event):
    with pytest.raises(AssertionError, match="slot 0 is empty"):
        getattr(machine(), event)(0)


def test_no_slots_are_no_machine():
    with pytest.raises(AssertionError, match="without keyslots"):
        Keyslots(0)


def test_keys_with_equal_bytes_have_slots_of_their_own():
    twin = make_key("a")
    slots = machine(A, twin)
    assert (slots.index_of(A), slots.index_of(twin)) == (0, 1)


def test_the_invariants_notice_damage():
    slots = machine(A)
    slots.slots[0].users = 1
    with pytest.raises(AssertionError, match="slot 0: users"):
        slots.check_invariants()
