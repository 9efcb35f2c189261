"""The keyslot state machine: which slot holds which key, and who uses it. Pure and synchronous.

    state               event              next                  note
    EMPTY               choose             PROGRAMMING(key)      leaves the idle list
    IDLE(k)             find k             IN_USE(k, 1)          leaves the idle list
    IDLE(k)             choose             PROGRAMMING(key)      k is forgotten now
    IDLE(k)             evict k            EMPTY                 keeps its place in the idle list
    PROGRAMMING(key)    programmed         IN_USE(key, 1)
    PROGRAMMING(key)    program_failed     EMPTY                 at the head of the idle list
    IN_USE(k, n)        find k             IN_USE(k, n + 1)
    IN_USE(k, n)        release            IN_USE(k, n - 1), or IDLE(k) at the tail of the idle list
    IN_USE, PROGRAMMING evict k            KeyBusy, nothing changes
    IDLE(k)             lose_keys          REPROGRAMMING(k)      keeps its place in the idle list
    REPROGRAMMING(k)    reprogrammed       IDLE(k)               keeps its place in the idle list
    REPROGRAMMING(k)    reprogram_failed   EMPTY                 keeps its place in the idle list
    REPROGRAMMING(k)    evict k            KeyBusy, nothing changes

A reset of the hardware is begin_reset, lose_keys once nothing is in use or being programmed, an end
of reprogramming for each slot that had a key, end_reset. From begin_reset to end_reset find and
choose answer None, so that no bio meets a register that has lost its key; who has a slot keeps it.

Why PROGRAMMING is a state: programming a slot takes time, and whoever awaits in the middle lets
others run. If the slot were still idle then, or still known under its old key, another bio could
take it and be encrypted with the wrong key. So the slot leaves the idle list and the key index in
the same synchronous step in which it is chosen. The kernel does the same with a write lock.

Three departures from the kernel (block/blk-crypto-profile.c): a failed programming leaves the slot
empty, after a reset as well, where the kernel keeps a key listed over hardware that may not have
it; a busy key is not unlinked by a refused eviction; and a reset waits for bios in flight, which
the kernel leaves to the driver, whose error handling has ended or requeued them by then.

Change together: the table above, the code below and the table in its test.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.errors import KeyBusy


class SlotState(Enum):
    """What a keyslot is at."""

    EMPTY = "empty"
    IDLE = "idle"
    PROGRAMMING = "programming"
    IN_USE = "in use"
    REPROGRAMMING = "reprogramming"


@dataclass(slots=True)
class SlotCounts:
    """What has happened to one slot.

    hits: uses of the key that found it programmed. waits: uses that had to queue up before.
    """

    hits: int = 0
    programs: int = 0
    evictions: int = 0
    waits: int = 0


@dataclass(slots=True)
class Keyslot:
    """One slot: state, the key it holds or is being given, and how many bios use it."""

    state: SlotState = SlotState.EMPTY
    key: CryptoKey | None = None
    users: int = 0
    counts: SlotCounts = field(default_factory=SlotCounts)


class Keyslots:
    """The slots of one crypto profile. Keys are told apart by identity."""

    def __init__(self, slot_count: int) -> None:
        assert slot_count > 0, "a profile without keyslots has no such machine"
        self.slots = [Keyslot() for _ in range(slot_count)]
        #: EMPTY, IDLE and REPROGRAMMING slots by index, least recently used first.
        self._idle: OrderedDict[int, None] = OrderedDict.fromkeys(range(slot_count))
        self._by_key: dict[CryptoKey, int] = {}
        self.is_resetting = False

    def index_of(self, key: CryptoKey) -> int | None:
        """The slot that holds the key or is being programmed with it; nothing changes."""
        return self._by_key.get(key)

    def is_usable(self, key: CryptoKey) -> bool:
        """Whether find would succeed; nothing changes."""
        index = self._by_key.get(key)
        if index is None or self.is_resetting:
            return False
        return self.slots[index].state in (SlotState.IDLE, SlotState.IN_USE)

    def find(self, key: CryptoKey) -> int | None:
        """Use the slot that holds the key; None if no slot does, or not yet."""
        if not self.is_usable(key):
            return None
        index = self._by_key[key]
        slot = self.slots[index]
        if slot.state is SlotState.IDLE:
            del self._idle[index]
        slot.state = SlotState.IN_USE
        slot.users += 1
        slot.counts.hits += 1
        return index

    def choose(self, key: CryptoKey) -> int | None:
        """Take the least recently used idle slot to program the key into it; None if none is idle.

        A key already in a slot, or on its way into one, never gets a second one: None as well.
        """
        if key in self._by_key or not self._idle or self.is_resetting:
            return None
        index, _ = self._idle.popitem(last=False)
        slot = self.slots[index]
        if slot.key is not None:
            del self._by_key[slot.key]
        slot.state, slot.key = SlotState.PROGRAMMING, key
        self._by_key[key] = index
        return index

    def programmed(self, index: int) -> None:
        """The chosen slot holds its key now, and whoever chose it is its first user."""
        slot = self.slots[index]
        assert slot.state is SlotState.PROGRAMMING, f"slot {index} is {slot.state.value}"
        slot.state, slot.users = SlotState.IN_USE, 1
        slot.counts.programs += 1

    def program_failed(self, index: int) -> None:
        """What the chosen slot holds is not known: it is empty, and the next to be chosen."""
        slot = self.slots[index]
        assert slot.state is SlotState.PROGRAMMING, f"slot {index} is {slot.state.value}"
        self._forget(slot)
        self._idle[index] = None
        self._idle.move_to_end(index, last=False)

    def release(self, index: int) -> None:
        """One user less; the key stays programmed."""
        slot = self.slots[index]
        assert slot.state is SlotState.IN_USE, f"slot {index} is {slot.state.value}"
        slot.users -= 1
        if slot.users == 0:
            slot.state = SlotState.IDLE
            self._idle[index] = None

    def check_evictable(self, key: CryptoKey) -> None:
        """Raises: KeyBusy while the key is in use or being programmed."""
        index = self._by_key.get(key)
        if index is not None and self.slots[index].state is not SlotState.IDLE:
            state = self.slots[index].state
            what = "in use" if state is SlotState.IN_USE else "being programmed"
            raise KeyBusy(f"key {key.name!r} is {what} in keyslot {index}")

    def evict(self, key: CryptoKey) -> int | None:
        """Forget the key; returns the slot that held it, None if there was none.

        Raises: KeyBusy.
        """
        self.check_evictable(key)
        index = self._by_key.get(key)
        if index is not None:
            self._forget(self.slots[index])
            self.slots[index].counts.evictions += 1
        return index

    # A reset of the hardware.

    @property
    def is_drained(self) -> bool:
        """Whether no slot is in use or being programmed."""
        busy = (SlotState.IN_USE, SlotState.PROGRAMMING)
        return all(slot.state not in busy for slot in self.slots)

    def begin_reset(self) -> None:
        """Give no slot out any more; those that are out come back."""
        assert not self.is_resetting, "one reset at a time"
        self.is_resetting = True

    def lose_keys(self) -> list[int]:
        """The hardware has forgotten every key: the slots to be programmed anew, in their order."""
        assert self.is_resetting, "only in a reset"
        assert self.is_drained, "a slot is in use"
        lost = [index for index, slot in enumerate(self.slots) if slot.key is not None]
        for index in lost:
            self.slots[index].state = SlotState.REPROGRAMMING
        return lost

    def reprogrammed(self, index: int) -> None:
        """A slot has its key again."""
        slot = self.slots[index]
        assert slot.state is SlotState.REPROGRAMMING, f"slot {index} is {slot.state.value}"
        slot.state = SlotState.IDLE
        slot.counts.programs += 1

    def reprogram_failed(self, index: int) -> None:
        """A slot has not got its key back."""
        slot = self.slots[index]
        assert slot.state is SlotState.REPROGRAMMING, f"slot {index} is {slot.state.value}"
        self._forget(slot)

    def end_reset(self) -> None:
        """Give slots out again; whatever has not been programmed anew is empty."""
        assert self.is_resetting, "only in a reset"
        for index, slot in enumerate(self.slots):
            if slot.state is SlotState.REPROGRAMMING:
                self.reprogram_failed(index)
        self.is_resetting = False

    def _forget(self, slot: Keyslot) -> None:
        assert slot.key is not None, "an empty slot has nothing to forget"
        del self._by_key[slot.key]
        slot.state, slot.key, slot.users = SlotState.EMPTY, None, 0

    def check_invariants(self) -> None:
        """What holds between any two events."""
        for index, slot in enumerate(self.slots):
            idle = slot.state not in (SlotState.IN_USE, SlotState.PROGRAMMING)
            assert idle == (index in self._idle), f"slot {index}: idle list"
            assert (slot.users > 0) == (slot.state is SlotState.IN_USE), f"slot {index}: users"
            assert (slot.key is None) == (slot.state is SlotState.EMPTY), f"slot {index}: key"
            assert slot.key is None or self._by_key[slot.key] == index, f"slot {index}: index"
            lost = slot.state is SlotState.REPROGRAMMING
            assert not lost or self.is_resetting, f"slot {index}: not in a reset"
        assert len(self._by_key) == sum(slot.key is not None for slot in self.slots), "stale keys"
