"""Which key slots a LUKS header has, and how each is opened. Pure."""

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from fusedm.block.errors import CryptoError
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto.luks_keys import Derivation, KeySlot

_SLOT_ACTIVE = 0x00AC71F3
_HEAD = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_SLOTS = 8


def key_slots(head: bytes, cipher: str, metadata: Mapping[str, Any]) -> list[KeySlot]:
    """Those of either version: with metadata LUKS2, else LUKS1.

    Raises: CryptoError(EINVAL) for metadata that are none.
    """
    try:
        return list(_key_slots_2(metadata) if metadata else _key_slots_1(head, cipher))
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        raise CryptoError("the key slots of the header are not understood") from None


def _key_slots_1(head: bytes, cipher: str) -> Iterator[KeySlot]:
    """The active slots in a header of LUKS1, which are under the cipher of the payload."""
    _, _, _, _, digest, _, size, checked, salt, iterations, _ = _HEAD.unpack_from(head)
    hashed = digest.partition(b"\0")[0].decode(errors="replace")
    for number in range(_SLOTS):
        state, times, own_salt, offset, stripes = _SLOT.unpack_from(
            head, _HEAD.size + number * _SLOT.size
        )
        if state == _SLOT_ACTIVE:
            yield KeySlot(
                number, cipher, offset * SECTOR_SIZE, size, size, stripes, hashed,
                Derivation("pbkdf2", own_salt, times, hashed),
                Derivation("pbkdf2", salt, iterations, hashed), checked,
            )  # fmt: skip


def _key_slots_2(metadata: Mapping[str, Any]) -> Iterator[KeySlot]:
    """The slots in metadata of LUKS2 that have the key of the first segment, best first.

    Raises: KeyError, ValueError, TypeError, AttributeError, IndexError for what is not metadata.
    """
    digest = [each for each in metadata["digests"].values() if "0" in each["segments"]][0]
    check, checked = _derivation(digest), base64.b64decode(digest["digest"])
    named = [(number, metadata["keyslots"][number]) for number in digest["keyslots"]]
    named.sort(key=lambda each: -int(each[1].get("priority", 1)))
    for number, slot in named:
        if slot["type"] == "luks2":
            area, splitter = slot["area"], slot["af"]
            yield KeySlot(
                int(number), str(area["encryption"]), int(area["offset"]),
                int(slot["key_size"]), int(area["key_size"]), int(splitter["stripes"]),
                str(splitter["hash"]), _derivation(slot["kdf"]), check, checked,
            )  # fmt: skip


def _derivation(told: Mapping[str, Any]) -> Derivation:
    return Derivation(
        kind=str(told["type"]),
        salt=base64.b64decode(told["salt"]),
        iterations=int(told["iterations"] if "iterations" in told else told["time"]),
        digest=str(told.get("hash", "")),
        memory=int(told.get("memory", 0)),
        lanes=int(told.get("cpus", 0)),
    )
