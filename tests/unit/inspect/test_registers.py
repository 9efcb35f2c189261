"""A keyslot that does not hold what it should is found, whatever the media say."""

import errno
from dataclasses import replace

import pytest

from fusedm.block import Capabilities, CryptoConfig, CryptoKey, KeyType
from fusedm.block.errors import StackError
from fusedm.cli.verify_text import keyslots_text
from fusedm.crypto import EngineFaults, Fault, InlineEngine, KeyManager, evict_key, start_using_key
from fusedm.disk import Disk
from fusedm.inspect import check_keyslots
from fusedm.stores import MemoryStore
from fusedm.system import System
from tests.helpers.builders import MODE, make_disk, make_key, pattern, write

ONE, OTHER = make_key("one", 4096), make_key("other", 4096)


async def system(faults=None, slots=1, manager=None):
    """d0, whose engine has faults, with ONE and then OTHER used on it."""
    built = System()
    can = Capabilities.of({MODE: [4096]}, 8, KeyType if manager else [KeyType.RAW])
    engine = InlineEngine(can, slots, key_manager=manager, faults=faults)
    built.add_disk(Disk("d0", MemoryStore(1 << 20), engine))
    for key in (ONE, OTHER):
        start_using_key(built.disks["d0"], key)
        await write(built.disks["d0"], 0, pattern(4096), key)
    return built


@pytest.mark.parametrize("faults", [None, EngineFaults(dun=Fault(nth=1))])
async def test_slots_with_their_keys_are_fine(faults):
    told = check_keyslots(await system(faults, slots=3), "d0")
    assert told == {"name": "d0", "keyslots": 3, "used": 2, "wrong": []}
    assert keyslots_text(told) == ["d0: 2 of 3 keyslots hold keys, 0 wrong"]


@pytest.mark.parametrize("kind", ["stale_key", "wrong_key"])
async def test_a_slot_that_holds_another_key_is_found(kind):
    told = check_keyslots(await system(EngineFaults(**{kind: Fault(nth=2)})), "d0")
    assert keyslots_text(told) == [
        "d0: 1 of 1 keyslots hold keys, 1 wrong",
        "  WRONG: keyslot 0 should hold key other, and does not encrypt with it",
    ]


async def test_a_key_that_stayed_after_its_eviction_is_found():
    built = await system(EngineFaults(evict=Fault(nth=1)))
    evict_key(built.disks["d0"], OTHER)
    (wrong,) = check_keyslots(built, "d0")["wrong"]
    assert wrong["text"] == "is empty by the books and still holds a key in the hardware"


async def test_looking_lets_no_fault_strike_and_counts_nothing():
    built = await system(EngineFaults(dun=Fault(nth=3), reset=Fault(nth=4)))
    slots = built.disks["d0"].engine.slots.slots.slots
    before = [replace(slot.counts) for slot in slots]
    for _ in range(5):
        assert check_keyslots(built, "d0")["wrong"] == []
    assert [slot.counts for slot in slots] == before


async def test_a_wrapped_key_is_compared_by_what_is_derived_from_it():
    by = KeyManager()
    built = await system(slots=3, manager=by)
    config = CryptoConfig(MODE, 4096, 8, KeyType.HW_WRAPPED)
    key = CryptoKey("w", config, by.prepare_key(by.generate_key()))
    await write(built.disks["d0"], 0, pattern(4096), key)
    assert check_keyslots(built, "d0")["used"] == 3
    assert check_keyslots(built, "d0")["wrong"] == []
    by.wipe()
    assert [one["key"] for one in check_keyslots(built, "d0")["wrong"]] == ["w"]


async def test_hardware_without_keyslots_has_none_to_look_into():
    built = await system()
    built.add_disk(make_disk("plain"))
    built.add_disk(make_disk("fmp", slots=0))
    for name in ("plain", "fmp"):
        assert keyslots_text(check_keyslots(built, name)) == [f"{name}: no keyslots"]
    with pytest.raises(StackError) as caught:
        check_keyslots(built, "nobody")
    assert caught.value.errno == errno.ENXIO
