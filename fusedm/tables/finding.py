"""What the checker finds: a place, what is wrong there, and what the kernel would say."""

import errno
import unicodedata
from dataclasses import dataclass
from enum import Enum

from fusedm.block.errors import TableError


class Severity(Enum):
    """error: it is refused. warning: it is accepted, and may not be what was meant."""

    ERROR = "error"
    WARNING = "warning"


class When(Enum):
    """When the kernel looks at it. Sizes and alignments are looked at with the limits."""

    DMSETUP = "before any ioctl"
    CREATE = "at create"
    LOAD = "at load"
    LIMITS = "at the first load of a device, at resume if it has a table already"
    RESUME = "at resume"


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel says: an errno and when, or errno 0 if it takes it; and why."""

    errno: int = errno.EINVAL
    when: When = When.LOAD
    why: str = ""

    def __str__(self) -> str:
        why = f": {self.why}" if self.why else ""
        if not self.errno:
            return f"the kernel takes it{why}"
        if self.when is When.DMSETUP:
            return f"dmsetup refuses it {self.when.value}{why}"
        return f"the kernel: {self.name} {self.when.value}{why}"

    @property
    def name(self) -> str:
        """The name of its errno; empty if it takes it."""
        return errno.errorcode.get(self.errno, "")


#: What is refused where targets are made.
REFUSES = Kernel()
TAKES = Kernel(0)


@dataclass(frozen=True, slots=True)
class Fusedm:
    """What fusedm says where it differs from the kernel on purpose: an errno, or 0: it takes it.

    not_in_strict: in strict mode it does as the kernel.
    """

    errno: int = 0
    why: str = ""
    not_in_strict: bool = False

    def __str__(self) -> str:
        does = "refuses it" if self.errno else "takes it"
        return does + (f": {self.why}" if self.why else "")


TAKES_IT = Fusedm()
REFUSES_IT = Fusedm(errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Place:
    """Some columns of a line: source is the line as it may be shown, column counts from 0."""

    line: int
    source: str
    column: int
    width: int

    @property
    def text(self) -> str:
        """What stands there."""
        return self.source[self.column : self.column + self.width]


#: How much of a line is shown: tables of one line may be very long.
MAX_SHOWN = 100
_BEFORE = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. fusedm is how fusedm itself differs from the kernel about it, if it does.

    argument is the number of the one that is marked, from 1; 0 for the whole line.
    """

    severity: Severity
    place: Place
    target: str
    text: str
    kernel: Kernel
    fusedm: Fusedm | None = None
    argument: int = 0

    def errno_of_fusedm(self, strict: bool = False) -> int:
        """The errno with which fusedm does not load it, if it has that target; 0 if it does."""
        if self.fusedm is not None and not (strict and self.fusedm.not_in_strict):
            return self.fusedm.errno
        refuses = self.severity is Severity.ERROR
        return (self.kernel.errno or errno.EINVAL) if refuses else 0

    def refusal(self, strict: bool = False) -> TableError:
        """What fusedm says of it when it is refused."""
        where = f"argument {self.argument}: " if self.argument else ""
        number = self.errno_of_fusedm(strict)
        return TableError(self.place.line, self.target, where + self.text, number)

    def show(self, file: str) -> str:
        """The finding as compilers write theirs, the place marked below its line."""
        where = f"{file}:{self.place.line}:{self.place.column + 1}"
        target = f"{self.target}: " if self.target else ""
        lines = [f"{where}: {self.severity.value}: {target}{self.text}", *_marked(self.place)]
        lines.append(f"  {self.kernel}")
        if self.fusedm is not None:
            lines.append(f"  fusedm: {self.fusedm}")
        return "\n".join(lines)

    def told(self) -> dict[str, object]:
        """The finding for programs; columns count from 1."""
        refused = bool(self.kernel.errno)
        return {
            "severity": self.severity.value,
            "line": self.place.line,
            "column": self.place.column + 1,
            "width": self.place.width,
            "target": self.target,
            "text": self.text,
            "kernel": {
                "errno": self.kernel.name or None,
                "when": self.kernel.when.name.lower() if refused else None,
                "why": self.kernel.why,
            },
            "fusedm": str(self.fusedm or ""),
        }


def _marked(place: Place) -> list[str]:
    """The part of a line around a place, and the caret below; empty for an empty line."""
    if not place.source.strip():
        return []
    begin = max(place.column - _BEFORE, 0) if len(place.source) > MAX_SHOWN else 0
    end = begin + MAX_SHOWN
    front = "..." if begin else ""
    back = "..." if end < len(place.source) else ""
    left = front + place.source[begin : place.column]
    marked = place.source[place.column : min(place.column + place.width, end)]
    rest = place.source[place.column + len(marked) : end]
    caret = " " * _columns(left) + "^" + "~" * (_columns(marked) - 1)
    return [f"  {left}{marked}{rest}{back}".rstrip(), f"  {caret}"]


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
