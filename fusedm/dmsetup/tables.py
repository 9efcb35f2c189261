"""The texts of tables: what dmsetup checks before it asks, and the concise form. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block.errors import UsageError

#: struct dm_target_spec has 16 bytes for the type, with the closing NUL.
MAX_TYPE_BYTES = 15

#: As scanf reads `%llu %llu %s` and the rest: a number takes all its digits.
_LINE = re.compile(r"([+-]?\d++)\s*([+-]?\d++)\s*(\S+)\s*(.*)", re.ASCII | re.DOTALL)


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
        flags = self.flags.strip()
        if flags not in ("", "ro", "rw"):
            raise UsageError(
                f"Invalid flags parameter '{self.flags}' must be 'ro' or 'rw' or empty."
            )
        return flags == "ro"


def split_concise(text: str) -> Iterable[ConciseDevice]:
    """The devices of a concise list, one by one: those before a wrong one are made.

    Raises: UsageError.
    """
    entries = _split_fields(text)
    for place, (fields, is_ended) in enumerate(entries):
        if fields == [""] and place == len(entries) - 1 and (place or not is_ended):
            return
        is_open = not is_ended and fields[-1] == ""
        if len(fields) < 5 or is_open:
            what = "Incomplete entry: five" if is_open else "Five"
            raise UsageError(f"{what} {_missing(fields)}")
        name, uuid, minor, flags, *lines = fields
        yield ConciseDevice(name, uuid, minor, flags, "\n".join(lines))


def _missing(fields: list[str]) -> str:
    found = [*fields[:4], *(["\n".join(fields[4:])] if fields[4:] else [])]
    shown = [*found, *["(null)"] * (5 - len(found))]
    labels = ("name", "uuid", "minor", "flags", "table")
    told = " ".join(f"{label}: {value}" for label, value in zip(labels, shown, strict=True))
    return (
        f"comma-separated fields are required for each device\nParsed {len(found)} fields: {told}"
    )


def _split_fields(text: str) -> list[tuple[list[str], bool]]:
    """Entries of fields, and whether a semicolon ended them; a backslash takes what follows."""
    entries: list[tuple[list[str], bool]] = []
    fields = [""]
    escaped = False
    for char in text:
        if escaped or char not in "\\,;":
            fields[-1] += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            fields.append("")
        else:
            entries.append((fields, True))
            fields = [""]
    entries.append((fields, False))
    return entries


def format_concise(name: str, uuid: str, minor: int, read_only: bool, table: str) -> str:
    """A device as an entry of a concise list."""
    fields = [name, uuid, str(minor), "ro" if read_only else "rw"]
    fields += table.split("\n") if table else []
    return ",".join(_quoted(word) for word in fields)


def _quoted(word: str) -> str:
    return re.sub(r"[\\,;]", r"\\\g<0>", word)


def lines_of_target(text: str, kind: str | None) -> list[str]:
    """The lines of a table or status, those of one target type only if it is given."""
    lines = text.split("\n") if text else []
    return [line for line in lines if kind is None or line.split(" ", 3)[2] == kind]
