"""An engine that fails on purpose, by counts and a seed: same seed and same calls, same faults.

Every kind of fault has a count and dice of its own, so that one more fault of a kind does not move
those of the others. What the hardware holds is remembered apart from what the keyslot machine
believes: that they differ is what most of these faults are. Ciphers are wrapped, so the compiled
loop of the lane, which takes the engine's own ciphers only, never goes round a fault.
"""

import errno
from collections import Counter
from dataclasses import dataclass, fields
from random import Random
from threading import Lock

from fusedm.block import CryptoKey
from fusedm.block.crypt_ctx import dun_limit
from fusedm.block.errors import BlockIOError, CryptoError, Status
from fusedm.block.plan import Cipher
from fusedm.crypto.ciphers import make_cipher


@dataclass(frozen=True)
class Fault:
    """When a fault strikes: at the nth time (from 1; 0 never), and each time with a probability.

    Raises: CryptoError(EINVAL) that begins with the name of the argument.
    """

    nth: int = 0
    probability: float = 0.0

    def __post_init__(self) -> None:
        if self.nth < 0:
            raise CryptoError(f"nth {self.nth} is not 0 or more")
        if not 0 <= self.probability <= 1:
            raise CryptoError(f"probability {self.probability} is not in 0..1")


NEVER = Fault()

#: The one slot of hardware without keyslots.
NO_SLOT = -1


@dataclass(frozen=True)
class EngineFaults:
    """What goes wrong in an engine, and when.

    program:   a key cannot be programmed; the bio fails with EIO.
    stale_key: a slot reports that it was programmed and goes on with the key it had before.
    wrong_key: a slot is programmed with other bytes than those of the key.
    dun:       a transform begins one data unit number too far.
    evict:     an evicted key stays in the hardware, where a stale slot may use it again.
    reset:     the engine is reset in the middle of a transform; the bio fails with EIO, and every
               key is programmed anew.
    The first three count keys programmed, dun and reset calls of a cipher.
    """

    seed: int = 0
    program: Fault = NEVER
    stale_key: Fault = NEVER
    wrong_key: Fault = NEVER
    dun: Fault = NEVER
    evict: Fault = NEVER
    reset: Fault = NEVER


#: The kinds of faults.
FAULT_KINDS = tuple(known.name for known in fields(EngineFaults) if known.name != "seed")


@dataclass(frozen=True, slots=True)
class Held:
    """What the hardware has in a slot, whatever it was told."""

    key_name: str
    cipher: "FaultyCipher"


class FaultyHardware:
    """The registers of an engine, with its faults.

    A slot is an index; hardware without keyslots has NO_SLOT.
    Owns: its counts and dice, which threads may use at once.
    """

    def __init__(self, faults: EngineFaults) -> None:
        self._faults = faults
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._dice = {kind: Random(f"{faults.seed}:{kind}") for kind in FAULT_KINDS}
        self.held: dict[int, Held] = {}
        #: Whether the engine has been reset under a bio: its keys are to be programmed anew.
        self.lost_keys = False

    def program(self, index: int, key: CryptoKey, cipher: Cipher) -> Cipher:
        """Put a key into a slot; what the slot encrypts with from now on.

        Raises: CryptoError(EIO) where it fails; the slot holds what it held.
        """
        if self.strikes("program"):
            text = f"keyslot {index}: programming key {key.name!r} failed (an injected fault)"
            raise CryptoError(text, errno.EIO)
        if self.strikes("stale_key") and index in self.held:
            return self.held[index].cipher
        if self.strikes("wrong_key"):
            return self._hold(index, f"not {key.name}", key, self._wrong_cipher(key))
        return self.refresh(index, key, cipher)

    def refresh(self, index: int, key: CryptoKey, cipher: Cipher) -> Cipher:
        """Put a key into a slot without any fault."""
        return self._hold(index, key.name, key, cipher)

    def evict(self, index: int) -> None:
        """Clear a slot, unless that is dropped."""
        if not self.strikes("evict"):
            self.held.pop(index, None)

    def strikes(self, kind: str) -> bool:
        """Whether a fault of a kind strikes now; each call is one time more."""
        fault: Fault = getattr(self._faults, kind)
        with self._lock:
            self._counts[kind] += 1
            rolled = self._dice[kind].random() < fault.probability
            return rolled or self._counts[kind] == fault.nth

    def _hold(self, index: int, name: str, key: CryptoKey, cipher: Cipher) -> Cipher:
        faulty = FaultyCipher(cipher, dun_limit(key.config), self)
        self.held[index] = Held(name, faulty)
        return faulty

    def _wrong_cipher(self, key: CryptoKey) -> Cipher:
        config = key.config.as_raw
        wrong = self._dice["wrong_key"].randbytes(config.key_size)
        return make_cipher(CryptoKey("wrong", config, wrong))


class FaultyCipher:
    """A cipher in hardware that may be reset, or miscount."""

    def __init__(self, inner: Cipher, limit: int, hardware: FaultyHardware) -> None:
        #: What it would do without faults.
        self.inner = inner
        self._limit = limit
        self._hardware = hardware

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each data unit of src into dst."""
        self.inner.encrypt(self._used(dun), src, dst)

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each data unit of src into dst."""
        self.inner.decrypt(self._used(dun), src, dst)

    def _used(self, dun: int) -> int:
        if self._hardware.strikes("reset"):
            self._hardware.lost_keys = True
            text = "reset while a bio was in flight (an injected fault)"
            raise BlockIOError(Status.IOERR, "inline engine", text)
        return (dun + 1) % self._limit if self._hardware.strikes("dun") else dun
