"""raid: md's arrays: raid0, raid1, raid10 and those with parity.  See raid.md."""

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from fusedm.block import Bio, BlockDevice, Limits
from fusedm.block.errors import StackError
from fusedm.block.units import MAX_SECTORS, SECTOR_SIZE, sectors_to_bytes
from fusedm.dm.arguments import Arguments
from fusedm.dm.raid.actions import CHECK, IDLE, REPAIR, RESYNC, Actions
from fusedm.dm.raid.array import Array, Options
from fusedm.dm.raid.layouts import LAYOUTS
from fusedm.dm.raid.members import Member
from fusedm.dm.raid.parity import Parity
from fusedm.dm.raid.personality import ArrayView, Personality, Shape
from fusedm.dm.raid.raid0 import Raid0
from fusedm.dm.raid.raid1 import Raid1
from fusedm.dm.raid.raid10 import Raid10
from fusedm.dm.raid.reading import check_room, read, revive
from fusedm.dm.target import Action, Segment, Steady, Target, Word
from fusedm.dm.turns import Steps

#: The levels by the types of table lines.
LEVELS: Mapping[str, Callable[[Shape, ArrayView], Personality]] = {
    "raid0": Raid0,
    "raid1": Raid1,
    "raid10": Raid10,
    "raid10_near": Raid10,
    **dict.fromkeys(LAYOUTS, Parity),
}

#: What messages ask for that is done whenever there is something to do.
DONE_ANYWAY = ("resync", "recover")


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return [
        "raid0 1 8 2 - d0 - d1",
        "raid1 2 0 nosync 2 - d0 - d1",
        "raid1 4 0 nosync region_size 64 3 - d0 - d1 - d2",
        "raid10 1 8 2 - d0 - d1",
        "raid10_near 3 8 raid10_copies 2 3 - d0 - d1 - d2",
        "raid4 1 16 3 - d0 - d1 - d2",
        "raid5_ls 2 8 nosync 3 - d0 - d1 - d2",
        "raid5_ra 2 32 nosync 3 - d0 - d1 - -",
    ]


@dataclass
class Raid(Target):
    """An array of one level; what a level is says fusedm/dm/raid/personality.py."""

    name = "raid"
    version = (1, 15, 1)

    sector_count: int
    shape: Shape
    #: Metadata and data device of every member.
    pairs: tuple[tuple[BlockDevice | None, BlockDevice | None], ...]
    options: Options = field(default_factory=Options)
    write_mostly: frozenset[int] = frozenset()
    #: What is between the chunk and the devices, as `table` prints it.
    parameters: tuple[str, ...] = ()
    clock: Callable[[], float] = field(default=lambda: 0.0, compare=False)

    def __post_init__(self) -> None:
        members = [Member(index, None) for index in range(len(self.pairs))]
        self.array = Array(self.shape, members, self.options, LEVELS[self.shape.type])
        self.level = self.array.level
        for member, (meta, data) in zip(members, self.pairs, strict=True):
            member.is_write_mostly = member.index in self.write_mostly
            if data is not None:
                member.data = Segment(data, 0, self.level.member_sectors)
            if meta is not None:
                member.meta = Segment(meta, 0, meta.sector_count)
        self.actions = Actions(self.array, self.clock)
        self.array.on_event, self.array.on_change = self._event, self._change
        self.max_io_sectors = self.level.max_io_sectors
        self.takes_discards = self.level.takes_discards
        self._is_suspended = True
        self._was_resumed = False

    @classmethod
    def make(cls, line: Arguments) -> "Raid":
        pairs = tuple(zip(line.devices_or_none("meta"), line.devices_or_none("data"), strict=True))
        kind = line.text("type")
        shape = Shape(
            *(kind, len(pairs), 0 if kind == "raid1" else line.number("chunk")),
            *(line.sector_count, line.number("raid10_copies", 2)),
        )
        options = Options(
            rebuild=frozenset(line.numbers("rebuild")),
            sync=line.has("sync"),
            nosync=line.has("nosync"),
            region_sectors=line.number("region_size"),
            daemon_sleep_ms=line.number("daemon_sleep", Options.daemon_sleep_ms),
            write_behind=line.number("max_write_behind") // 2,
            min_rate=line.number("min_recovery_rate"),
            max_rate=line.number("max_recovery_rate"),
        )
        write_mostly = frozenset(line.numbers("write_mostly"))
        words = _parameters(line)
        made = cls(line.sector_count, shape, pairs, options, write_mostly, words, line.clock)
        for part in made.devices():
            if part.device.sector_count < part.sector_count:
                name, size = part.device.name, part.device.sector_count
                line.refuse("data", f"{name} has {size} sectors, {part.sector_count} are used")
        return made

    @property
    def passes_crypto(self) -> bool:  # type: ignore[override]  # as the level does
        """Whether contexts go down: not in strict mode, as in the kernel."""
        members = [member.place.device for member in self.array.members if member.data]
        return self.level.passes_crypto and not any(device.strict for device in members)

    def params(self) -> list[Word]:
        chunk = str(self.shape.chunk_sectors)
        words: list[Word] = [self.shape.type, str(1 + len(self.parameters)), chunk]
        words += [*self.parameters, str(len(self.pairs))]
        return words + [device or "-" for pair in self.pairs for device in pair]

    def devices(self) -> Iterable[Segment]:
        return [each.data for each in self.array.members if each.data is not None]

    def own_devices(self) -> Iterable[BlockDevice]:
        return [each.meta.device for each in self.array.members if each.meta is not None]

    def limits(self) -> Limits:
        chunk = sectors_to_bytes(self.shape.chunk_sectors) or SECTOR_SIZE
        return Limits(io_min_bytes=chunk)

    # Bios.

    def map(self, bio: Bio) -> Action:
        return self.level.map(bio)

    def steady(self, sector: int) -> Steady:
        return self.level.steady(sector)

    # Turns.

    def opening(self) -> Steps[None]:
        """An array that cannot be is refused before anything is written."""
        check_room(self.array)
        yield from read(self.array)

    def preresume(self) -> Steps[None]:
        """The first time, what the table before has written counts; later members may come back."""
        if self._was_resumed:
            yield from revive(self.array)
            return
        yield from read(self.array)
        yield from self.array.store_all()

    def resumed(self) -> None:
        self._was_resumed, self._is_suspended = True, False
        self.actions.take_up()

    def background(self) -> Iterable[Steps[None]]:
        if not self.level.is_redundant:
            return ()
        return (self.actions.run(), self.actions.clear_bits(), self.actions.repair_reads())

    def presuspend(self) -> Steps[None]:
        self._is_suspended = True
        yield from ()

    def postsuspend(self) -> Steps[None]:
        """Nobody writes: bits need not stay set, and superblocks say how far resync came."""
        if self.level.is_redundant:
            yield from self.actions.written_down()

    def _event(self) -> None:
        self.raise_event()

    def _change(self) -> None:
        self.changed()

    # What people see and say.

    def status(self) -> list[Word]:
        action = "frozen" if self._is_frozen else self.actions.pending
        progress = f"{self._progress(action)}/{self.level.sync_sectors}"
        health = "".join(self._health(member, action) for member in self.array.members)
        mismatches = str(self.actions.shown_mismatches)
        count = str(len(self.pairs))
        # The kernel finds the name anew from md's numbers, and there near is just raid10.
        kind = "raid10" if self.level.level == 10 else self.shape.type
        return [kind, count, health, progress, action, mismatches, "0", "-"]

    @property
    def _is_frozen(self) -> bool:
        return self.level.is_redundant and (self._is_suspended or self.actions.is_frozen)

    def _progress(self, action: str) -> int:
        if self.actions.action != IDLE:
            return self.actions.completed
        recovering = [one.recovery_offset for one in self.array.members if one.is_recovering]
        least = min(recovering, default=MAX_SECTORS)
        if action in (CHECK, REPAIR):
            return 0
        return min(least, self.array.resync_offset or self._all_of_it, self._all_of_it)

    @property
    def _all_of_it(self) -> int:
        """The end of what is to be made alike; what has to be from its beginning is at 0."""
        return 0 if self.array.resync_offset == 0 else self.level.sync_sectors

    def _health(self, member: Member, action: str) -> str:
        if member.data is None:
            return "-"
        if member.is_failed:
            return "D"
        is_behind = action == RESYNC or (action == "frozen" and self.array.bitmap.needed)
        return "a" if is_behind or not member.in_sync else "A"

    def message(self, words: list[str]) -> "str | Steps[str]":
        word = words[0].lower()
        if not self.level.is_redundant:
            raise StackError(f"raid: {self.shape.type} takes no messages")
        if self._is_suspended:
            raise StackError("raid: it is suspended", errno.EBUSY)
        if word in ("frozen", "idle"):
            self.actions.freeze(word == "frozen")
            return ""
        known = (*DONE_ANYWAY, CHECK, REPAIR)
        if self.actions.action != IDLE:
            raise StackError(f"raid: {self.actions.action} is under way", errno.EBUSY)
        if word not in known:
            raise StackError(f"raid: message {word!r} is none of {', '.join(known)}, idle, frozen")
        self.actions.ask(IDLE if word in DONE_ANYWAY else word)
        return ""


def _parameters(line: Arguments) -> tuple[str, ...]:
    """The parameters of a line in the order in which the kernel prints them."""
    words = [word for word in ("sync", "nosync") if line.has(word)]
    for name in _PRINTED:
        for number in sorted(line.numbers(name)):
            words += [name, str(number)]
    if line.text("raid10_format"):
        words += ["raid10_format", line.text("raid10_format")]
    return tuple(words)


_PRINTED = (
    *("rebuild", "daemon_sleep", "min_recovery_rate", "max_recovery_rate", "write_mostly"),
    *("max_write_behind", "stripe_cache", "region_size", "raid10_copies"),
)
