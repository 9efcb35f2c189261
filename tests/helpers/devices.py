"""Devices for tests that look at bios, not at bytes."""

import errno
from collections.abc import Callable, Iterable

from fusedm.block import (
    NO_CAPABILITIES,
    Bio,
    BlockDevice,
    Capabilities,
    CryptoKey,
    IoStats,
    KeyHolder,
    Limits,
    Op,
    RangeLocks,
)
from fusedm.block.errors import StackError
from fusedm.block.plan import Cipher, KeyslotSource, LeafIO, Node, PlanBuilder, Route


class RecordingDevice:
    """A leaf that keeps the bios it is asked to plan and to perform; a READ gets zeros.

    Give it underlying devices and it looks like a device that splits bios itself.
    """

    def __init__(
        self,
        name: str,
        sector_count: int,
        capabilities: Capabilities = NO_CAPABILITIES,
        limits: Limits | None = None,
        below: Iterable[BlockDevice] = (),
    ) -> None:
        self.name = name
        self.sector_count = sector_count
        self.capabilities = capabilities
        self.limits = limits or Limits()
        self.read_only = False
        self.strict = False
        self.told: Capabilities | None = None
        self.stats = IoStats()
        self.holders: dict[BlockDevice, None] = {}
        self.locks = RangeLocks()
        self.planned: list[Bio] = []
        self.performed: list[Bio] = []
        self._below = tuple(below)

    def plan(self, bio: Bio, builder: PlanBuilder, route: Route) -> Node:
        """Keep the bio and say that it ends here."""
        self.planned.append(bio)
        builder.visits.append((self.stats, bio.op, bio.sector_count))
        if bio.op.changes_medium:
            builder.extents.append((self.locks, bio.sector, bio.end_sector))
        return LeafIO(self, bio, route)

    def underlying(self) -> Iterable[BlockDevice]:
        """The devices it was given."""
        return self._below

    def start_using_key(self, key: CryptoKey) -> None:
        """Nothing to ready."""

    def key_users(self, key: CryptoKey) -> Iterable[KeyHolder]:
        """No keyslots here."""
        return ()

    @property
    def engine_slots(self) -> KeyslotSource:
        """There are none: a bio with a context may be planned here, not carried out."""
        raise AssertionError(f"{self.name} has no keyslots")

    def may_block(self, op: Op) -> bool:
        """Never."""
        return False

    def perform(self, bio: Bio, cipher: Cipher | None) -> None:
        """Keep the bio; a READ gets zeros."""
        self.performed.append(bio)
        if bio.op is Op.READ:
            bio.data[:] = bytes(len(bio.data))

    @property
    def waits_on(self) -> str:
        """Nothing."""
        return ""

    async def perform_waiting(self, bio: Bio, cipher: Cipher | None) -> None:
        """On the spot, since nothing here blocks."""
        self.perform(bio, cipher)

    def __repr__(self) -> str:
        return f"RecordingDevice({self.name!r})"


def lookup_in(*devices: BlockDevice) -> Callable[[str], BlockDevice]:
    """A lookup by name, as parse_table wants it; ENXIO for any other name."""
    by_name = {device.name: device for device in devices}

    def lookup(name: str) -> BlockDevice:
        if name not in by_name:
            raise StackError(f"no device is named {name!r}", errno.ENXIO)
        return by_name[name]

    return lookup
