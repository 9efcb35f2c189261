"""flakey: like linear, but unreliable for some seconds in every period.  See flakey.md."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.dm.arguments import Arguments
from fusedm.dm.damage import damage_to
from fusedm.dm.target import (
    ALWAYS,
    NEVER,
    Action,
    Complete,
    Fail,
    Segment,
    Steady,
    Target,
    Word,
)

#: What has no numbers.
_PLAIN = ("error_reads", "drop_writes", "error_writes")

#: In the order `table` prints them.
FEATURES = (*_PLAIN, "corrupt_bio_byte", "random_read_corrupt", "random_write_corrupt")


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return [
        "d0 0 1 0",
        "d0 0 0 1 1 drop_writes",
        "d1 2048 5 5 2 error_reads drop_writes",
        "d0 0 1 1 6 error_writes corrupt_bio_byte 3 r 255 0",
        "d0 0 0 1 9 corrupt_bio_byte 1 w 0 1 random_read_corrupt 5 random_write_corrupt 1000000000",
    ]


@dataclass
class Flakey(Target):
    """Up for some seconds from its making on, then down for some, and so on.

    One byte of what is read or written may change, but nothing is decided by what data are, so
    contexts pass: where the way below is native, it is a byte of the plaintext.
    """

    name = "flakey"
    version = (1, 5, 0)
    passes_crypto = True

    sector_count: int
    segment: Segment
    up_seconds: int
    down_seconds: int
    features: dict[str, tuple[int, ...]]
    clock: Callable[[], float] = field(compare=False)
    made_at: float = field(compare=False)
    #: How many bios have ended: draws follow from it, so that planning draws nothing.
    ended: int = field(default=0, compare=False)

    @classmethod
    def make(cls, line: Arguments) -> "Flakey":
        up, down, clock = line.number("up"), line.number("down"), line.clock
        return cls(line.sector_count, line.segment(), up, down, _features(line), clock, clock())

    def params(self) -> list[Word]:
        words = []
        for name in (name for name in FEATURES if name in self.features):
            words += [name, *map(str, self.features[name])]
            if name == "corrupt_bio_byte":
                words[-3] = "rw"[self.features[name][1]]
        interval = [str(self.up_seconds), str(self.down_seconds)]
        return [*self.segment.params(), *interval, str(len(words)), *words]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        if self._is_down():
            # Everything but a READ is a write here, as in the kernel: FLUSH and DISCARD too.
            if ("error_reads" if bio.op is Op.READ else "error_writes") in self.features:
                return Fail(Status.IOERR)
            if bio.op is not Op.READ and "drop_writes" in self.features:
                return Complete()
            if bio.op is Op.WRITE:
                bio = self._damaged(bio)
        return self.segment.remap(bio)

    def end_io(self, bio: Bio, error: BlockIOError | None) -> BlockIOError | None:
        if bio.op is Op.READ and error is None and self._is_down():
            for index, value in self._damage(bio):
                bio.data[index] = value
        self.ended += 1
        return error

    def steady(self, sector: int) -> Steady:
        """Until the next turn; when down, data may change on the way."""
        second, until = self._second(), inf
        is_down = second >= self.up_seconds
        if self.up_seconds and self.down_seconds:
            turn = self.up_seconds + self.down_seconds if is_down else self.up_seconds
            until = self.made_at + int(self.clock() - self.made_at) - second + turn
        changes_data = any("corrupt" in feature for feature in self.features)
        return Steady(ops=NEVER.ops if is_down and changes_data else ALWAYS.ops, until=until)

    def _is_down(self) -> bool:
        return self._second() >= self.up_seconds

    def _second(self) -> int:
        """Which second of its period it is."""
        return int(self.clock() - self.made_at) % (self.up_seconds + self.down_seconds)

    def _damaged(self, bio: Bio) -> Bio:
        """The WRITE with its damage, in a copy: the caller's buffer stays. The context stays too.

        The kernel's copy loses it (flakey 1.5.0): plaintext goes to a disk with an engine.
        """
        damage = self._damage(bio)
        if not damage:
            return bio
        copy = bytearray(bio.data)
        for index, value in damage:
            copy[index] = value
        return Bio(bio.op, bio.sector, bio.sector_count, memoryview(copy), bio.crypt)

    def _damage(self, bio: Bio) -> list[tuple[int, int]]:
        """What to damage in a READ or WRITE; the same until another bio has ended."""
        return damage_to(bio, self.features, f"{self.params()[1:]} {self.ended} {bio}")


def _features(line: Arguments) -> dict[str, tuple[int, ...]]:
    """The features that do anything, with their numbers; without any, errors are the default."""
    features: dict[str, tuple[int, ...]] = {name: () for name in _PLAIN if line.has(name)}
    if line.has("corrupt_bio_byte"):
        byte, value, flags = (line.number(name) for name in ("byte", "value", "flags"))
        features["corrupt_bio_byte"] = byte, "rw".index(line.text("direction")), value, flags
    for name in ("random_read_corrupt", "random_write_corrupt"):
        if line.number(name):
            features[name] = (line.number(name),)
    return features or {"error_reads": (), "error_writes": ()}
