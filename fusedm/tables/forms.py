"""The forms tables come in: lines, lines with the name of their device before them, and --concise.

With several devices dmsetup prints `name: ` before each line. Its concise form has a device in
`name,uuid,minor,flags,table[,table]*`, the next after a semicolon, a backslash before each of
, ; and \\ that is meant as itself. A newline there is a blank, but for table lines, which it parts.
"""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from fusedm.block.errors import StackError
from fusedm.block.names import check_name
from fusedm.tables.finding import Finding, Kernel, Place, Severity, When
from fusedm.tables.lines import Line
from fusedm.tables.masking import masked
from fusedm.tables.words import Word, source_lines, split_words, whole_number

#: The kernel's DM_UUID_LEN is 129 with the closing NUL.
MAX_UUID_BYTES = 128

#: What a concise device has before its first table line.
_HEADINGS = ("name", "uuid", "minor", "flags")


@dataclass
class DeviceTable:
    """The lines of the table of one device; name is empty where none is told.

    is_told_empty: it is printed as a device without a table.
    """

    name: str
    read_only: bool | None = None
    lines: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    is_told_empty: bool = False


def read_forms(text: str, concise: bool, read_only: bool | None) -> list[DeviceTable]:
    """The tables in a text; without concise its form is found out."""
    lines = list(source_lines(text))
    if concise or _looks_concise(lines):
        return _Concise(read_only, lines).tables
    tables: dict[str, DeviceTable] = {}
    for number, line in lines:
        words = split_words(line)
        name = words[0].text[:-1] if words[0].text.endswith(":") else ""
        table = tables.setdefault(name, DeviceTable(name, read_only))
        rest = words[1:] if name else words
        if rest:
            table.lines.append(Line(number, line, rest))
        else:
            table.is_told_empty = True
    return list(tables.values()) or [DeviceTable("", read_only)]


def _looks_concise(lines: Sequence[tuple[int, str]]) -> bool:
    if not lines:
        return False
    begin = lines[0][1].split()[0]
    commas = [char for char in _unescaped(lines) if char.is_mark(",")]
    is_line = begin.endswith(":") or whole_number(begin) is not None
    return len(commas) >= len(_HEADINGS) and not is_line


@dataclass(frozen=True, slots=True)
class _Char:
    """A character of a concise text, its backslash gone, and the line it stands in."""

    char: str
    line: int
    column: int
    is_escaped: bool

    def is_mark(self, char: str) -> bool:
        """Whether it separates."""
        return self.char == char and not self.is_escaped


def _unescaped(lines: Iterable[tuple[int, str]]) -> list[_Char]:
    chars: list[_Char] = []
    for number, line in lines:
        column = 0
        while column < len(line):
            is_escaped = line[column] == "\\" and column + 1 < len(line)
            column += is_escaped
            chars.append(_Char(line[column], number, column, is_escaped))
            column += 1
        chars.append(_Char("\n", number, column, False))
    return chars


@dataclass(frozen=True, slots=True)
class _Part:
    """What stands between two marks, and where that begins."""

    line: int
    column: int
    chars: Sequence[_Char]

    @property
    def text(self) -> str:
        """It as a text."""
        return "".join(char.char for char in self.chars)

    @property
    def width(self) -> int:
        """How much of its first line it takes."""
        return max(sum(char.line == self.line and char.char != "\n" for char in self.chars), 1)

    def lines(self) -> Iterable[tuple[int, tuple[Word, ...]]]:
        """It as table lines: their numbers and words."""
        for number, group in groupby(self.chars, lambda char: char.line):
            chars = list(group)
            text = "".join(char.char for char in chars)
            if words := split_words(text, [char.column for char in chars]):
                yield number, words

    def split(self, mark: str) -> "list[_Part]":
        """The parts between marks."""
        marks = [index for index, char in enumerate(self.chars) if char.is_mark(mark)]
        begins = [0, *(index + 1 for index in marks)]
        parts = [self.chars[begin:end] for begin, end in zip(begins, [*marks, None], strict=True)]
        return [self._begin(part, begin) for part, begin in zip(parts, begins, strict=True)]

    def _begin(self, chars: Sequence[_Char], begin: int) -> "_Part":
        """A part that begins with its first character that is no blank, or where one might be."""
        first = next((char for char in chars if not char.char.isspace()), None)
        if first is not None:
            return _Part(first.line, first.column, chars[chars.index(first) :])
        if not begin:
            return _Part(self.line, self.column, chars)
        before = self.chars[begin - 1]
        return _Part(before.line, before.column + 1, chars)


class _Concise:
    """Reads the concise form."""

    def __init__(self, read_only: bool | None, lines: Sequence[tuple[int, str]]) -> None:
        self.read_only = read_only
        self.tables: list[DeviceTable] = []
        self.names: set[str] = set()
        self.uuids: set[str] = set()
        whole = _Part(1, 0, _unescaped(lines))
        devices = [part.split(",") for part in whole.split(";")]
        words: dict[int, list[Word]] = {}
        for device in devices:
            for part in device[len(_HEADINGS) :]:
                for number, found in part.lines():
                    words.setdefault(number, []).extend(found)
        # No place may be shown before keys are masked.
        self.shown = {number: masked(line, words.get(number, [])) for number, line in lines}
        for device in devices:
            if any(part.text.strip() for part in device):
                self.tables.append(self._device(device))

    def _place(self, part: _Part) -> Place:
        return Place(part.line, self.shown.get(part.line, ""), part.column, part.width)

    def _device(self, parts: list[_Part]) -> DeviceTable:
        headings = [*parts, *[parts[-1]] * len(_HEADINGS)][: len(_HEADINGS)]
        texts = [part.text for part in parts] + [""] * len(_HEADINGS)
        name, uuid, minor = (text.strip() for text in texts[:3])
        flags = texts[3]
        table = DeviceTable(name, self.read_only if flags != "ro" else True)
        if flags == "rw" and self.read_only is None:
            table.read_only = False
        wrong = self._wrong_with(name, uuid, minor, flags)
        for heading, part, found in zip(_HEADINGS, headings, wrong, strict=True):
            if found:
                text, kernel = found
                place, wording = self._place(part), f"{heading}: {text}"
                table.findings.append(Finding(Severity.ERROR, place, "", wording, kernel))
        lines = [line for part in parts[len(_HEADINGS) :] for line in part.lines()]
        table.lines = [Line(number, "", words, self.shown[number]) for number, words in lines]
        if not lines:
            place = self._place(parts[0])
            text = "a device in concise form is name,uuid,minor,flags,table[,table]*"
            kernel = Kernel(when=When.DMSETUP)
            table.findings.append(Finding(Severity.ERROR, place, "", text, kernel))
            table.is_told_empty = True
        return table

    def _wrong_with(
        self, name: str, uuid: str, minor: str, flags: str
    ) -> list[tuple[str, Kernel] | None]:
        """What is wrong with each heading."""
        found: list[tuple[str, Kernel] | None] = [None] * len(_HEADINGS)
        dmsetup, create = Kernel(when=When.DMSETUP), Kernel(when=When.CREATE)
        if name in self.names:
            found[0] = "is given to two devices", Kernel(errno.EBUSY, When.CREATE)
        else:
            try:
                check_name("the", name)
            except StackError as error:
                found[0] = str(error).removeprefix("the name "), create
        if uuid and uuid in self.uuids:
            found[1] = "is given to two devices", Kernel(errno.EBUSY, When.CREATE)
        elif len(uuid.encode(errors="surrogatepass")) > MAX_UUID_BYTES:
            found[1] = f"is longer than {MAX_UUID_BYTES} bytes", create
        if minor and whole_number(minor) is None:
            found[2] = "is neither empty nor a number", dmsetup
        if flags not in ("", "ro", "rw"):
            found[3] = "is neither empty nor ro nor rw", dmsetup
        self.names.add(name)
        self.uuids.add(uuid)
        return found
