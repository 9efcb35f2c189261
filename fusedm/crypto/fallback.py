"""The software path of one device: what is done where a context cannot be honoured natively.

Every device has its own, a mapped device too: there it serves bios for targets that do not pass
crypto, and data units that a split would cut. Its keyslots are held around the transform only,
never while a bio is on its way below.
"""

from collections.abc import Callable

from fusedm.block import Bio, CryptoKey, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.plan import Node, Route, SlotHold, SoftwareCrypt
from fusedm.crypto.profile import KeyslotProfile

#: As many as the kernel's fallback has (its num_keyslots parameter).
FALLBACK_KEYSLOTS = 100


class Fallback:
    """Software encryption for one device.

    Lives: as long as its device.
    """

    def __init__(self, device_name: str) -> None:
        self.device_name = device_name
        self._started: set[str] = set()
        #: Made when the first bio needs it: most devices of a large stack never do.
        self._profile: KeyslotProfile | None = None

    def start(self, mode: str) -> None:
        """Make ready for keys of a mode; until then bios with such a key fail.

        Source: blk_crypto_fallback_start_using_mode.
        """
        self._started.add(mode)

    def plan(self, bio: Bio, route: Route, below: Callable[[Bio], Node]) -> SoftwareCrypt:
        """The crypto point for a bio: here, with what goes on without context planned by below.

        Raises: BlockIOError: IOERR if the mode was never started; else NOTSUPP for a wrapped key.
        Source: blk_crypto_fallback_bio_prep, for the order.
        """
        assert bio.crypt is not None, "a crypto point needs a context"
        mode = bio.crypt.key.config.mode
        if mode not in self._started:
            raise BlockIOError(
                Status.IOERR,
                self.device_name,
                f"{mode} used before start_using_key readied the fallback",
            )
        if bio.crypt.key.config.is_wrapped:
            text = f"{bio}: key {bio.crypt.key.name!r} is hardware-wrapped, no software can use it"
            raise BlockIOError(Status.NOTSUPP, self.device_name, text)
        bounce = bio.data if bio.op is Op.READ else memoryview(bytearray(len(bio.data)))
        child = below(bio.with_data(bounce))
        return SoftwareCrypt(self, bio, bounce, child, route, self.device_name)

    @property
    def slot_count(self) -> int:
        """How many keyslots it has, once it has any."""
        return FALLBACK_KEYSLOTS

    def slot_of(self, key: CryptoKey) -> int | None:
        """The slot that holds the key or is being given it; None if none is."""
        return self._profile.slot_of(key) if self._profile is not None else None

    def is_ready(self, key: CryptoKey) -> bool:
        """Whether the key is in a slot and nobody is waiting."""
        return self._profile is not None and self._profile.is_ready(key)

    def take_now(self, key: CryptoKey) -> SlotHold:
        """A slot that has the key; only after is_ready."""
        assert self._profile is not None, "only after is_ready"
        return self._profile.take_now(key)

    async def take(self, key: CryptoKey) -> SlotHold:
        """A slot with the key, waited for if need be."""
        if self._profile is None:
            self._profile = KeyslotProfile(FALLBACK_KEYSLOTS)
        return await self._profile.take(key)

    def check_evictable(self, key: CryptoKey) -> None:
        """Raises: KeyBusy while a transform uses the key."""
        if self._profile is not None:
            self._profile.check_evictable(key)

    def evict(self, key: CryptoKey) -> None:
        """Forget the key."""
        if self._profile is not None:
            self._profile.evict(key)
