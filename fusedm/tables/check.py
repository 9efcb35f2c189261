"""Check a text of tables: every line by the grammar of its target, and what the lines make.

For each line that is in order, the words with which the kernel's table output repeats it are made
and read again: what comes out must be the same, and must be a line that can be loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fusedm.tables.finding import Finding, Kernel, Place, Severity
from fusedm.tables.forms import DeviceTable, read_forms
from fusedm.tables.grammar import Grammar, all_grammars
from fusedm.tables.layout import UNDESCRIBED, check_company, read_place
from fusedm.tables.lines import Line
from fusedm.tables.masking import squeezed
from fusedm.tables.reader import Reader
from fusedm.tables.words import escaped, split_words


@dataclass(frozen=True)
class LineReport:
    """A line that was read; printed is what the kernel prints of it, keys masked, or empty."""

    reader: Reader
    printed: str


@dataclass(frozen=True)
class TableReport:
    """The table of one device."""

    name: str
    lines: Sequence[LineReport]

    @property
    def sector_count(self) -> int:
        """Where its last line ends."""
        if not self.lines:
            return 0
        last = self.lines[-1].reader
        return last.start_sector + last.sector_count


@dataclass(frozen=True)
class Report:
    """All that was found, in the order of the text."""

    tables: Sequence[TableReport]
    findings: Sequence[Finding]

    def count(self, severity: Severity) -> int:
        """How many findings are so severe."""
        return sum(found.severity is severity for found in self.findings)


def check_text(text: str, concise: bool = False, read_only: bool | None = None) -> Report:
    """Check tables as dmsetup takes or prints them.

    read_only: whether they are loaded read-only, None if that is not known. Any text will do.
    """
    tables: list[TableReport] = []
    findings: list[Finding] = []
    for table in read_forms(text, concise, read_only):
        lines = _check_table(table)
        tables.append(TableReport(table.name, lines))
        findings += table.findings
        findings += (found for line in lines for found in line.reader.findings)
        if not lines and not table.is_told_empty:
            findings.append(_empty(text))
    findings.sort(key=lambda found: (found.place.line, found.place.column))
    return Report(tables, findings)


def _empty(text: str) -> Finding:
    place = Place(max(text.count("\n"), 1), "", 0, 1)
    return Finding(Severity.ERROR, place, "", "there is no table line in it", Kernel())


def _check_table(table: DeviceTable) -> list[LineReport]:
    reports: list[LineReport] = []
    end: int | None = 0
    for line in table.lines:
        reader = read_place(line, end)
        reader.read_only = table.read_only
        end = reader.start_sector + reader.sector_count if len(line.words) > 2 else None
        reports.append(LineReport(reader, _check_line(reader)))
    check_company([report.reader for report in reports], table.read_only)
    return reports


def _check_line(reader: Reader) -> str:
    """Read the arguments of a line; returns what the kernel prints of it."""
    grammar = all_grammars().get(reader.target)
    if grammar is None:
        if reader.target in UNDESCRIBED:
            reader.warn("its arguments are not checked: they are not described here")
        return ""
    grammar.read(reader)
    return "" if reader.has_errors else _check_round_trip(grammar, reader)


def _check_round_trip(grammar: Grammar, reader: Reader) -> str:
    arguments = grammar.printer(reader)
    if arguments is None:
        return ""
    printed, again = _printed_line(grammar, reader, arguments)
    wrong = [found.text for found in again.findings if found.severity is Severity.ERROR]
    if not wrong:
        text, _ = _printed_line(grammar, again, grammar.printer(again) or [])
        wrong = [f"it is taken for `{text}`"] if text != printed else []
    if wrong:
        reader.warn(
            f"the kernel prints it as `{printed}`, which does not load back: {wrong[0]}",
            kernel=Kernel(0),
        )
    return printed


def _printed_line(grammar: Grammar, reader: Reader, arguments: Sequence[str]) -> tuple[str, Reader]:
    """What the kernel's table output says of a line, keys masked, and that read again."""
    place = f"{reader.start_sector} {reader.sector_count} {reader.target} "
    text = place + " ".join(map(escaped, arguments))
    line = Line(1, text, split_words(text))
    again = read_place(line, reader.start_sector)
    again.read_only = reader.read_only
    grammar.read(again)
    return squeezed(line.shown), again
