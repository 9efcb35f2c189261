"""Tables as text: check them, say what the kernel would say, explain them.  See README.md."""

from fusedm.tables.check import LineReport, Report, TableReport, check_text
from fusedm.tables.devices import devices_named
from fusedm.tables.explain import explain, told
from fusedm.tables.finding import Finding, Kernel, Place, Severity, When
from fusedm.tables.grammar import Grammar, all_grammars

__all__ = [
    "Finding",
    "Grammar",
    "Kernel",
    "LineReport",
    "Place",
    "Report",
    "Severity",
    "TableReport",
    "When",
    "all_grammars",
    "check_text",
    "devices_named",
    "explain",
    "told",
]
