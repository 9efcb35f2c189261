"""The contract of everything that takes bios.

A device answers a bio with a plan node and carries nothing out itself: bios enter through
crypto.submit_bio, which checks them, asks for the plan and has it carried out. What a device may
rely on when plan is called: the bio lies within the device, its data have the length its sectors
say, a context's data are whole data units whose DUNs fit, and a device that is read-only is not
asked to change its medium.
"""

from collections.abc import Iterable
from typing import Protocol

from fusedm.block.bio import Bio
from fusedm.block.capabilities import Capabilities
from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.limits import Limits
from fusedm.block.plan import Node, PlanBuilder, Route
from fusedm.block.span import Span
from fusedm.block.stats import IoStats


class BlockDevice(Protocol):
    """A disk or a mapped device.

    Units: sector_count in 512-byte sectors.
    """

    @property
    def name(self) -> str:
        """The name users know it by."""

    @property
    def sector_count(self) -> int:
        """Its size now; a mapped device's may change on resume."""

    @property
    def limits(self) -> Limits:
        """What it asks of bios."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can encrypt natively all over."""

    @property
    def read_only(self) -> bool:
        """Whether its medium may not be changed."""

    @property
    def strict(self) -> bool:
        """Whether the kernel's decisions are followed to the letter."""

    @property
    def told(self) -> Capabilities | None:
        """What sys/ has files of, modes and types of keys, if fixed once; None: what is now."""

    @property
    def stats(self) -> IoStats:
        """Its counters."""

    @property
    def holders(self) -> "dict[BlockDevice, None]":
        """The mapped devices that use this one through either table, oldest first."""

    def plan(self, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """What is to be done for the bio.

        Raises: BlockIOError if it cannot be done at all, WouldBlock if it has to wait (suspended).
        Await:  never (pure, but for visits and extents noted in the builder).
        """

    def span(self, sector: int) -> Span:
        """What is known of where a sector and its neighbours lie, whatever the bio.

        Raises: BlockIOError without a medium, WouldBlock while suspended.
        """

    def flush_span(self) -> Span | None:
        """Which leaves a FLUSH reaches, as the legs of a span; None if more comes of it than that.

        Raises: as span.
        """

    def underlying(self) -> "Iterable[BlockDevice]":
        """The devices directly below, each once."""

    def start_using_key(self, key: CryptoKey) -> None:
        """Ready every software path that a bio with this key may need here or below.

        Raises: CryptoError, before anything is changed, if some path cannot be readied.
        """

    def key_users(self, key: CryptoKey) -> "Iterable[KeyHolder]":
        """Every keyslot holder, here or below, on which the key was started."""


class KeyHolder(Protocol):
    """Something with keyslots: an engine or a fallback."""

    def check_evictable(self, key: CryptoKey) -> None:
        """Raises: KeyBusy while a bio uses the key."""

    def evict(self, key: CryptoKey) -> None:
        """Forget the key; nothing happens if it is not known."""
