"""Spans: where a stretch of a device's sectors lies, as far as that does not depend on the bio."""

from dataclasses import replace
from math import inf
from time import monotonic
from typing import Any

from fusedm.block.bio import Op
from fusedm.block.capabilities import Capabilities
from fusedm.block.plan import KeyslotSource, Leaf, Route, SectorCipher
from fusedm.block.stats import IoStats
from fusedm.block.units import MAX_SECTORS
from fusedm.block.value import value

READS_AND_WRITES = frozenset({Op.READ, Op.WRITE})


class Generation:
    """Goes up with every change after which a device may send bios another way."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def advance(self) -> None:
        """Everything found out before is out of date."""
        self.number += 1


@value
class Leg:
    """A place that sectors go to: all of a span, or every so manieth chunk of it.

    Shapes: visits and route are what a plan would collect for a part of a bio that goes here, after
    those of the span.
    """

    leaf: Leaf
    shift: int = 0
    visits: tuple[IoStats, ...] = ()
    route: Route = ()


@value
class SpanCipher:
    """A target's own encryption on the way: sector s of the device asked is number s + shift.

    keeps_zeros: the cipher leaves a sector of zeros on the medium as it is, a hole.
    """

    cipher: SectorCipher
    number_shift: int
    keeps_zeros: bool = False


@value
class Span:
    """Adjacent sectors of a device whose bios of some ops all go the same way.

    Where nothing goes one way there are no legs, and one asks anew from end on. What is known holds
    until a device or target on the way changes, or until a time: is_current says. A flush has one
    leg for every leaf that it reaches, and no sectors.

    Units:  sectors of the device that was asked. Counted from origin on they go to the legs in
            turn, chunk by chunk: the first sector of leg i's n-th chunk is shift + n * chunk there.
            until is a time of the clock that tables are made with, which is monotonic.
    Shapes: visits and route are what a plan of a bio there would collect, before those of a leg.
    """

    begin: int
    end: int
    legs: tuple[Leg, ...] = ()
    origin: int = 0
    chunk: int = MAX_SECTORS
    ops: frozenset[Op] = frozenset()
    cipher: SpanCipher | None = None
    visits: tuple[IoStats, ...] = ()
    route: Route = ()
    guards: tuple[tuple[Generation, int], ...] = ()
    until: float = inf
    #: The lowest device above which contexts end whatever the legs can, and the extents they pass
    #: until there; None: they end at the legs.
    fallback: KeyslotSource | None = None
    fallback_route: Route = ()
    #: In strict mode, what every device on the way says it can do natively; None: it is the leaf's.
    native: Capabilities | None = None

    @property
    def leaf(self) -> Leaf | None:
        """The one leaf; None without any and with several legs."""
        return self.legs[0].leaf if len(self.legs) == 1 else None

    @property
    def shift(self) -> int:
        """How far sectors are moved to the one leaf's."""
        return self.legs[0].shift - self.origin if len(self.legs) == 1 else 0

    def moved(self, count: int) -> "Span":
        """The same of a device whose sectors have numbers that are so much higher."""
        if not count:
            return self
        cipher = self.cipher
        if cipher is not None:
            cipher = replace(cipher, number_shift=cipher.number_shift - count)
        begin, end, origin = self.begin + count, self.end + count, self.origin + count
        return replace(self, begin=begin, end=end, origin=origin, cipher=cipher)

    def at(self, sector: int) -> "Span":
        """The part around a sector that goes to one leg: its chunk, or all of it."""
        if len(self.legs) <= 1:
            return self
        number = (sector - self.origin) // self.chunk
        begin = self.origin + number * self.chunk
        row, index = divmod(number, len(self.legs))
        leg = self.legs[index]
        return replace(
            self,
            begin=max(self.begin, begin),
            end=min(self.end, begin + self.chunk),
            legs=(Leg(leg.leaf, leg.shift + row * self.chunk),),
            origin=begin,
            chunk=MAX_SECTORS,
            visits=self.visits + leg.visits,
            route=self.route + leg.route,
        )

    def is_current(self, now: float | None = None) -> bool:
        """Whether nothing on the way has changed since, nor the time come."""
        if self.until != inf and (monotonic() if now is None else now) >= self.until:
            return False
        return all(generation.number == number for generation, number in self.guards)


def own_span(stats: IoStats, generation: Generation, read_only: bool, **more: Any) -> Span:
    """What a device itself says of all of its spans, and more fields of them."""
    more.setdefault("begin", 0)
    more.setdefault("end", 0)
    ops = frozenset({Op.READ}) if read_only else READS_AND_WRITES
    guards = ((generation, generation.number),)
    return Span(ops=ops, visits=(stats,), guards=guards, **more)
