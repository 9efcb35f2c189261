"""A reset of the hardware: who waits for whom, what is programmed anew, and what if that fails."""

import errno
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fusedm.block.errors import CryptoError, KeyBusy
from fusedm.crypto import ResetResult
from fusedm.crypto.keyslots import SlotState
from fusedm.crypto.profile import KeyslotProfile, PassthroughProfile
from tests.helpers.builders import make_key, prime
from tests.unit.crypto.test_profile import assert_all_given_back, uses

A, B, C = KEYS = [make_key(name) for name in "abc"]


def keys_in(profile):
    return [slot.key for slot in profile.slots.slots]


async def test_every_key_is_programmed_anew_in_the_order_of_slots():
    programmed = []
    profile = KeyslotProfile(3, before_program=lambda index, key: programmed.append((index, key)))
    for key in (A, B):
        await prime(profile, key)
    assert await profile.reset() == ResetResult(("a", "b"))
    assert programmed == [(0, A), (1, B)] * 2
    assert uses(profile.take_now(A), A)
    assert uses(profile.take_now(B), B)


async def test_bios_in_flight_keep_their_key_until_they_are_done(nursery):
    profile, results = KeyslotProfile(1), []
    hold = await profile.take(A)

    async def reset():
        results.append(await profile.reset())

    nursery.start_soon(reset)
    await wait_all_tasks_blocked()
    assert uses(hold, A)
    assert results == []
    hold.release()
    await wait_all_tasks_blocked()
    assert results == [ResetResult(("a",))]


async def test_bios_that_come_during_a_reset_wait_until_it_is_over(autojump_clock):
    profile, order = KeyslotProfile(2, 1.0), []
    await prime(profile, A)

    async def use(key):
        hold = await profile.take(key)
        order.append((key.name, trio.current_time()))
        assert uses(hold, key)
        hold.release()

    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(profile.reset)
        await wait_all_tasks_blocked()
        assert not profile.is_ready(A)
        nursery.start_soon(use, A)
        await wait_all_tasks_blocked()
        nursery.start_soon(use, B)
    assert order == [("a", begin + 1), ("b", begin + 2)]
    assert_all_given_back(profile)


async def test_a_key_being_programmed_when_a_reset_begins_is_used_before_it(autojump_clock):
    profile, order = KeyslotProfile(1, 1.0), []

    async def use():
        hold = await profile.take(A)
        await trio.sleep(5)
        order.append("used")
        assert uses(hold, A)
        hold.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        await wait_all_tasks_blocked()
        await profile.reset()
        order.append("reset")
    assert order == ["used", "reset"]


async def test_a_key_that_cannot_be_programmed_anew_is_in_no_slot_and_tried_again():
    failing = []

    def hook(index, key):
        if key in failing:
            raise CryptoError("broken", errno.EIO)

    profile = KeyslotProfile(2, before_program=hook)
    await prime(profile, A)
    await prime(profile, B)
    failing.append(A)
    assert await profile.reset() == ResetResult(("b",), ("a",))
    assert keys_in(profile) == [None, B]
    assert not profile.is_ready(A)
    failing.clear()
    await prime(profile, A)
    assert keys_in(profile) == [A, B]


async def test_a_second_reset_is_refused_as_busy(nursery):
    profile = KeyslotProfile(1)
    hold = await profile.take(A)
    nursery.start_soon(profile.reset)
    await wait_all_tasks_blocked()
    with pytest.raises(CryptoError, match="the engine is being reset already") as caught:
        await profile.reset()
    assert caught.value.errno == errno.EBUSY
    hold.release()


async def test_a_reset_given_up_while_it_waits_changes_nothing():
    profile = KeyslotProfile(1)
    hold = await profile.take(A)
    with trio.move_on_after(0):
        await profile.reset()
    assert profile.is_ready(A)
    assert uses(hold, A)
    hold.release()
    assert_all_given_back(profile)


async def test_a_reset_given_up_while_it_programs_leaves_the_rest_empty(autojump_clock):
    profile = KeyslotProfile(2, 1.0)
    await prime(profile, A)
    await prime(profile, B)
    with trio.move_on_after(1.5):
        await profile.reset()
    assert keys_in(profile) == [A, None]
    assert_all_given_back(profile)
    await prime(profile, B)


async def test_a_key_cannot_be_evicted_while_it_is_programmed_anew(autojump_clock, nursery):
    profile = KeyslotProfile(1, 1.0)
    await prime(profile, A)
    nursery.start_soon(profile.reset)
    await wait_all_tasks_blocked()
    with pytest.raises(KeyBusy, match="'a' is being programmed in keyslot 0") as busy:
        profile.check_evictable(A)
    assert busy.value.errno == errno.EBUSY


async def test_hardware_without_keyslots_has_nothing_to_lose():
    profile = PassthroughProfile()
    hold = profile.take_now(A)
    assert await profile.reset() == ResetResult()
    hold.count_hits(3)
    assert profile.take_now(A) is hold


async def test_each_slot_counts_hits_programs_evictions_and_waits(nursery):
    profile = KeyslotProfile(1)
    hold = await profile.take(A)
    hold.count_hits(4)
    profile.take_now(A).release()
    nursery.start_soon(prime, profile, B)
    await wait_all_tasks_blocked()
    hold.release()
    await wait_all_tasks_blocked()
    profile.evict(B)
    counts = profile.slots.slots[0].counts
    assert (counts.hits, counts.programs, counts.evictions, counts.waits) == (5, 2, 1, 1)


@pytest.mark.parametrize("seed", range(10))
def test_every_use_has_its_own_key_whenever_the_hardware_is_reset(seed):
    profile = KeyslotProfile(2, 0.001)
    wrong, resets = [], []

    async def use(random):
        for dun in range(20):
            key = random.choice(KEYS)
            await trio.sleep(random.choice([0, 0.001, 0.002]))
            hold = await profile.take(key)
            await trio.sleep(random.choice([0, 0.001, 0.003]))
            if not uses(hold, key, dun):
                wrong.append(key)
            hold.release()

    async def reset(random):
        for _ in range(8):
            await trio.sleep(random.choice([0.001, 0.005]))
            with trio.move_on_after(random.choice([0.001, 1])):
                resets.append(await profile.reset())

    async def main():
        random = Random(seed)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(use, Random(random.random()))
            nursery.start_soon(reset, Random(random.random()))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not wrong
    assert resets
    assert_all_given_back(profile)
    assert all(slot.state in (SlotState.IDLE, SlotState.EMPTY) for slot in profile.slots.slots)
