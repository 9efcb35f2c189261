"""A table line while it is read: its words one by one, the fields made of them, what was found."""

from collections.abc import Iterable, Sequence

from fusedm.block.units import SECTOR_SIZE
from fusedm.block.value import value
from fusedm.tables.finding import REFUSES, TAKES, Finding, Fusedm, Kernel, Place, Severity, When
from fusedm.tables.lines import Line
from fusedm.tables.words import Word


@value
class Field:
    """An argument that was read: what it is called, its unit, and what it stands for.

    value is a number, a text, or None if it could not be understood. printed is the word with
    which the kernel's table output repeats it. is_secret: its bytes are a key's.
    """

    name: str
    unit: str
    word: Word
    value: int | str | None
    printed: str
    is_secret: bool = False


class Reader:
    """The arguments of one line, in order; what is said of a word quotes it as it may be shown.

    first: which of its words is the first argument. features: those of groups, in order, each with
    the words that the kernel prints of it.
    """

    def __init__(self, line: Line, target: str, usage: str, first: int = 3) -> None:
        self.line = line
        self.target = target
        self.usage = usage
        self.first = first
        self.start_sector = self.sector_count = 0
        self.read_only: bool | None = None
        self.is_loading = False
        self.arguments = list(line.words[first:])
        self.position = 0
        self.end = len(self.arguments)
        self.fields: list[Field] = []
        self.features: list[tuple[str, list[str]]] = []
        self.findings: list[Finding] = []
        self._of_name: dict[str, list[Field]] = {}

    @property
    def left(self) -> int:
        """How many words have not been read, of the line or of the group that is being read."""
        return self.end - self.position

    @property
    def has_errors(self) -> bool:
        """Whether it is refused as far as it was read."""
        return any(found.severity is Severity.ERROR for found in self.findings)

    def peek(self) -> str:
        """The next word; empty if there is none."""
        return self.arguments[self.position].text if self.left else ""

    def take(self, name: str) -> Word | None:
        """The next word; if there is none that is an error, which names what is missing."""
        if not self.left:
            takes = f"it takes {self.usage}" if self.usage else "it takes no arguments"
            self.error(f"{name} is missing: {takes}", self._end_of_line())
            return None
        self.position += 1
        return self.arguments[self.position - 1]

    def rest(self) -> list[Word]:
        """All words left."""
        words = self.arguments[self.position : self.end]
        self.position = self.end
        return words

    def add(
        self,
        name: str,
        word: Word,
        value: int | str | None,
        unit: str = "",
        printed: str | None = None,
        is_secret: bool = False,
    ) -> Field:
        """Keep a field; it is printed as its value unless said otherwise."""
        text = str(value) if printed is None else printed
        made = Field(name, unit, word, value, text, is_secret)
        self.fields.append(made)
        self._of_name.setdefault(name, []).append(made)
        return made

    def all(self, name: str) -> Sequence[Field]:
        """Every field of a name."""
        return self._of_name.get(name, ())

    def get(self, name: str) -> Field | None:
        """The last field of a name, if there is one."""
        found = self._of_name.get(name)
        return found[-1] if found else None

    def number(self, name: str, default: int = 0) -> int:
        """The value of a field that is a number."""
        found = self.get(name)
        return found.value if found is not None and isinstance(found.value, int) else default

    def text(self, name: str, default: str = "") -> str:
        """The value of a field that is a text."""
        found = self.get(name)
        return found.value if found is not None and isinstance(found.value, str) else default

    def has(self, feature: str) -> bool:
        """Whether a feature is given; one that is written NAME:VALUE is called NAME:."""
        return any(name == feature for name, _ in self.features)

    def quote(self, word: Word) -> str:
        """A word as it may be shown."""
        return f"'{self.line.shown[word.begin : word.end]}'"

    def error(
        self,
        text: str,
        at: Word | Field | None = None,
        kernel: Kernel = REFUSES,
        fusedm: Fusedm | None = None,
    ) -> None:
        """Something is refused; at names the place, else it is the whole line."""
        self._found(Severity.ERROR, text, at, kernel, fusedm)

    def warn(
        self,
        text: str,
        at: Word | Field | None = None,
        kernel: Kernel = TAKES,
        fusedm: Fusedm | None = None,
    ) -> None:
        """Something is accepted that may not be meant; where a table is loaded nobody is told."""
        if self.is_loading and fusedm is None:
            return
        self._found(Severity.WARNING, text, at, kernel, fusedm)

    def _found(
        self,
        severity: Severity,
        text: str,
        at: Word | Field | None,
        kernel: Kernel,
        fusedm: Fusedm | None,
    ) -> None:
        word = at.word if isinstance(at, Field) else at
        place, number = self.place(word), self.argument_number(word)
        self.findings.append(Finding(severity, place, self.target, text, kernel, fusedm, number))

    def refuse(self, limits: bool = True) -> None:
        """Raise the first thing that fusedm refuses; without limits, not what belongs to them.

        Raises: TableError.
        """
        for found in self.findings:
            if found.errno_of_fusedm() and (limits or found.kernel.when is not When.LIMITS):
                raise found.refusal()

    def argument_number(self, word: Word | None) -> int:
        """Which argument a word is, or is a part of, from 1; 0 for start, length and type."""
        before = 0 if word is None else sum(one.end <= word.begin for one in self.line.words)
        return max(before - self.first + 1, 0)

    def place(self, word: Word | None) -> Place:
        """Where a word stands; None stands for all of the line."""
        begin = word.begin if word else self.line.words[0].begin
        end = word.end if word else self.line.words[-1].end
        return Place(self.line.number, self.line.shown, begin, max(end - begin, 1))

    def _end_of_line(self) -> Word:
        """The place where the next word of the group or line would stand."""
        read = self.arguments[: self.end]
        end = (read or self.line.words)[-1].end + 1
        return Word("", end, end + 1)

    def span(self, words: Iterable[Word]) -> Word:
        """Several words as one place."""
        first, *others = words
        return Word(first.text, first.begin, (others or [first])[-1].end)


def human(sectors: int) -> str:
    """A number of sectors as a person reads it, exact if it ends even."""
    size, unit = float(sectors * SECTOR_SIZE), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    text = f"{size:.2f}".rstrip("0").rstrip(".")
    exact = "" if float(text) == size else "about "
    return f"{exact}{text} {unit}"
