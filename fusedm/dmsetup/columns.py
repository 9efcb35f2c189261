"""Reports in columns: order, selection, and the ways in which they are written. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fusedm.block.errors import UsageError
from fusedm.dmsetup.fields import SELECTED, Field, Row, Value, find_field
from fusedm.dmsetup.options import Options
from fusedm.dmsetup.selection import Selection


@dataclass(frozen=True, slots=True)
class Style:
    """How a report is written; a separator of None lines the columns up."""

    has_headings: bool = True
    separator: str | None = None
    has_prefixes: bool = False
    is_quoted: bool = True
    is_turned: bool = False

    @classmethod
    def of(cls, options: Options) -> "Style":
        """What the options ask for: without headings, columns are not lined up but separated."""
        style = cls(
            has_headings=not options.has("noheadings"),
            separator=options.values.get("separator"),
            has_prefixes=options.has("nameprefixes"),
            is_quoted=not options.has("unquoted"),
            is_turned=options.has("rows"),
        )
        if style.separator is not None:
            return style
        if not style.has_headings:
            return replace(style, separator=":")
        return replace(style, separator=" ") if style.has_prefixes or style.is_turned else style


def report(
    rows: Sequence[Row], fields: Sequence[Field], sort_keys: str | None, select: str, style: Style
) -> str:
    """The report of some devices; none selected gives no heading either.

    Raises: UsageError for a sort key or selection that cannot be.
    """
    ordered = sort_rows(rows, "name" if sort_keys is None else sort_keys)
    selection = Selection(select)
    marked = [(row, selection.takes(row)) for row in ordered]
    if SELECTED not in fields:
        marked = [(row, True) for row, is_taken in marked if is_taken]
    if not marked:
        return ""
    values = [
        [int(is_taken) if field is SELECTED else field.value(row) for field in fields]
        for row, is_taken in marked
    ]
    return write(values, fields, style)


def write(values: Sequence[Sequence[Value]], fields: Sequence[Field], style: Style) -> str:
    """Lines of values below the headings of their columns."""
    headings = [field.heading for field in fields]
    if style.separator is None:
        return _lined_up(values, headings, fields)
    if style.has_prefixes:
        lines = [[_prefixed(*cell, style) for cell in zip(fields, v, strict=True)] for v in values]
    else:
        lines = [[str(value) for value in row] for row in values]
    if style.has_headings:
        lines.insert(0, headings)
    if style.is_turned:
        lines = [list(column) for column in zip(*lines, strict=True)]
    return "".join(style.separator.join(line) + "\n" for line in lines)


def _lined_up(
    values: Sequence[Sequence[Value]], headings: Sequence[str], fields: Sequence[Field]
) -> str:
    widths = [
        max(field.width, len(field.heading), *(len(str(row[place])) for row in values))
        for place, field in enumerate(fields)
    ]
    lines = [[heading.ljust(width) for heading, width in zip(headings, widths, strict=True)]]
    for row in values:
        cells = zip(row, fields, widths, strict=True)
        lines.append(
            [
                str(value).rjust(width) if field.is_number else str(value).ljust(width)
                for value, field, width in cells
            ]
        )
    return "".join(" ".join(line) + "\n" for line in lines)


def _prefixed(field: Field, value: Value, style: Style) -> str:
    quote = "'" if style.is_quoted else ""
    return f"DM_{field.name.upper()}={quote}{value}{quote}"


def sort_rows(rows: Sequence[Row], keys: str) -> list[Row]:
    """The rows in the order of some fields; one with a minus counts down.

    Raises: UsageError.
    """
    ordered = list(rows)
    for word in reversed([word for word in keys.split(",") if word]):
        field = find_field(word.lstrip("+-"))
        if field is None:
            raise UsageError(f"dm_report: Unrecognised field: {word.lstrip('+-')}")
        ordered.sort(key=_sort_key(field), reverse=word.startswith("-"))
    return ordered


def _sort_key(field: Field) -> Callable[[Row], tuple[int, str]]:
    """Numbers by their size, words as they are."""

    def key(row: Row) -> tuple[int, str]:
        value = field.value(row)
        return (value, "") if isinstance(value, int) else (0, value)

    return key
