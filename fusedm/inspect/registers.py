"""Do keyslots hold the keys they should? Each is asked to encrypt, and a second implementation too.

That finds what never shows on the media of a sound view: a slot that was programmed with another
key, or kept the one it had, and one whose key is still there after it was evicted.
"""

from typing import Any

from fusedm.block import CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.crypto import KeyslotProfile, SlotState
from fusedm.disk import Disk
from fusedm.inspect.data_keys import inline_key
from fusedm.inspect.independent import encrypt_unit
from fusedm.system import System

Json = dict[str, Any]

_DUN = 0


def check_keyslots(system: System, name: str) -> Json:
    """Each keyslot of a disk's engine that does not hold what it should, and how many are used.

    Slots that are being programmed are passed over. Nothing is counted, and no fault strikes.
    Raises: StackError(ENXIO).
    """
    disk = system.disk(name)
    told: Json = {"name": name, "keyslots": 0, "used": 0, "wrong": []}
    if disk.engine is None or not isinstance(disk.engine.slots, KeyslotProfile):
        return told
    profile = disk.engine.slots
    told["keyslots"] = profile.slot_count
    for index, slot in enumerate(profile.slots.slots):
        key = slot.key
        cipher = profile.register_cipher(index)
        if slot.state is SlotState.EMPTY and cipher is not None:
            text = "is empty by the books and still holds a key in the hardware"
            told["wrong"].append({"slot": index, "key": None, "text": text})
        if key is None or slot.state not in (SlotState.IDLE, SlotState.IN_USE):
            continue
        told["used"] += 1
        data = bytes(range(256)) * (key.config.data_unit_size // 256)
        found = bytearray(len(data))
        assert cipher is not None, f"keyslot {index} has no key to encrypt with"
        cipher.encrypt(_DUN, memoryview(data), memoryview(found))
        if bytes(found) != _wanted(disk, key, data):
            text = f"should hold key {key.name}, and does not encrypt with it"
            told["wrong"].append({"slot": index, "key": key.name, "text": text})
    return told


def _wanted(disk: Disk, key: CryptoKey, data: bytes) -> bytes | None:
    try:
        return encrypt_unit(key.config.mode, bytes(inline_key(disk, key).raw), _DUN, data)
    except CryptoError:
        return None
