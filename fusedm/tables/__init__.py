"""Tables as text: check them, say what the kernel would say, explain them.  See README.md."""

from fusedm.tables.check import LineReport, Report, TableReport, check_text
from fusedm.tables.devices import devices_named
from fusedm.tables.explain import explain, told
from fusedm.tables.finding import Finding, Kernel, Place, Severity, When
from fusedm.tables.grammar import Grammar, all_grammars
from fusedm.tables.keys import CRYPT_KEY, read_key_word
from fusedm.tables.layout import MAX_TABLE_TARGETS, read_lines
from fusedm.tables.pieces import DEVICE, NO_DEVICE
from fusedm.tables.reader import Field, Reader
from fusedm.tables.words import escaped, whole_number

__all__ = [
    "CRYPT_KEY",
    "DEVICE",
    "MAX_TABLE_TARGETS",
    "NO_DEVICE",
    "Field",
    "Finding",
    "Grammar",
    "Kernel",
    "LineReport",
    "Place",
    "Reader",
    "Report",
    "Severity",
    "TableReport",
    "When",
    "all_grammars",
    "check_text",
    "devices_named",
    "escaped",
    "explain",
    "read_key_word",
    "read_lines",
    "told",
    "whole_number",
]
