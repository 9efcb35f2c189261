"""What a level of RAID is: where data and their redundancy lie. md's word is personality."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fusedm.block import Bio, RangeLocks
from fusedm.block.errors import BlockIOError
from fusedm.dm.raid.members import Member
from fusedm.dm.target import Action, Steady
from fusedm.dm.turns import Steps

#: How much a step in the background does of each member, in sectors: enough that the time it takes
#: to begin does not matter, little enough that a write does not wait for long.
STEP_SECTORS = 4096


@dataclass(frozen=True)
class Shape:
    """What a table line says of an array, in plain values.

    Units:  sectors; chunk_sectors is 0 for raid1. copies: of raid10.
    """

    type: str
    device_count: int
    chunk_sectors: int
    array_sectors: int
    copies: int = 2


class ArrayView(Protocol):
    """What an array gives its level."""

    members: Sequence[Member]
    #: On ranges that resync counts in.
    locks: RangeLocks

    def is_synced(self, begin: int, end: int) -> bool:
        """Whether members agree in a range, as far as is known."""

    def begin_write(self, begin: int, end: int) -> Steps[None]:
        """Have it on the devices that a range may differ; end_write follows, whatever comes."""

    def end_write(self, begin: int, end: int) -> None:
        """A write is over."""

    def fail(self, errors: Mapping[int, BlockIOError]) -> Steps[None]:
        """Members that could not be written are given up, which is written to the others first.

        Raises: BlockIOError if the array cannot go on without them; then nothing has changed.
        """

    def need(self, begin: int, end: int) -> None:
        """A write has failed: members may differ in its range."""

    def repair_read(self, index: int, begin: int, end: int) -> None:
        """A member could not read sectors of its own that others have: write them to it anew."""

    def flush_all(self) -> Action:
        """A FLUSH of everything that is written."""


class Personality(ABC):
    """A level at work. All sectors of members and of resync are multiples of 8, or at their end."""

    #: Whether plaintext and ciphertext are the same to it.
    passes_crypto: ClassVar[bool]
    takes_discards: ClassVar[bool] = True
    #: Whether there is anything to be made alike.
    is_redundant: ClassVar[bool] = True

    #: md's numbers.
    level: int
    layout: int
    #: How much of each data device is used.
    member_sectors: int
    #: What resync, the bitmap and the array's locks count in goes up to here.
    sync_sectors: int
    #: READ and WRITE bios are split at multiples of this.
    max_io_sectors: int | None = None
    #: How much is done in one step in the background, in sectors of members and of resync.
    step_sectors: int = STEP_SECTORS

    @abstractmethod
    def __init__(self, shape: Shape, array: ArrayView) -> None:
        """Raises: ValueError with a sentence if there cannot be such an array."""

    @abstractmethod
    def survives(self, failed: Set[int]) -> bool:
        """Whether all data are there without some members."""

    @abstractmethod
    def map(self, bio: Bio) -> Action:
        """As Target.map."""

    @abstractmethod
    def steady(self, sector: int) -> Steady:
        """As Target.steady."""

    @abstractmethod
    def resync(self, begin: int, end: int) -> Steps[None]:
        """Make a range alike, whatever it was; its lock is held."""

    @abstractmethod
    def recover(self, begin: int, end: int, indices: Set[int]) -> Steps[None]:
        """Write what members should hold, of their own sectors, from the others; it is locked."""

    @abstractmethod
    def check(self, begin: int, end: int, repair: bool) -> Steps[int]:
        """How many sectors of a range differ, as md counts; they are made alike if asked to be."""

    def locked_by(self, begin: int, end: int) -> tuple[int, int]:
        """The range of resync that a range of members is in."""
        return begin, end
