"""flakey: like linear, but unreliable for some seconds in every period.  See flakey.md."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fusedm.block import Bio, Op
from fusedm.block.errors import Status
from fusedm.dm.target import Action, Complete, Fail, Params, Segment, Target, Word

#: In the order `table` prints them.
FEATURES = ("error_reads", "drop_writes", "error_writes")

#: The kernel's limit on words of features, so that its longer lines fail by name, not by count.
MAX_FEATURE_WORDS = 11

#: Seconds are 32 bits in the kernel: 136 years.
MAX_PERIOD_SECONDS = (1 << 32) - 1


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 0 1 0", "d0 0 0 1 1 drop_writes", "d1 2048 5 5 2 error_reads drop_writes"]


@dataclass
class Flakey(Target):
    """Up for some seconds from its making on, then down for some, and so on.

    Bios are refused, dropped or moved, never looked into, so contexts pass.
    """

    name = "flakey"
    version = (1, 5, 0)
    passes_crypto = True
    usage = "dev offset up down [n feature...]"

    sector_count: int
    segment: Segment
    up_seconds: int
    down_seconds: int
    features: frozenset[str]
    clock: Callable[[], float] = field(compare=False)
    made_at: float = field(compare=False)

    @classmethod
    def parse(cls, params: Params) -> "Flakey":
        segment = params.segment(params.sector_count)
        up = params.integer("up", maximum=MAX_PERIOD_SECONDS)
        down = params.integer("down", maximum=MAX_PERIOD_SECONDS)
        if not 0 < up + down <= MAX_PERIOD_SECONDS:
            raise params.error(f"up {up} + down {down} is not in 1..{MAX_PERIOD_SECONDS}")
        features = _parse_features(params) or {"error_reads", "error_writes"}
        clock = params.clock
        return cls(params.sector_count, segment, up, down, frozenset(features), clock, clock())

    def params(self) -> list[Word]:
        features = [name for name in FEATURES if name in self.features]
        interval = [str(self.up_seconds), str(self.down_seconds)]
        return [*self.segment.params(), *interval, str(len(features)), *features]

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        if bio.op is Op.WRITE_ZEROES:
            return Fail(Status.NOTSUPP)
        if self._is_down():
            # Everything but a READ is a write here, as in the kernel: FLUSH and DISCARD too.
            if ("error_reads" if bio.op is Op.READ else "error_writes") in self.features:
                return Fail(Status.IOERR)
            if bio.op is not Op.READ and "drop_writes" in self.features:
                return Complete()
        return self.segment.remap(bio)

    def _is_down(self) -> bool:
        second = int(self.clock() - self.made_at)
        return second % (self.up_seconds + self.down_seconds) >= self.up_seconds


def _parse_features(params: Params) -> set[str]:
    features: set[str] = set()
    count = params.integer("features", maximum=MAX_FEATURE_WORDS) if params.left else 0
    if count != params.left:
        raise params.error(f"{count} features announced, {params.left} given")
    for _ in range(count):
        feature = params.word().lower()
        if feature not in FEATURES:
            known = ", ".join(FEATURES)
            raise params.argument_error("feature", f"{feature!r} is unknown: use {known}")
        if feature in features:
            raise params.argument_error("feature", f"{feature} is given twice")
        features.add(feature)
    if {"drop_writes", "error_writes"} <= features:
        raise params.error("drop_writes and error_writes exclude each other")
    return features
