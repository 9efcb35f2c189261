"""Spans: where a stretch of a device's sectors lies, if that does not depend on the bio."""

from dataclasses import dataclass

from fusedm.block.capabilities import Capabilities
from fusedm.block.plan import Leaf, Route
from fusedm.block.stats import IoStats


class Generation:
    """Goes up with every change after which a device may send bios another way."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def advance(self) -> None:
        """Everything found out before is out of date."""
        self.number += 1


@dataclass(frozen=True, slots=True)
class Span:
    """Adjacent sectors of a device whose READs and WRITEs all go to one leaf, moved by shift.

    Without a leaf nothing is known but that it would be asked anew from end on: a target there
    looks at each bio. What is known holds until a device on the way changes: is_current says.

    Units:  sectors of the device that was asked; sector + shift is the leaf's.
    Shapes: visits and route are what a plan of a bio there would collect.
    """

    begin: int
    end: int
    leaf: Leaf | None = None
    shift: int = 0
    is_writable: bool = False
    passes_crypto: bool = True
    visits: tuple[IoStats, ...] = ()
    route: Route = ()
    guards: tuple[tuple[Generation, int], ...] = ()
    #: In strict mode, what every device on the way says it can do natively; None: it is the leaf's.
    native: Capabilities | None = None

    def is_current(self) -> bool:
        """Whether no device on the way has changed since."""
        return all(generation.number == number for generation, number in self.guards)
