"""flakey: like linear, but unreliable for some seconds in every period.  See flakey.md."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from random import Random

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, Status
from fusedm.dm.target import (
    ALWAYS,
    NEVER,
    Action,
    Complete,
    Fail,
    Params,
    Segment,
    Steady,
    Target,
    Word,
)

#: How many words follow each feature, in the order `table` prints them.
FEATURES = {
    "error_reads": 0,
    "drop_writes": 0,
    "error_writes": 0,
    "corrupt_bio_byte": 4,
    "random_read_corrupt": 1,
    "random_write_corrupt": 1,
}

#: What would be left without anything to do, by what damages reads and writes.
_EXCLUDE = {
    "drop_writes": ("error_writes", "corrupt_bio_byte w", "random_write_corrupt"),
    "error_writes": ("corrupt_bio_byte w", "random_write_corrupt"),
    "error_reads": ("corrupt_bio_byte r", "random_read_corrupt"),
}

#: The kernel's limit on words of features, so that its longer lines fail by name, not by count.
MAX_FEATURE_WORDS = 11

#: Numbers are 32 bits in the kernel; as seconds that is 136 years.
_MOST = (1 << 32) - 1

#: A chance is so many in this many.
CHANCES = 10**9

#: The kernel's flags of our bios: the operation, and nothing else.
_FLAGS = {Op.READ: 0, Op.WRITE: 1}


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
    usage = "dev offset up down [n feature...]"

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
    def parse(cls, params: Params) -> "Flakey":
        segment = params.segment(params.sector_count)
        up = params.integer("up", maximum=_MOST)
        down = params.integer("down", maximum=_MOST)
        if not 0 < up + down <= _MOST:
            raise params.error(f"up {up} + down {down} is not in 1..{_MOST}")
        features = _parse_features(params) or {"error_reads": (), "error_writes": ()}
        return cls(params.sector_count, segment, up, down, features, params.clock, params.clock())

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
        """Which bytes of a READ or WRITE to set to what; the same until another bio has ended."""
        damage = []
        number, direction, value, flags = self.features.get("corrupt_bio_byte", (0, 0, 0, 0))
        own = _FLAGS[bio.op]
        if direction == own and own & flags == flags and 0 < number <= len(bio.data):
            damage.append((number - 1, value))
        chance = self.features.get(("random_read_corrupt", "random_write_corrupt")[own], (0,))[0]
        if chance:
            draw = Random(f"{self.params()[1:]} {self.ended} {bio}")
            if draw.randrange(CHANCES) < chance:
                damage.append((draw.randrange(len(bio.data)), draw.randrange(256)))
        return damage


def _parse_features(params: Params) -> dict[str, tuple[int, ...]]:
    """The features that are on; those that exclude each other are refused."""
    features: dict[str, tuple[int, ...]] = {}
    count = params.integer("features", maximum=MAX_FEATURE_WORDS) if params.left else 0
    if count != params.left:
        raise params.error(f"{count} words of features announced, {params.left} given")
    while params.left:
        feature = params.word().lower()
        if feature not in FEATURES:
            known = ", ".join(FEATURES)
            raise params.argument_error("feature", f"{feature!r} is unknown: use {known}")
        if feature in features:
            raise params.argument_error("feature", f"{feature} is given twice")
        if params.left < FEATURES[feature]:
            text = f"{feature} takes {FEATURES[feature]} more words, {params.left} given"
            raise params.argument_error("feature", text)
        values = _parse_values(params, feature)
        if values != (0,):  # A chance of 0 is none: without more, errors are the default.
            features[feature] = values
    names = set(features)
    if "corrupt_bio_byte" in features:
        names.add(f"corrupt_bio_byte {'rw'[features['corrupt_bio_byte'][1]]}")
    for first, others in _EXCLUDE.items():
        for second in others:
            if {first, second} <= names:
                raise params.error(f"{first} and {second} exclude each other")
    return features


def _parse_values(params: Params, feature: str) -> tuple[int, ...]:
    if feature != "corrupt_bio_byte":
        return tuple(params.integer("chance", maximum=CHANCES) for _ in range(FEATURES[feature]))
    byte = params.integer("byte", minimum=1, maximum=_MOST)
    direction = params.word().lower()
    if direction not in ("r", "w"):
        raise params.argument_error("direction", f"{direction!r} is not r or w")
    value = params.integer("value", maximum=255)
    flags = params.integer("flags", maximum=_MOST)
    return byte, "rw".index(direction), value, flags
