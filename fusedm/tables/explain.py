"""The table with every field named, its unit, and its size as a person reads it."""

from collections.abc import Iterator

from fusedm.block.units import SECTOR_SIZE
from fusedm.tables.check import LineReport, Report
from fusedm.tables.grammar import all_grammars
from fusedm.tables.masking import squeezed
from fusedm.tables.reader import Field, Reader, human

#: Units of an amount that is clearer with another one beside it.
_MS_IN_SECOND = 1000


def explain(report: Report) -> str:
    """Each line of each table, field by field; keys are never shown."""
    lines: list[str] = []
    for table in report.tables:
        if table.name:
            lines.append(f"{table.name}: {_sectors(table.sector_count)}")
        for line in table.lines:
            lines += _explain_line(line)
    return "\n".join(lines)


def told(report: Report) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {
            "name": table.name,
            "sectors": table.sector_count,
            "lines": [
                {
                    "line": line.reader.line.number,
                    "start": line.reader.start_sector,
                    "length": line.reader.sector_count,
                    "target": line.reader.target,
                    "fields": [
                        {
                            "name": one.name,
                            "unit": one.unit,
                            "word": _shown(line.reader, one),
                            "note": _note(one),
                        }
                        for one in line.reader.fields
                    ],
                    "printed": line.printed,
                }
                for line in table.lines
            ],
        }
        for table in report.tables
    ]


def _explain_line(line: LineReport) -> Iterator[str]:
    reader = line.reader
    start, end = reader.start_sector, reader.start_sector + reader.sector_count
    target = reader.target or "unknown target"
    yield (
        f"line {reader.line.number}: {target}: sectors {start}..{end} of the device, "
        f"{human(reader.sector_count)} from {human(start)} on"
    )
    width = max((len(one.name) for one in reader.fields), default=0)
    for one in reader.fields:
        note = _note(one)
        yield f"  {one.name:<{width}}  {_shown(reader, one)}{f'  {note}' if note else ''}"
    if line.printed:
        yield f"  the kernel prints: {line.printed}"
    if line.printed and all_grammars()[reader.target].masks_key and _has_key(reader):
        yield "  dmsetup table prints zeros for its key without --showkeys: no line to load"


def _has_key(reader: Reader) -> bool:
    """Whether key bytes are in the line: not a name in a keyring, and not a bare algorithm."""
    return any("*" in _shown(reader, one) for one in reader.fields if one.is_secret)


def _shown(reader: Reader, one: Field) -> str:
    """The word of a field as it may be shown."""
    return squeezed(reader.place(one.word).text)


def _note(one: Field) -> str:
    """The unit of a number and what that makes."""
    if one.is_secret and isinstance(one.value, int):
        return f"a key of {one.value} bytes"
    if not isinstance(one.value, int):
        return ""
    if one.unit == "sectors":
        return f"sectors: {human(one.value)}"
    if one.unit == "bytes" and not one.value % SECTOR_SIZE:
        return f"bytes: {_sectors(one.value // SECTOR_SIZE)}"
    if one.unit == "ms":
        return f"ms: {one.value / _MS_IN_SECOND:g} s"
    return one.unit


def _sectors(count: int) -> str:
    plural = "" if count == 1 else "s"
    return f"{count} sector{plural}, {human(count)}"
