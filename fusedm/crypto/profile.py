"""Keyslots with waiting: the shell around the state machine, and the profile that has none.

A profile hands out holds. A hold's cipher is whatever the slot's register holds at that moment, as
in hardware; that it is always the right key is the state machine's doing, not this module's.

Waiting is first come, first served, without exception: while somebody waits, newcomers queue up
even if their key is programmed, so a popular key cannot keep a slot for ever. Nobody holds one
slot of a profile while waiting for another, so the queue always moves.

A reset lets bios that have a slot finish, keeps those that come waiting, and programs every key
anew before it lets them in: no bio ever meets a register that has lost its key.
"""

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.block.plan import Cipher
from fusedm.crypto.ciphers import make_cipher
from fusedm.crypto.engine_faults import NO_SLOT, FaultyHardware
from fusedm.crypto.keyslots import Keyslots, SlotState

#: Called with the slot and key before a slot is programmed; raises to make programming fail.
ProgramHook = Callable[[int, CryptoKey], None]


#: What makes the ciphers that a profile hands out.
KeyMaker = Callable[[CryptoKey], Cipher]


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What a reset has come to, in names of keys: programmed anew, or in no slot any more."""

    reprogrammed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class Turn:
    """A place in the queue for a slot."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def come(self) -> None:
        """It may be worth another try."""
        self._event.set()

    async def wait(self) -> None:
        """Until come is called, once for each wait."""
        await self._event.wait()
        self._event = trio.Event()


class SlotRegister:
    """One keyslot's key register, and the hold on it (all holds of a slot are this one object)."""

    __slots__ = ("_index", "_profile", "loaded")

    def __init__(self, profile: "KeyslotProfile", index: int) -> None:
        self._profile = profile
        self._index = index
        self.loaded: Cipher | None = None

    @property
    def cipher(self) -> Cipher:
        """What the register holds now."""
        assert self.loaded is not None, f"keyslot {self._index} is empty"
        return self.loaded

    def release(self) -> None:
        """End one use."""
        self._profile.release(self._index)

    def count_hits(self, count: int) -> None:
        """Count further uses that were made under this one hold."""
        self._profile.slots.slots[self._index].counts.hits += count


class KeyslotProfile:
    """Keyslot management of one device with slot_count slots.

    Lives: as long as its device.
    """

    def __init__(
        self,
        slot_count: int,
        program_latency_seconds: float = 0.0,
        before_program: ProgramHook | None = None,
        make: KeyMaker = make_cipher,
        faults: FaultyHardware | None = None,
    ) -> None:
        self._make = make
        self.slots = Keyslots(slot_count)
        self._registers = [SlotRegister(self, index) for index in range(slot_count)]
        self._latency = program_latency_seconds
        self._before_program = before_program
        self._faults = faults
        #: In order of arrival; each stays until it has its slot or gives up.
        self._waiters: deque[Turn] = deque()
        #: Set when the slots that a reset waits for have come back.
        self._drained = trio.Event()

    @property
    def slot_count(self) -> int:
        """How many keyslots there are."""
        return len(self._registers)

    def slot_of(self, key: CryptoKey) -> int | None:
        """The slot that holds the key or is being given it; None if none is."""
        return self.slots.index_of(key)

    def register_cipher(self, index: int) -> Cipher | None:
        """What a slot of the hardware encrypts with, whatever it should, for looking only."""
        if self._faults is None:
            return self._registers[index].loaded
        held = self._faults.held.get(index)
        return held.cipher.inner if held is not None else None

    def is_ready(self, key: CryptoKey) -> bool:
        """Whether the key is in a slot and nobody is waiting."""
        return not self._waiters and self.slots.is_usable(key)

    def take_now(self, key: CryptoKey) -> SlotRegister:
        """A hold on the slot that has the key; only after is_ready, without an await between."""
        index = self.slots.find(key)
        assert index is not None, f"{key!r} is in no keyslot"
        return self._registers[index]

    async def take(self, key: CryptoKey) -> SlotRegister:
        """A hold on a slot with the key, programmed if need be.

        Raises: whatever programming fails with; the slot is empty then.
        Await:  until a slot is free, and while it is programmed.
        """
        index = await self._claim(key)
        if self.slots.slots[index].state is SlotState.PROGRAMMING:
            await self._program(index, key)
        self._slots_changed()
        return self._registers[index]

    def release(self, index: int) -> None:
        """End one use of a slot; its key stays."""
        self.slots.release(index)
        if self._faults is not None and self._faults.lost_keys:
            self._faults.lost_keys = False
            self._recover(self._faults)
        self._slots_changed()

    def check_evictable(self, key: CryptoKey) -> None:
        """Raises: KeyBusy while a bio uses the key."""
        self.slots.check_evictable(key)

    def evict(self, key: CryptoKey) -> None:
        """Clear the slot that holds the key, if one does.

        Raises: KeyBusy.
        """
        index = self.slots.evict(key)
        if index is not None:
            self._registers[index].loaded = None
            if self._faults is not None:
                self._faults.evict(index)

    async def reset(self) -> ResetResult:
        """Have the hardware forget its keys, and program every one anew.

        A key that cannot be programmed is in no slot then; the next bio that needs it tries again.
        Raises: CryptoError(EBUSY) while another reset is under way.
        Await:  until no slot is in use, and while keys are programmed. Cancelled, keys that are not
                programmed yet are in no slot.
        Source: blk_crypto_reprogram_all_keys.
        """
        if self.slots.is_resetting:
            raise CryptoError("the engine is being reset already", errno.EBUSY)
        self.slots.begin_reset()
        done: list[str] = []
        failed: list[str] = []
        try:
            self._drained = trio.Event()
            if not self.slots.is_drained:
                await self._drained.wait()
            lost = self.slots.lose_keys()
            for index in lost:
                self._registers[index].loaded = None
            for index in lost:
                await self._reprogram(index, done, failed)
        finally:
            self.slots.end_reset()
            self._slots_changed()
        return ResetResult(tuple(done), tuple(failed))

    async def _reprogram(self, index: int, done: list[str], failed: list[str]) -> None:
        key = self.slots.slots[index].key
        assert key is not None, f"slot {index} had no key to lose"
        try:
            await self._load(index, key)
        except (CryptoError, OSError):
            self.slots.reprogram_failed(index)
            failed.append(key.name)
        else:
            self.slots.reprogrammed(index)
            done.append(key.name)

    def evict_all(self) -> None:
        """Clear every slot but those that bios use."""
        for slot in self.slots.slots:
            if slot.key is not None and slot.state is SlotState.IDLE:
                self.evict(slot.key)

    async def _claim(self, key: CryptoKey) -> int:
        """A slot found in use or chosen for programming, after those who came earlier."""
        index = None if self._waiters else self._try_claim(key)
        if index is not None:
            return index
        turn = Turn()
        self._waiters.append(turn)
        try:
            while True:
                await turn.wait()
                if (index := self._try_claim(key)) is not None:
                    self.slots.slots[index].counts.waits += 1
                    return index
        finally:
            self._waiters.remove(turn)
            self._slots_changed()

    def _try_claim(self, key: CryptoKey) -> int | None:
        index = self.slots.find(key)
        return self.slots.choose(key) if index is None else index

    async def _program(self, index: int, key: CryptoKey) -> None:
        self._registers[index].loaded = None
        try:
            await self._load(index, key)
        except BaseException:
            self.slots.program_failed(index)
            self._slots_changed()
            raise
        self.slots.programmed(index)

    async def _load(self, index: int, key: CryptoKey) -> None:
        """Put a key into a register, as slowly and as badly as the knobs say."""
        if self._latency:
            await trio.sleep(self._latency)
        if self._before_program is not None:
            self._before_program(index, key)
        cipher = self._make(key)
        if self._faults is not None:
            cipher = self._faults.program(index, key, cipher)
        self._registers[index].loaded = cipher

    def _recover(self, hardware: FaultyHardware) -> None:
        """After a reset under a bio: every key again, before the next bio is let in."""
        for index, slot in enumerate(self.slots.slots):
            if slot.key is not None and slot.state in (SlotState.IDLE, SlotState.IN_USE):
                cipher = self._make(slot.key)
                self._registers[index].loaded = hardware.refresh(index, slot.key, cipher)
                slot.counts.programs += 1

    def _slots_changed(self) -> None:
        """Wake who may go on now: the first in the queue, or the reset that waits for slots."""
        if self._waiters:
            self._waiters[0].come()
        if self.slots.is_resetting and self.slots.is_drained:
            self._drained.set()


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The key of a request on hardware that takes it along with each request; nothing is held."""

    cipher: Cipher

    def release(self) -> None:
        """Nothing to give back."""

    def count_hits(self, count: int) -> None:
        """There is no slot to count for."""


class PassthroughProfile:
    """A profile without keyslots: it only says what it can do and forgets keys when told.

    Source: the series' passthrough keyslot manager, today a blk_crypto_profile with num_slots 0.
    """

    slot_count = 0

    def __init__(self, make: KeyMaker = make_cipher, faults: FaultyHardware | None = None) -> None:
        self._make = make
        self._faults = faults
        self._keys: dict[CryptoKey, RequestKey] = {}

    def slot_of(self, key: CryptoKey) -> int | None:
        """None: there are no slots."""
        return None

    def is_ready(self, key: CryptoKey) -> bool:
        """Always: there is nothing to wait for."""
        return True

    def take_now(self, key: CryptoKey) -> RequestKey:
        """The key as the request carries it."""
        if key not in self._keys:
            cipher = self._make(key)
            if self._faults is not None:
                cipher = self._faults.program(NO_SLOT, key, cipher)
            self._keys[key] = RequestKey(cipher)
        return self._keys[key]

    async def take(self, key: CryptoKey) -> RequestKey:
        """The same; never waits."""
        return self.take_now(key)

    def check_evictable(self, key: CryptoKey) -> None:
        """Never busy: no slot is held."""

    def evict(self, key: CryptoKey) -> None:
        """Forget the key."""
        if self._keys.pop(key, None) is not None and self._faults is not None:
            self._faults.evict(NO_SLOT)

    async def reset(self) -> ResetResult:
        """Nothing is programmed, so nothing is lost."""
        return ResetResult()

    def evict_all(self) -> None:
        """Forget every key."""
        self._keys.clear()


Profile = KeyslotProfile | PassthroughProfile
