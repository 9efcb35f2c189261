"""Keyslots with waiting: order, cancellation, failure, and the wrong-key race."""

from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fusedm.block.errors import CryptoError, KeyBusy
from fusedm.crypto.ciphers import make_cipher
from fusedm.crypto.keyslots import SlotState
from fusedm.crypto.profile import KeyslotProfile, PassthroughProfile
from tests.helpers import reference_xts
from tests.helpers.builders import make_key, pattern, prime

A, B, C, D = KEYS = [make_key(name) for name in "abcd"]


def uses(hold, key, dun=5):
    """Whether a hold encrypts with the key."""
    data, result = pattern(512), memoryview(bytearray(512))
    hold.cipher.encrypt(dun, memoryview(data), result)
    return bytes(result) == reference_xts.encrypt(bytes(key.raw), 512, dun, data)


async def take_and_note(profile, key, order, name):
    hold = await profile.take(key)
    order.append(name)
    return hold


def assert_all_given_back(profile):
    profile.slots.check_invariants()
    assert all(s.state in (SlotState.IDLE, SlotState.EMPTY) for s in profile.slots.slots)
    assert not profile._waiters


async def test_a_taken_slot_has_the_key():
    hold = await KeyslotProfile(1).take(A)
    assert uses(hold, A)


async def test_one_key_is_shared_by_many():
    profile = KeyslotProfile(1)
    holds = [await profile.take(A) for _ in range(3)]
    assert profile.slots.slots[0].users == 3
    for hold in holds:
        hold.release()
    assert_all_given_back(profile)


async def test_taking_now_needs_a_programmed_key_and_nobody_waiting(nursery):
    profile = KeyslotProfile(1)
    assert not profile.is_ready(A)
    hold = await profile.take(A)
    assert profile.is_ready(A)
    nursery.start_soon(profile.take, B)
    await wait_all_tasks_blocked()
    assert not profile.is_ready(A)
    hold.release()


async def test_waiters_are_served_in_order_of_arrival(nursery):
    profile, order = KeyslotProfile(1), []
    hold = await profile.take(A)

    async def use(key, name):
        taken = await take_and_note(profile, key, order, name)
        await trio.lowlevel.checkpoint()
        taken.release()

    for name, key in [("b", B), ("a", A), ("c", C), ("a again", A)]:
        nursery.start_soon(use, key, name)
        await wait_all_tasks_blocked()
    hold.release()
    await wait_all_tasks_blocked()
    assert order == ["b", "a", "c", "a again"]
    assert_all_given_back(profile)


async def test_a_key_being_programmed_is_waited_for_and_programmed_once(autojump_clock):
    programmed = []
    profile = KeyslotProfile(2, 1.0, lambda index, key: programmed.append(key))
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(profile.take, A)
    assert programmed == [A]
    assert profile.slots.slots[0].users == 4


@pytest.mark.parametrize("error", [CryptoError("broken"), OSError(5, "broken")])
async def test_a_failed_programming_gives_the_slot_to_the_next(error, autojump_clock):
    failing = [error]

    def hook(index, key):
        if failing:
            raise failing.pop()

    profile, holds = KeyslotProfile(1, 1.0, hook), []

    async def second():
        holds.append(await profile.take(B))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            with pytest.raises(type(error), match="broken"):
                await profile.take(A)
    assert uses(holds[0], B)
    holds[0].release()
    assert_all_given_back(profile)
    assert not profile.is_ready(A)


async def test_cancelled_while_programming_gives_the_slot_to_the_next(autojump_clock):
    profile = KeyslotProfile(1, 2.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prime, profile, A)
        await wait_all_tasks_blocked()
        nursery.start_soon(prime, profile, B)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.deadline = trio.current_time() + 1
    assert_all_given_back(profile)
    with trio.fail_after(10):
        await prime(profile, C)


async def test_cancelled_while_waiting_lets_those_behind_pass(nursery):
    profile, order = KeyslotProfile(1), []
    hold = await profile.take(A)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(profile.take, B)
            await wait_all_tasks_blocked()
            nursery.start_soon(take_and_note, profile, C, order, "c")
            await wait_all_tasks_blocked()
            scope.cancel()
    hold.release()
    await wait_all_tasks_blocked()
    assert order == ["c"]


async def test_a_turn_given_to_a_cancelled_waiter_is_not_lost(nursery):
    profile, order = KeyslotProfile(1), []
    hold = await profile.take(A)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(prime, profile, B)
            await wait_all_tasks_blocked()
            nursery.start_soon(take_and_note, profile, C, order, "c")
            await wait_all_tasks_blocked()
            # The wake-up is on its way to the waiter when it is cancelled.
            hold.release()
            scope.cancel()
    await wait_all_tasks_blocked()
    assert order == ["c"]


async def test_a_waiter_that_gives_up_lets_a_programmed_key_be_shared_again(nursery):
    profile, order = KeyslotProfile(1), []
    await profile.take(A)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(profile.take, B)
            await wait_all_tasks_blocked()
            nursery.start_soon(take_and_note, profile, A, order, "a")
            await wait_all_tasks_blocked()
            assert order == []
            scope.cancel()
    await wait_all_tasks_blocked()
    assert order == ["a"]


async def test_eviction_empties_slot_and_register():
    profile = KeyslotProfile(1)
    hold = await profile.take(A)
    with pytest.raises(KeyBusy):
        profile.evict(A)
    assert uses(hold, A)
    hold.release()
    profile.evict(A)
    assert not profile.is_ready(A)
    with pytest.raises(AssertionError, match="keyslot 0 is empty"):
        _ = hold.cipher


async def test_a_key_being_programmed_is_busy(autojump_clock, nursery):
    profile = KeyslotProfile(1, 1.0)
    nursery.start_soon(profile.take, A)
    await wait_all_tasks_blocked()
    with pytest.raises(KeyBusy):
        profile.check_evictable(A)


async def test_passthrough_has_no_slots_and_never_waits():
    profile = PassthroughProfile()
    assert profile.slot_count == 0
    assert profile.is_ready(A)
    holds = [await profile.take(key) for key in KEYS]
    assert all(uses(hold, key) for hold, key in zip(holds, KEYS, strict=True))
    assert uses(profile.take_now(A), A)
    holds[0].release()


async def test_passthrough_forgets_an_evicted_key():
    profile = PassthroughProfile()
    before = profile.take_now(A)
    assert profile.take_now(A) is before
    profile.check_evictable(A)
    profile.evict(A)
    profile.evict(B)
    assert profile.take_now(A) is not before


class WithoutProgrammingState:
    """What a profile must not be: a slot stays idle, under its old key, while it is programmed."""

    class Slot:
        key = cipher = None
        users = 0

        def release(self):
            self.users -= 1

    def __init__(self, slot_count, latency):
        self.slots = [self.Slot() for _ in range(slot_count)]
        self.latency = latency

    async def take(self, key):
        while True:
            slot = next((slot for slot in self.slots if slot.key is key), None)
            if slot is None and (slot := next((s for s in self.slots if not s.users), None)):
                await trio.sleep(self.latency)
                slot.key, slot.cipher = key, make_cipher(key)
            if slot is not None:
                slot.users += 1
                return slot
            await trio.sleep(self.latency)


def wrong_keys_used(profile, seed):
    """How many uses by 12 tasks of 4 keys did not have their own key."""
    wrong = 0

    async def task(random):
        nonlocal wrong
        for dun in range(20):
            key = random.choice(KEYS)
            await trio.sleep(random.choice([0, 0.001, 0.002]))
            hold = await profile.take(key)
            await trio.sleep(random.choice([0, 0.001, 0.003]))
            wrong += not uses(hold, key, dun)
            hold.release()

    async def main():
        random = Random(seed)
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(task, Random(random.random()))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return wrong


@pytest.mark.parametrize("seed", range(20))
def test_every_use_has_its_own_key_whatever_runs_in_between(seed):
    profile = KeyslotProfile(2, 0.001)
    assert wrong_keys_used(profile, seed) == 0
    assert_all_given_back(profile)


def test_a_profile_without_the_programming_state_is_caught():
    caught = [wrong_keys_used(WithoutProgrammingState(2, 0.001), seed) > 0 for seed in range(20)]
    assert any(caught)
