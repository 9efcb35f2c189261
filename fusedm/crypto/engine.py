"""The emulated inline encryption engine: capabilities, and a profile that holds its keys."""

import errno

from fusedm.block import Capabilities, CryptoKey, KeyType
from fusedm.block.errors import CryptoError
from fusedm.block.plan import Cipher
from fusedm.crypto.ciphers import make_cipher
from fusedm.crypto.engine_faults import EngineFaults, FaultyHardware
from fusedm.crypto.profile import (
    KeyslotProfile,
    PassthroughProfile,
    Profile,
    ProgramHook,
    ResetResult,
)
from fusedm.crypto.wrapped_keys import KeyManager


class EngineCiphers:
    """An engine's ciphers; wrapped keys are unwrapped for them."""

    def __init__(self, key_manager: KeyManager | None = None) -> None:
        self._key_manager = key_manager
        self.takes_weak_keys = False

    def make(self, key: CryptoKey) -> Cipher:
        """A key made ready for use.

        Raises: CryptoError: EINVAL for a key the mode refuses, EBADMSG for a wrapped key that is
                not this engine's, EOPNOTSUPP where there is no key manager.
        """
        if not key.config.is_wrapped:
            return make_cipher(key, self.takes_weak_keys)
        if self._key_manager is None:
            text = f"key {key.name!r} is hardware-wrapped, this engine takes raw keys only"
            raise CryptoError(text, errno.EOPNOTSUPP)
        inline = self._key_manager.inline_key(key)
        try:
            return make_cipher(inline, self.takes_weak_keys)
        finally:
            inline.wipe()


class InlineEngine:
    """Hardware on the way to a store, that transforms the data of bios that carry a context.

    keyslots = 0 is hardware that takes key and DUN with each request. The next two arguments are
    the knobs of the emulation: how long programming takes, and a hook that may make it fail. An
    engine for wrapped keys has a key manager: one that it shares with others, or one of its own.
    faults are what goes wrong in it.
    Owns: its profile. Lives: as long as its disk.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        keyslots: int,
        program_latency_seconds: float = 0.0,
        before_program: ProgramHook | None = None,
        key_manager: KeyManager | None = None,
        faults: EngineFaults | None = None,
    ) -> None:
        self.capabilities = capabilities
        if key_manager is None and KeyType.HW_WRAPPED in capabilities.key_types:
            key_manager = KeyManager()
        self.key_manager = key_manager
        self.hardware = FaultyHardware(faults) if faults is not None else None
        self._ciphers = EngineCiphers(key_manager)
        self.slots: Profile = (
            KeyslotProfile(
                keyslots, program_latency_seconds, before_program, self._ciphers.make, self.hardware
            )
            if keyslots
            else PassthroughProfile(self._ciphers.make, self.hardware)
        )

    def take_weak_keys(self) -> None:
        """Take XTS keys of equal halves, as hardware does; for strict mode."""
        self._ciphers.takes_weak_keys = True

    def check_key(self, key: CryptoKey) -> None:
        """Refuse a wrapped key that this engine cannot use.

        Raises: CryptoError: EOPNOTSUPP for a config it cannot do, EBADMSG for a key not its own.
        """
        if not self.capabilities.supports(key.config):
            text = f"key {key.name!r} is hardware-wrapped, and the engine cannot do {key.config}"
            raise CryptoError(text, errno.EOPNOTSUPP)
        self._ciphers.make(key)

    async def reset(self) -> ResetResult:
        """Reset the hardware: its keys are lost and programmed anew; see KeyslotProfile.reset.

        Raises: CryptoError(EBUSY) while it is being reset already.
        Await:  until no slot is in use, and while keys are programmed.
        """
        return await self.slots.reset()
