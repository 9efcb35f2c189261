"""Engines that fail on purpose: what each kind of fault does, and that it is the same each time."""

import errno

import pytest

from fusedm.block import Capabilities, KeyType
from fusedm.block.errors import BlockIOError, CryptoError
from fusedm.crypto import EngineFaults, EvpCipher, Fault, InlineEngine, KeyManager, evict_key
from fusedm.crypto.engine_faults import FAULT_KINDS, NO_SLOT, FaultyHardware
from fusedm.disk import Disk
from fusedm.fuse.sysfs import keyslots
from fusedm.stores import MemoryStore
from tests.helpers import reference_xts
from tests.helpers.builders import (
    MODE,
    assert_nothing_is_held,
    make_key,
    medium,
    pattern,
    prime,
    read,
    write,
)
from tests.unit.crypto.test_wrapped_keys import prepared

A, B, C = (make_key(name) for name in "abc")
DATA = bytes(pattern(512))
ONCE = Fault(nth=1)


def faulty_disk(slots: int = 2, **faults) -> Disk:
    """A disk whose engine has faults."""
    capabilities = Capabilities.of({MODE: [512]}, 8, KeyType)
    engine = InlineEngine(
        capabilities, slots, key_manager=KeyManager(bytearray(32)), faults=EngineFaults(**faults)
    )
    return Disk("d0", MemoryStore(1 << 16, 512), engine)


def ciphertext(key, dun=0) -> bytes:
    return reference_xts.encrypt(bytes(key.raw), 512, dun, DATA)


def held(disk) -> dict[int, str]:
    assert disk.engine is not None
    assert disk.engine.hardware is not None
    return {index: each.key_name for index, each in disk.engine.hardware.held.items()}


@pytest.mark.parametrize("slots", [0, 2])
async def test_without_a_fault_that_strikes_all_is_well(slots):
    disk = faulty_disk(slots, seed=7, dun=Fault(nth=100))
    await write(disk, 0, DATA, A)
    assert medium(disk, 0, 512) == ciphertext(A)
    assert await read(disk, 0, 512, A) == DATA
    assert_nothing_is_held(disk)


@pytest.mark.parametrize("slots", [0, 2])
async def test_a_key_that_cannot_be_programmed_fails_its_bio_with_eio_and_the_next_tries_again(
    slots,
):
    disk = faulty_disk(slots, program=ONCE)
    with pytest.raises(BlockIOError, match="programming key 'a' failed") as caught:
        await write(disk, 0, DATA, A)
    assert caught.value.errno == errno.EIO
    assert medium(disk, 0, 512) == bytes(512)
    await write(disk, 0, DATA, A)
    assert medium(disk, 0, 512) == ciphertext(A)
    assert_nothing_is_held(disk)


async def test_a_stale_slot_encrypts_with_the_key_it_had_before():
    disk = faulty_disk(1, stale_key=Fault(nth=2))
    await write(disk, 0, DATA, A)
    await write(disk, 1, DATA, B)
    assert medium(disk, 512 // 512, 512) == ciphertext(A)
    assert held(disk) == {0: "a"}
    assert keyslots(disk)[0]["key"] == "b"
    assert keyslots(disk)[0]["held"] == "a"


async def test_a_slot_that_held_nothing_cannot_be_stale():
    disk = faulty_disk(1, stale_key=ONCE)
    await write(disk, 0, DATA, A)
    assert medium(disk, 0, 512) == ciphertext(A)


@pytest.mark.parametrize("key", [A, prepared(KeyManager(bytearray(32)))])
async def test_a_slot_with_a_wrong_key_encrypts_with_neither(key):
    disk = faulty_disk(2, wrong_key=ONCE)
    if key is not A:
        assert disk.engine is not None
        assert disk.engine.key_manager is not None
        key = prepared(disk.engine.key_manager)
    await write(disk, 0, DATA, key)
    written = medium(disk, 0, 512)
    assert written not in (ciphertext(A), DATA)
    assert await read(disk, 0, 512, key) == DATA
    assert held(disk) == {0: f"not {key.name}"}


async def test_a_dun_that_is_one_too_far_shows_on_the_medium():
    disk = faulty_disk(dun=ONCE)
    await write(disk, 0, DATA, A, 7)
    assert medium(disk, 0, 512) == ciphertext(A, 8)
    assert await read(disk, 0, 512, A, 8) == DATA


async def test_the_last_dun_plus_one_is_the_first_as_hardware_truncates():
    disk = faulty_disk(dun=ONCE)
    await write(disk, 0, DATA, A, (1 << 64) - 1)
    assert medium(disk, 0, 512) == ciphertext(A, 0)


async def test_a_dropped_eviction_leaves_the_key_in_the_hardware():
    disk = faulty_disk(evict=ONCE)
    await write(disk, 0, DATA, A)
    await write(disk, 0, DATA, B)
    evict_key(disk, A)
    evict_key(disk, B)
    assert held(disk) == {0: "a"}
    assert [(row["key"], row["held"]) for row in keyslots(disk)] == [(None, "a"), (None, None)]


async def test_a_key_whose_eviction_was_dropped_is_used_again_by_a_stale_slot():
    disk = faulty_disk(1, evict=ONCE, stale_key=Fault(nth=2))
    await write(disk, 0, DATA, A)
    evict_key(disk, A)
    await write(disk, 0, DATA, B)
    assert medium(disk, 0, 512) == ciphertext(A)


async def test_hardware_without_keyslots_drops_evictions_too():
    disk = faulty_disk(0, evict=ONCE)
    await write(disk, 0, DATA, A)
    evict_key(disk, A)
    assert held(disk) == {NO_SLOT: "a"}
    evict_key(disk, A)
    assert held(disk) == {NO_SLOT: "a"}


@pytest.mark.parametrize("slots", [0, 1, 2])
async def test_a_reset_under_a_bio_fails_it_with_eio_and_the_next_finds_its_key(slots):
    disk = faulty_disk(slots, reset=Fault(nth=2))
    await write(disk, 0, DATA, A)
    with pytest.raises(BlockIOError, match="reset while a bio was in flight") as caught:
        await write(disk, 1, DATA, A)
    assert caught.value.errno == errno.EIO
    assert medium(disk, 1, 512) == bytes(512)
    assert await read(disk, 0, 512, A) == DATA
    assert_nothing_is_held(disk)


async def test_a_reset_under_a_bio_puts_right_what_was_stale():
    disk = faulty_disk(1, stale_key=Fault(nth=2), reset=Fault(nth=3))
    await write(disk, 0, DATA, A)
    await write(disk, 0, DATA, B)
    with pytest.raises(BlockIOError):
        await write(disk, 0, DATA, B)
    await write(disk, 0, DATA, B)
    assert medium(disk, 0, 512) == ciphertext(B)
    assert keyslots(disk)[0]["programs"] == 3


async def test_a_reset_when_it_is_asked_for_can_fail_by_a_fault():
    disk = faulty_disk(2, program=Fault(nth=3))
    assert disk.engine is not None
    await prime(disk.engine.slots, A)
    await prime(disk.engine.slots, B)
    result = await disk.engine.reset()
    assert (result.reprogrammed, result.failed) == (("b",), ("a",))


@pytest.mark.parametrize("slots", [0, 1])
async def test_the_cipher_of_an_engine_with_faults_is_not_the_compiled_one(slots):
    for faults, compiled in ((None, True), (EngineFaults(), False)):
        engine = InlineEngine(Capabilities.of({MODE: [512]}, 8), slots, faults=faults)
        hold = await engine.slots.take(A)
        assert isinstance(hold.cipher, EvpCipher) == compiled
        hold.release()


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_the_same_seed_gives_the_same_faults_whatever_else_goes_wrong(kind):
    def struck(seed, *others):
        hardware = FaultyHardware(
            EngineFaults(seed, **dict.fromkeys((kind, *others), Fault(probability=0.3)))
        )
        told = []
        for _ in range(50):
            for other in others:
                hardware.strikes(other)
            told.append(hardware.strikes(kind))
        return told

    other = FAULT_KINDS[FAULT_KINDS.index(kind) - 1]
    assert struck(7) == struck(7) == struck(7, other)
    assert struck(7) != struck(8)
    assert 5 < sum(struck(7)) < 25


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"nth": -1}, "nth -1 is not 0 or more"),
        ({"probability": 1.5}, "probability 1.5 is not in 0..1"),
        ({"probability": -0.5}, "probability -0.5 is not in 0..1"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_its_number(arguments, words):
    with pytest.raises(CryptoError, match=words):
        Fault(**arguments)
