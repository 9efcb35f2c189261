"""An array in memory: members that fail as they are told, and who carries scripts out.

It stands for the frame of the target raid (what a personality is given), and for what is below.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusedm.block import Bio, Op, RangeLocks
from fusedm.block.errors import BlockIOError, Status
from fusedm.block.units import SECTOR_SIZE
from fusedm.dm import Action, Each, Many, Remap, Script, Segment
from fusedm.dm.raid.members import Member


class PowerCut(Exception):
    """The machine is off."""


class LegDevice:
    """A device of bytes; bad sectors fail READs until they are written, broken ones all bios."""

    def __init__(self, name: str, sector_count: int) -> None:
        self.name = name
        self.sector_count = sector_count
        self.data = bytearray(sector_count * SECTOR_SIZE)
        self.bad_sectors: set[int] = set()
        self.is_broken = False
        self.reads = 0
        self.writes = 0

    def do(self, bio: Bio) -> None:
        sectors = range(bio.sector, bio.end_sector)
        assert 0 <= bio.sector <= bio.end_sector <= self.sector_count
        if self.is_broken:
            raise BlockIOError(Status.IOERR, self.name, f"{bio}")
        at = slice(bio.sector * SECTOR_SIZE, bio.end_sector * SECTOR_SIZE)
        if bio.op is Op.READ:
            self.reads += 1
            if not self.bad_sectors.isdisjoint(sectors):
                raise BlockIOError(Status.MEDIUM, self.name, f"{bio}")
            bio.data[:] = self.data[at]
        elif bio.op is Op.WRITE:
            self.writes += 1
            self.data[at] = bio.data
            self.bad_sectors.difference_update(sectors)
        else:
            assert bio.op is Op.FLUSH


@dataclass
class ArrayInMemory:
    """What a personality sees of an array; dirty are ranges that are being written."""

    members: list[Member]
    may_fail: int
    locks: RangeLocks = field(default_factory=RangeLocks)
    unsynced: list[tuple[int, int]] = field(default_factory=list)
    dirty: list[tuple[int, int]] = field(default_factory=list)
    needed: list[tuple[int, int]] = field(default_factory=list)
    repairs: list[tuple[int, int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, count: int, sector_count: int, may_fail: int) -> "ArrayInMemory":
        devices = [LegDevice(f"d{index}", sector_count) for index in range(count)]
        members = [Member(n, Segment(each, 0, sector_count)) for n, each in enumerate(devices)]
        return cls(members, may_fail)

    @property
    def devices(self) -> list[LegDevice]:
        return [leg.data.device for leg in self.members]

    def is_synced(self, begin: int, end: int) -> bool:
        return not any(b < end and begin < e for b, e in self.unsynced)

    def begin_write(self, begin: int, end: int) -> Generator[Any, Any, None]:
        self.dirty.append((begin, end))
        yield from ()

    def end_write(self, begin: int, end: int) -> None:
        self.dirty.remove((begin, end))

    def fail(self, errors: dict[int, BlockIOError]) -> Generator[Any, Any, None]:
        failed = {leg.index for leg in self.members if not leg.in_sync} | errors.keys()
        if len(failed) > self.may_fail:
            raise BlockIOError(Status.IOERR, "array", "too many members have failed")
        for index in errors:
            self.members[index].is_failed = True
        yield from ()

    def need(self, begin: int, end: int) -> None:
        self.needed.append((begin, end))

    def repair_read(self, index: int, begin: int, end: int) -> None:
        self.repairs.append((index, begin, end))

    def flush_all(self) -> Action:
        legs = (leg for leg in self.members if leg.writable)
        return Many(tuple(Remap(leg.data.device, Bio(Op.FLUSH, 0, 0)) for leg in legs))


class Runner:
    """Carries actions and steps out.

    before is called before each bio that goes to a device, and may raise for it. Scripts may not
    lock what is locked.
    """

    def __init__(self, before: Callable[[LegDevice, Bio], None] = lambda device, bio: None) -> None:
        self.before = before
        self.bios: list[tuple[str, Bio]] = []
        self.locked: list[tuple[int, int]] = []

    def do(self, action: Action) -> None:
        """An action of map. Raises: BlockIOError."""
        match action:
            case Each(actions, then):
                steps = then(self._all(actions))
                if steps is not None:
                    self.run(steps)
            case _:
                self.answer(action)

    def run(self, steps: Generator[Any, Any, Any]) -> Any:
        """A script, to its end; returns what it returns. Raises: BlockIOError."""
        return self.finish(steps, None)

    def finish(self, steps: Generator[Any, Any, Any], answer: Any) -> Any:
        """The rest of a script, from the answer to its last step on. Raises: BlockIOError."""
        error: BlockIOError | None = None
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                try:
                    answer, error = self.answer(step), None
                except BlockIOError as failed:
                    answer, error = None, failed
        except StopIteration as end:
            return end.value

    def answer(self, step: Any) -> Any:
        """What a step is answered with. Raises: BlockIOError."""
        match step:
            case Remap():
                (error,) = self._all((step,))
                if error is not None:
                    raise error
            case Many(actions):
                for error in self._all(actions):
                    if error is not None:
                        raise error
            case Each(actions):
                return self._all(actions)
            case Script(make, locks):
                ranges = [(begin, end) for _, begin, end in locks]
                for begin, end in ranges:
                    assert not any(b < end and begin < e for b, e in self.locked)
                self.locked += ranges
                try:
                    return self.run(make())
                finally:
                    for each in ranges:
                        self.locked.remove(each)
            case _:
                raise AssertionError(step)

    def _all(self, actions: Iterable[Action]) -> Sequence[BlockIOError | None]:
        return [self._one(action) for action in actions]

    def _one(self, action: Action) -> BlockIOError | None:
        assert isinstance(action, Remap)
        assert action.bio.crypt is None
        self.bios.append((action.device.name, action.bio))
        try:
            self.before(action.device, action.bio)
            action.device.do(action.bio)
        except BlockIOError as error:
            return error
        return None
