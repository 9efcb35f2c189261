"""The texts of tables: what dmsetup checks before it asks, and the concise form. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fusedm.block.errors import UsageError

#: struct dm_target_spec has 16 bytes for the type, with the closing NUL.
MAX_TYPE_BYTES = 15

#: As scanf reads `%llu %llu %s` and the rest: a number takes all its digits.
_LINE = re.compile(r"([+-]?\d++)\s*([+-]?\d++)\s*(\S+)\s*(.*)", re.ASCII | re.DOTALL)

#: A backslash takes what follows, whatever it is; the last character of a text takes nothing.
_CONCISE = re.compile(r"(?P<mark>[,;])\s*|(?P<char>\\?.)", re.ASCII | re.DOTALL)


def check_table_text(text: str, source: str) -> str:
    """The lines of a table that say something, each `start length type arguments`.

    What follows a # is a comment, wherever it stands.
    source is where it comes from: empty, `on stdin`, or a file.
    Raises: UsageError naming the line.
    """
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        words = _LINE.fullmatch(said)
        if words is None:
            raise UsageError(f"Invalid format on line {number} of table {source}.")
        start, length, kind, arguments = words.groups()
        if len(kind.encode(errors="surrogateescape")) > MAX_TYPE_BYTES:
            raise UsageError(f"Target type name {kind} is too long.")
        lines.append(f"{start} {length} {kind} {arguments}".rstrip())
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ConciseDevice:
    """One device of a concise list, as it was written."""

    name: str
    uuid: str
    minor: str
    flags: str
    table: str

    @property
    def is_read_only(self) -> bool:
        """Whether the flags say so.

        Raises: UsageError for flags that say nothing.
        """
        if self.flags not in ("", "ro", "rw"):
            raise UsageError(
                f"Invalid flags parameter '{self.flags}' must be 'ro' or 'rw' or empty."
            )
        return self.flags == "ro"


def split_concise(text: str) -> Iterator[ConciseDevice]:
    """The devices of a concise list, one by one: those before a wrong one are made.

    Blanks and newlines after a comma or semicolon say nothing; all others belong to their field.
    Raises: UsageError.
    """
    fields = [""]
    for found in _CONCISE.finditer(text):
        mark, char = found["mark"], found["char"]
        if char == "\\":
            what = "Backslash must be followed by another character at end of string."
            raise UsageError(f"{what}\n{_parsed(fields)}")
        if mark == ";":
            yield _concise_device(fields, is_ended=True)
            fields = [""]
        elif mark:
            fields.append("")
        else:
            fields[-1] += char[-1]
    if fields != [""]:
        yield _concise_device(fields, is_ended=False)


def _concise_device(fields: list[str], is_ended: bool) -> ConciseDevice:
    is_open = not is_ended and fields[-1] == ""
    if len(fields) < 5 or is_open:
        what = "Incomplete entry: five" if is_open else "Five"
        told = "comma-separated fields are required for each device"
        raise UsageError(f"{what} {told}\n{_parsed(fields)}")
    name, uuid, minor, flags, *lines = fields
    return ConciseDevice(name, uuid, minor, flags, "\n".join(lines))


def _parsed(fields: list[str]) -> str:
    found = [*fields[:4], *(["\n".join(fields[4:])] if fields[4:] else [])]
    shown = [*found, *["(null)"] * (5 - len(found))]
    labels = ("name", "uuid", "minor", "flags", "table")
    told = " ".join(f"{label}: {value}" for label, value in zip(labels, shown, strict=True))
    return f"Parsed {len(found)} fields: {told}"


def format_concise(name: str, uuid: str, minor: int, read_only: bool, lines: Sequence[str]) -> str:
    """A device as an entry of a concise list."""
    fields = [name, uuid, str(minor), "ro" if read_only else "rw", *lines]
    return ",".join(_quoted(word) for word in fields)


def _quoted(word: str) -> str:
    return re.sub(r"[\\,;]", r"\\\g<0>", word)
