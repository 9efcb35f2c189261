"""The forms tables come in: lines, lines with the name of their device before them, and --concise.

With several devices dmsetup prints `name: ` before each line. Its concise form has a device in
`name,uuid,minor,flags,table[,table]*`, the next after a semicolon, a backslash before each of
, ; and \\ that is meant as itself.
"""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fusedm.block.errors import StackError
from fusedm.block.names import check_name
from fusedm.tables.finding import Finding, Kernel, Place, Severity, When
from fusedm.tables.masking import masked
from fusedm.tables.words import Line, Word, split_words, whole_number

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
    lines = [
        (number, line)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if concise or (lines and _looks_concise(lines[0][1])):
        return _Concise(read_only).read(lines)
    tables: dict[str, DeviceTable] = {}
    for number, line in lines:
        words = split_words(line)
        name = words[0].text[:-1] if words[0].text.endswith(":") else ""
        table = tables.setdefault(name, DeviceTable(name, read_only))
        rest = words[1:] if name else words
        if rest:
            table.lines.append(Line(number, masked(line, rest), rest))
        else:
            table.is_told_empty = True
    return list(tables.values()) or [DeviceTable("", read_only)]


def _looks_concise(line: str) -> bool:
    chars = _unescaped(line)
    commas = [index for index, char in enumerate(chars) if char.is_mark(",")]
    return len(commas) >= len(_HEADINGS) and whole_number(line.split()[0]) is None


@dataclass(frozen=True, slots=True)
class _Char:
    """A character of a concise text, its backslash gone."""

    char: str
    column: int
    is_escaped: bool

    def is_mark(self, char: str) -> bool:
        """Whether it separates."""
        return self.char == char and not self.is_escaped


def _unescaped(line: str) -> list[_Char]:
    chars: list[_Char] = []
    column = 0
    while column < len(line):
        is_escaped = line[column] == "\\" and column + 1 < len(line)
        column += is_escaped
        chars.append(_Char(line[column], column, is_escaped))
        column += 1
    return chars


@dataclass(frozen=True, slots=True)
class _Part:
    """What stands between two marks, and the column where that begins."""

    column: int
    chars: Sequence[_Char]

    @property
    def text(self) -> str:
        """It as a text."""
        return "".join(char.char for char in self.chars)

    def words(self) -> tuple[Word, ...]:
        """It as the words of a table line."""
        return split_words(self.text, [char.column for char in self.chars])

    def split(self, mark: str) -> "list[_Part]":
        """The parts between marks."""
        marks = [index for index, char in enumerate(self.chars) if char.is_mark(mark)]
        begins = [0, *(index + 1 for index in marks)]
        columns = [self.column, *(self.chars[index].column + 1 for index in marks)]
        return [
            _Part(column, self.chars[begin:end])
            for column, begin, end in zip(columns, begins, [*marks, None], strict=True)
        ]


class _Concise:
    """Reads the concise form."""

    def __init__(self, read_only: bool | None) -> None:
        self.read_only = read_only
        self.tables: list[DeviceTable] = []
        self.names: set[str] = set()
        self.uuids: set[str] = set()

    def read(self, lines: Iterable[tuple[int, str]]) -> list[DeviceTable]:
        """The devices of every line."""
        for number, line in lines:
            devices = [part.split(",") for part in _Part(0, _unescaped(line)).split(";")]
            tables = [part for device in devices for part in device[len(_HEADINGS) :]]
            # No place may be shown before keys are masked.
            shown = masked(line, [word for part in tables for word in part.words()])
            for device in devices:
                if any(part.text.strip() for part in device):
                    self.tables.append(self._device(number, shown, device))
        return self.tables

    def _device(self, number: int, shown: str, parts: list[_Part]) -> DeviceTable:
        headings = [*parts, *[parts[-1]] * len(_HEADINGS)][: len(_HEADINGS)]
        texts = [part.text.strip() for part in parts] + [""] * len(_HEADINGS)
        name, uuid, minor, flags = texts[: len(_HEADINGS)]
        table = DeviceTable(name, self.read_only if flags != "ro" else True)
        if flags == "rw" and self.read_only is None:
            table.read_only = False
        wrong = self._wrong_with(name, uuid, minor, flags)
        for heading, part, found in zip(_HEADINGS, headings, wrong, strict=True):
            if found:
                text, kernel = found
                place = Place(number, shown, part.column, max(len(part.chars), 1))
                finding = Finding(Severity.ERROR, place, "", f"{heading}: {text}", kernel)
                table.findings.append(finding)
        lines = [words for part in parts[len(_HEADINGS) :] if (words := part.words())]
        table.lines = [Line(number, shown, words) for words in lines]
        if not lines:
            place = Place(number, shown, parts[0].column, max(len(parts[0].chars), 1))
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
        if flags not in ("ro", "rw"):
            found[3] = "is neither ro nor rw", dmsetup
        self.names.add(name)
        self.uuids.add(uuid)
        return found
