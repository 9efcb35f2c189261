"""The emulated inline encryption engine: capabilities, and a profile that holds its keys."""

from fusedm.block import Capabilities
from fusedm.crypto.ciphers import ENGINE
from fusedm.crypto.profile import (
    KeyslotProfile,
    PassthroughProfile,
    Profile,
    ProgramHook,
    ResetResult,
)


class InlineEngine:
    """Hardware on the way to a store, that transforms the data of bios that carry a context.

    keyslots = 0 is hardware that takes key and DUN with each request. The last two arguments are
    the knobs of the emulation: how long programming takes, and a hook that may make it fail.
    Owns: its profile. Lives: as long as its disk.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        keyslots: int,
        program_latency_seconds: float = 0.0,
        before_program: ProgramHook | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.slots: Profile = (
            KeyslotProfile(keyslots, program_latency_seconds, before_program, ENGINE)
            if keyslots
            else PassthroughProfile(ENGINE)
        )

    async def reset(self) -> ResetResult:
        """Reset the hardware: its keys are lost and programmed anew; see KeyslotProfile.reset.

        Raises: CryptoError(EBUSY) while it is being reset already.
        Await:  until no slot is in use, and while keys are programmed.
        """
        return await self.slots.reset()
