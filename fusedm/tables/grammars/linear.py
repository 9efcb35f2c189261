"""linear, zero and error: a range of a device, and none."""

from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import Anything, Device, Offset, read_all
from fusedm.tables.reader import Reader


class _DeviceOrAnything:
    """Two words are a range whose limits are taken over; any other number is ignored."""

    def read(self, line: Reader) -> bool:
        """Read all words."""
        if line.left == 2:
            return read_all((Device(), Offset()), line)
        if line.left:
            words = line.span(line.arguments)
            line.warn("only two arguments, dev offset, mean anything to it", words)
        return Anything("word").read(line)


def _nothing(line: Reader) -> list[str]:
    """The target has no status method."""
    return []


GRAMMARS = [
    Grammar("linear", "dev offset", (Device(), Offset())),
    Grammar("zero", "", (), printer=_nothing),
    Grammar("error", "[dev offset]", (_DeviceOrAnything(),), printer=_nothing),
]
