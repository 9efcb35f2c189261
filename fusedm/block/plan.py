"""Plans: what is to be done for a bio, decided before anything is done.

Planning is pure. A device answers a bio with a node; nodes nest as devices do. Whoever carries out
a plan (crypto/carry_out.py) makes no decision of its own, so the waiting way and the way on the
spot cannot differ. A plan also collects, in its builder, what must be known before the first
effect: which devices the bio passes, and which leaf sectors will be written.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from fusedm.block.bio import Bio, Op
from fusedm.block.capabilities import Capabilities
from fusedm.block.crypt_ctx import CryptoKey
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.range_locks import Extent, RangeLocks
from fusedm.block.stats import CryptoCounts, IoStats
from fusedm.block.value import value

#: The extents a bio has passed on its way down, whose counters learn how it was encrypted.
Route = tuple[CryptoCounts, ...]


class Cipher(Protocol):
    """A key made ready for use.

    Await: never. Both transform every data unit of src into dst (which may be src).
    Shapes: src and dst of equal length, a whole number of data units.
    """

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None: ...
    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None: ...


class SectorCipher(Cipher, Protocol):
    """A key made ready whose data units are sectors numbered by 512 bytes, whatever their size."""

    def is_slow(self, length_bytes: int) -> bool:
        """Whether transforming so much belongs in a worker thread."""


class SlotHold(Protocol):
    """A keyslot in use: its cipher, until released; count_hits counts further uses of this hold."""

    @property
    def cipher(self) -> Cipher: ...

    def release(self) -> None: ...
    def count_hits(self, count: int) -> None: ...


class KeyslotSource(Protocol):
    """Where a carried-out node gets its keyslot: an engine's profile or a fallback.

    slot_count is 0 where keys go along with requests.
    """

    @property
    def slot_count(self) -> int: ...

    def slot_of(self, key: CryptoKey) -> int | None:
        """The keyslot that holds the key or is being given it; None if none is."""

    def is_ready(self, key: CryptoKey) -> bool:
        """Whether take_now would succeed."""

    def take_now(self, key: CryptoKey) -> SlotHold:
        """A slot that already holds the key; only after is_ready, in the same synchronous step."""

    def take(self, key: CryptoKey) -> Awaitable[SlotHold]:
        """A slot, waited for and programmed if need be."""


class Leaf(Protocol):
    """Where a bio ends: it reads and writes bytes of a medium.

    engine_slots are those of the engine it has now, engine_stats counts the bios on it. direct_fd
    is a descriptor of the medium, at its own offsets, if one may be used instead of perform; where
    the medium is at a server that has them, lines are connections for the same, but no flush. seek
    finds where data begin, or what is none, at a byte offset or after it.
    perform is for where may_block says that there is nothing to wait for; else perform_waiting is,
    which waits for what waits_on says.
    """

    @property
    def name(self) -> str: ...
    @property
    def engine_slots(self) -> KeyslotSource: ...

    @property
    def engine_stats(self) -> IoStats: ...
    @property
    def fallback(self) -> KeyslotSource: ...

    @property
    def range_locks(self) -> RangeLocks: ...
    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def waits_on(self) -> str: ...
    def may_block(self, op: Op) -> bool: ...
    def direct_fd(self) -> int | None: ...
    @property
    def has_lines(self) -> bool: ...
    def lines(self, make: Callable[[float, int, bool], Any]) -> Any: ...
    def seek(self, offset: int, for_data: bool) -> Awaitable[int]: ...
    def perform(self, bio: Bio, cipher: Cipher | None) -> None: ...
    def perform_waiting(self, bio: Bio, cipher: Cipher | None) -> Awaitable[None]: ...


@value
class LeafIO:
    """A bio that has arrived at its leaf; with a context the leaf's engine transforms its data.

    slots are the engine's it was planned for: it is carried out there, whatever the leaf has now.
    """

    leaf: Leaf
    bio: Bio
    route: Route
    slots: KeyslotSource | None = None


@value
class SoftwareCrypt:
    """A crypto point in software: bio's data are transformed here, child goes on without context.

    For a WRITE child writes the bounce buffer; for a READ child fills bio.data, which is bounce.
    """

    slots: KeyslotSource
    bio: Bio
    bounce: memoryview
    child: "Node"
    route: Route
    device_name: str


@value
class Transformed:
    """A target's own encryption: bio's data are transformed here, child goes on with the others.

    number is that of the first sector. bounce is as for SoftwareCrypt.
    """

    cipher: SectorCipher
    number: int
    bio: Bio
    bounce: memoryview
    child: "Node"


@value
class Concat:
    """Parts independent of each other: the first error wins, the others are still carried out."""

    parts: tuple["Node", ...]


@value
class InOrder:
    """Parts one after the other, each only if those before have gone well."""

    parts: tuple["Node", ...]


@value
class Legs:
    """The same data in several places: every part is carried out, then what came of each is seen.

    then is shown the error of each part, in their order, or None; it raises the error of the whole,
    or returns what is still to be done, if anything. The plan's range locks are held meanwhile.
    """

    bio: Bio
    parts: tuple["Node", ...]
    then: Callable[[list[BlockIOError | None]], Awaitable[None] | None]


@value
class Delayed:
    """A child that starts after a time, or as soon as hurry is over; note counts waits."""

    seconds: float
    child: "Node"
    hurry: Callable[[], Awaitable[None]]
    note: Callable[[int], None] | None = None


@value
class Scripted:
    """Several bios one after the other, planned and carried out on their own when run is called."""

    bio: Bio
    run: Callable[[], Awaitable[None]]


@value
class Completed:
    """Done without any device: a READ gets zeros, everything else is dropped."""

    bio: Bio


@value
class Failed:
    """Fails without any effect.

    The error is made when it is raised: one in a plan would hold the plan, by way of its traceback.
    """

    status: Status | int
    device_name: str
    bio: Bio

    def error(self) -> BlockIOError:
        """What it fails with."""
        return BlockIOError(self.status, self.device_name, str(self.bio))


@value
class Hooked:
    """A child whose end is shown to its target, which may change the data read or the error."""

    end_io: Callable[[Bio, BlockIOError | None], BlockIOError | None]
    bio: Bio
    child: "Node"


@value
class Patch:
    """A read-modify-write of one block: read, replace payload at offset, write back."""

    read: "Node"
    block: memoryview
    offset: int
    payload: memoryview
    write: "Node"


Node = (
    LeafIO
    | SoftwareCrypt
    | Transformed
    | Concat
    | InOrder
    | Legs
    | Delayed
    | Scripted
    | Completed
    | Failed
    | Hooked
    | Patch
)


#: Called with a device, the bio it was given and the node it answered with, from below upwards.
Trace = Callable[[Any, Bio, Node], None]


@dataclass(slots=True)
class PlanBuilder:
    """What a plan has to announce before its first effect.

    visits: every device the bios pass, to be counted in flight.
    extents: every leaf range that will be written, and what scripts lock, to be locked.
    turn: what scripts that lock something take turns by, since a plan holds its locks for all of
        them; made with the first.
    trace: shown every bio a device was asked about, and its answer, by those who explain a plan.
    """

    visits: list[tuple[IoStats, Op, int]] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)
    turn: AbstractAsyncContextManager[object] | None = None
    trace: Trace | None = None


@value
class Plan:
    """A root node and what its builder collected."""

    root: Node
    visits: list[tuple[IoStats, Op, int]]
    extents: list[Extent]

    def begin(self) -> list[tuple[IoStats, Op, int, float]]:
        """Its bios are in flight from now on; returns what is to be given to end."""
        return [(stats, op, count, stats.begin(op)) for stats, op, count in self.visits]

    @staticmethod
    def end(began: list[tuple[IoStats, Op, int, float]]) -> None:
        """Its bios have ended, well or not."""
        for stats, op, count, when in began:
            stats.end(op, count, when)
