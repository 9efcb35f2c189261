"""`dmsetup ls --tree`: what lies on what, in the three ways of drawing it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fusedm.block.device_mapper import Number
from fusedm.dmsetup.device import Device


@dataclass(frozen=True, slots=True)
class Drawing:
    """The pieces lines are drawn with, and what switches them on and off."""

    last: str
    more: str
    down: str
    across: str
    branch: str
    begin: str = ""
    end: str = ""

    def drawn(self, piece: str) -> str:
        """A piece as a terminal shows it."""
        return self.begin + piece + self.end


#: How wide a terminal is taken to be where there is none.
USUAL_COLUMNS = 80

ASCII = Drawing("`-", "|-", "| ", "---", "-+-")
UTF = Drawing("└─", "├─", "│ ", "───", "─┬─")
VT100 = Drawing("mq", "tq", "x", "qqq", "qwq", "\x1b(0\x0f", "\x1b(B")


@dataclass(slots=True)
class _Node:
    number: Number
    device: Device | None = None
    below: list["_Node"] = field(default_factory=list)
    above: list["_Node"] = field(default_factory=list)


def tree_text(
    devices: Sequence[Device],
    switches: Sequence[str],
    block_names: Mapping[Number, str],
    is_utf: bool,
    columns: int = USUAL_COLUMNS,
) -> str:
    """The tree of some devices, in their order, cut at the width of the terminal.

    switches are the words of -o; is_utf says what the locale has where they say nothing.
    """
    style = UTF if is_utf else ASCII
    for name, drawing in (("ascii", ASCII), ("utf", UTF), ("vt100", VT100)):
        style = drawing if name in switches else style
    nodes = _link(devices)
    is_inverted = "inverted" in switches
    painter = _Painter(style, switches, block_names, is_inverted)
    for node in nodes.values():
        if not (node.below if is_inverted else node.above):
            painter.draw(node)
    most = None if "notrunc" in switches else columns
    return "".join(cut(line, most, style) + "\n" for line in painter.lines)


def cut(line: str, most: int | None, style: Drawing) -> str:
    """A line of at most so many columns; one that is longer ends in dots."""
    width = len(line.replace(style.begin, "").replace(style.end, "")) if style.begin else len(line)
    if most is None or width <= most:
        return line
    return line[: most - 1 - width] + "..."


def _link(devices: Sequence[Device]) -> dict[Number, _Node]:
    """A node for every device and everything below it, in the order in which they turn up."""
    known = {device.number: device for device in devices}
    nodes: dict[Number, _Node] = {}

    def add(number: Number) -> _Node:
        if number in nodes:
            return nodes[number]
        node = nodes[number] = _Node(number, known.get(number))
        for below in dict.fromkeys(node.device.below if node.device else ()):
            under = add(below)
            node.below.append(under)
            under.above.append(node)
        return node

    for device in devices:
        add(device.number)
    return nodes


class _Painter:
    """Draws node after node; the marks left of a line say for each level whether more follows."""

    def __init__(
        self,
        style: Drawing,
        switches: Sequence[str],
        block_names: Mapping[Number, str],
        is_inverted: bool,
    ) -> None:
        self.lines: list[str] = []
        self._style = style
        self._switches = switches
        self._block_names = block_names
        self._is_inverted = is_inverted
        # With attributes behind a name, the compact form would be hard to read: it is not used.
        attributes = {"active", "rw", "open", "uuid"}
        self._is_compact = "compact" in switches and not attributes & set(switches)

    def draw(self, root: _Node) -> None:
        """A node nobody stands above, and all below it."""
        self._draw(root, [], "", True)

    def _draw(self, node: _Node, levels: list[tuple[int, bool]], line: str, is_new: bool) -> None:
        """levels: for each one above, how far to the right it begins and whether more follows."""
        text = self._label(node)
        if not text and is_new:  # A device without a name, where numbers are not shown.
            return
        line = (self._margin(levels) if is_new else line) + text
        children = node.above if self._is_inverted else node.below
        if not self._is_compact or not children:
            self.lines.append(line)
        # One that stands behind another counts the three columns before it a second time, as the
        # tool this follows does: what comes below is a little to the right then.
        width = (len(text) + (0 if is_new else 3)) if self._is_compact else 0
        style = self._style
        for place, child in enumerate(children):
            has_more = place < len(children) - 1
            inner = [*levels, (width, has_more)]
            if self._is_compact and place == 0:
                joint = style.branch if has_more else style.across
                self._draw(child, inner, line + style.drawn(joint), False)
            else:
                self._draw(child, inner, "", True)

    def _margin(self, levels: list[tuple[int, bool]]) -> str:
        text = ""
        style = self._style
        for place, (width, has_more) in enumerate(levels):
            text += " " * (width + 1)
            if place < len(levels) - 1:
                text += self._continued(has_more)
            else:
                text += style.drawn(style.more if has_more else style.last)
        return text

    def _continued(self, has_more: bool) -> str:
        """What stands on an outer level of a line: two columns wide."""
        if not has_more:
            return "  "
        style = self._style
        piece = style.drawn(style.down.rstrip())
        return piece + " "

    def _label(self, node: _Node) -> str:
        switches, device = self._switches, node.device
        text = device.name if device else ""
        if "blkdevname" in switches:
            name = self._block_names.get(node.number, "")
            text += f" <{name}>"
        if "nodevice" not in switches:
            text += f" ({node.number[0]}:{node.number[1]})"
        told = []
        if device is not None:
            if "active" in switches:
                told.append("SUSPENDED" if device.is_suspended else "ACTIVE")
            if "rw" in switches:
                told.append("RO" if device.is_read_only else "RW")
            if "open" in switches:
                told.append(str(device.open_count))
            if "uuid" in switches:
                told.append(device.uuid)
        return text + (f" [{', '.join(told)}]" if told else "")
