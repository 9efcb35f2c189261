"""What a target is: a class that says what should happen to a bio; the mapped device does it.

A target is one file in targets/ (with its .md and its test) holding one Target subclass; the
registry finds it by the file's name. Everything a target does is pure and synchronous: it is asked
to map a bio and answers with an action. Time is an action too (Defer), and so is I/O of its own
(Script), which is written as a generator of steps. The same form serves what happens in a target's
life (life.py), and in the background.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from fusedm.block import Bio, BlockDevice, CryptoKey, Generation, Limits, Op
from fusedm.block.errors import (
    BlockIOError,
    StackError,
    Status,
)
from fusedm.block.plan import SectorCipher
from fusedm.block.range_locks import Extent
from fusedm.block.units import MAX_SECTORS
from fusedm.block.value import value
from fusedm.dm.signal import Signal
from fusedm.dm.turns import Steps, Turns

if TYPE_CHECKING:
    from fusedm.dm.arguments import Arguments


@value
class Remap:
    """Send the bio to a device below; its sector is relative to that device."""

    device: BlockDevice
    bio: Bio


@value
class Transform:
    """Encrypt what then writes, or decrypt what it reads; number is that of the first sector.

    keeps_zeros: the cipher leaves a sector of zeros as it is.
    """

    cipher: SectorCipher
    number: int
    then: Remap
    keeps_zeros: bool = False


@value
class Complete:
    """Done here: a READ gets zeros as a medium would have them, all else is dropped with success.

    bio is the part of the bio that is meant; None: all of it.
    """

    bio: Bio | None = None


@value
class Fail:
    """Fail without touching anything below."""

    status: Status


@value
class Defer:
    """Do then after a time; suspending the device ends the wait at once.

    note is called with 1 when the wait begins and with -1 when it is over.
    """

    seconds: float
    then: "Action"
    note: Callable[[int], None] | None = None


@value
class Many:
    """Several independent actions for one bio, as a flush of every stripe."""

    actions: tuple["Action", ...]


@value
class Each:
    """The same bio, or parts of it, for several devices, where what comes of each matters.

    All are carried out; none of their errors is raised. As a step it is answered with the error of
    each, in their order, or None, and may have scripts, which run at the same time. As an action,
    then is shown these errors, and says what is still to be done, if anything; what it raises is
    how the bio ends. The ranges that a WRITE goes to are locked until that is done, so it writes
    elsewhere.
    """

    actions: "tuple[Remap | Complete | Fail | Script, ...]"
    then: "Callable[[list[BlockIOError | None]], Steps[None] | None]" = lambda outcomes: None


@value
class Wait:
    """A step that waits for a signal, or for a time; answered with whether it was the signal."""

    signal: Signal | None = None
    seconds: float = inf


@value
class Quiesce:
    """A step of a background script: wait until all bios have ended that were planned before."""


@value
class Script:
    """Do several things for one bio, one after the other, as copying before a write.

    is_repeatable: where a step comes to a suspended device the script is given up with its locks
    and begun anew later, a bio's by planning the whole bio anew; else it waits there, and so does
    all that waits for what it holds. None: as the script whose step it is, and a bio's waits.

    locks are held throughout: ranges of sectors of whatever they are of. As a step, in the script
    of something else, it is answered with what its steps return.
    """

    steps: Callable[[], Steps[Any]]
    locks: tuple[Extent, ...] = ()
    is_repeatable: bool | None = None


Action = Remap | Transform | Complete | Fail | Defer | Many | Each | Script

Step = Remap | Many | Each | Wait | Quiesce | Script


@value
class Steady:
    """For which bios what map says is the same: some ops, between two sectors, until a time.

    It also ends when the target says that something has changed; or, where that would end too much
    of a device, when a generation in changes advances. Of several stripes the chunks (of
    max_io_sectors) go to them in turn, each of them counting on.
    Units:  sectors of the target; until as the clock that the target was made with.
    """

    begin: int = 0
    end: int = MAX_SECTORS
    ops: frozenset[Op] = frozenset({Op.READ, Op.WRITE, Op.FLUSH})
    until: float = inf
    changes: tuple[Generation, ...] = ()
    stripes: int = 1


ALWAYS = Steady()
NEVER = Steady(ops=frozenset())

#: A word of a table or status line; a device stands for whatever it is called there.
Word = str | BlockDevice


@value
class Segment:
    """A range of an underlying device that a target uses."""

    device: BlockDevice
    start_sector: int
    sector_count: int

    def remap(self, bio: Bio) -> Remap:
        """The bio at its place in this range, its sector relative to it; a FLUSH has no place."""
        if bio.op is Op.FLUSH:
            return Remap(self.device, bio)
        return Remap(self.device, bio.remap(self.start_sector + bio.sector))

    def params(self) -> list[Word]:
        """The two arguments, dev and offset."""
        return [self.device, str(self.start_sector)]


class Target(Turns, ABC):
    """One line of a table at work.

    Lives: from the load of its table until that table is replaced and drained.
    """

    #: The third word of a table line.
    name: ClassVar[str]
    #: The version of the kernel's target of that name that is followed.
    version: ClassVar[tuple[int, int, int]]
    #: Whether contexts go down unchanged. Only for a target that neither changes, stores nor looks
    #: at data, so plaintext and ciphertext are the same to it. No default: each must decide.
    passes_crypto: ClassVar[bool]
    #: Whether no other type may take the place of a table with it, but one with error.
    is_immutable: ClassVar[bool] = False
    #: Whether its table cannot be read-only.
    needs_writing: ClassVar[bool] = False
    #: Whether WRITE_ZEROES goes down, if all devices below take it; else the target gets none.
    passes_zeroes: ClassVar[bool] = False
    #: Whether it takes DISCARD although some device below may not.
    discards_end_here: ClassVar[bool] = False
    #: Whether its logical block is that of its own limits, though those of devices may be larger.
    hides_blocks: ClassVar[bool] = False

    #: Length of the target.
    sector_count: int
    #: READ and WRITE bios are split at multiples of this (relative to the target); None: never.
    max_io_sectors: int | None = None
    #: Whether it takes DISCARD at all.
    takes_discards: bool = True

    @classmethod
    @abstractmethod
    def make(cls, line: "Arguments") -> Self:
        """Make a target of what the grammar of its lines (fusedm/tables/grammars) has read.

        Raises: TableError naming the argument, by line.refuse().
        """

    @abstractmethod
    def params(self) -> list[Word]:
        """The arguments as `table` prints them, keys masked; else they give an equal target."""

    def key_params(self) -> list[Word]:
        """The arguments with keys, for those who ask for them."""
        return self.params()

    @abstractmethod
    def devices(self) -> Iterable[Segment]:
        """Every range below that bios may be sent to (the kernel's iterate_devices)."""

    def own_devices(self) -> Iterable[BlockDevice]:
        """Devices it uses besides for what is its own: held, and asked for no limits or crypto."""
        return ()

    @abstractmethod
    def map(self, bio: Bio) -> Action:
        """What should happen to the bio; its sector is relative to the target.

        READ and WRITE lie within one max_io_sectors piece; DISCARD and WRITE_ZEROES are only cut at
        the ends of the target; FLUSH has sector 0 and no length and must reach every device.
        Await: never, and nothing changes: a bio may be mapped and then not be sent.
        """

    def steady(self, sector: int) -> Steady:
        """For how many bios what map says of this sector holds; else each is planned on its own.

        Of these end_io may mind errors only, and map says the same whatever their data are. Before
        map says anything else, changed() is called, or a Generation advanced that came with it. All
        sectors from begin to end are told the same. Sector 0 is asked for FLUSH too.
        """
        return NEVER

    def keys(self) -> Iterable[CryptoKey]:
        """The keys of contexts that it gives bios, from start to stop."""
        return ()

    def limits(self) -> Limits:
        """What the target asks of bios beyond what its devices ask."""
        return Limits()

    def status(self) -> list[Word]:
        """The words `status` prints after the target's name."""
        return []

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        """Look at a bio that was mapped and has ended; returns the error it ends with.

        bio is as map got it; a READ's data are there if error is None. What a bio changes in the
        target is changed here: map may be asked about bios that are never sent.
        """
        return error

    @property
    def has_hook(self) -> bool:
        """Whether it looks at the end of what it maps."""
        return type(self).end_io is not Target.end_io

    def message(self, words: list[str]) -> "str | Steps[str]":
        """Do what a message asks; the reply is empty where there is nothing to say.

        Raises: StackError(EINVAL) for words it does not know.
        """
        # Only the first word is repeated: what follows may be a key.
        raise StackError(f"{self.name} takes no message {words[0]!r}")


K = TypeVar("K", bound=Target)


def target_of(device: BlockDevice, kind: type[K]) -> K | None:
    """The target of a mapped device whose live table is one such target."""
    entries: Sequence[Any] = getattr(getattr(device, "live", None), "entries", ())
    only = entries[0].target if len(entries) == 1 else None
    return only if isinstance(only, kind) else None
