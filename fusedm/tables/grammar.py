"""What a grammar is, and the shelf they are on: a file in grammars/ is a family of targets."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from fusedm.tables import grammars
from fusedm.tables.pieces import Piece, read_all
from fusedm.tables.reader import Reader

#: Looks at a line that could be read whole, and says what is wrong or odd in it.
Check = Callable[[Reader], None]

#: The arguments with which the kernel's table output repeats a line, keys shown. None: that depends
#: on what is found on the devices.
Printer = Callable[[Reader], list[str] | None]


def as_read(line: Reader) -> list[str]:
    """Most targets print their arguments in the order in which they are given."""
    return [found.printed for found in line.fields]


def not_known(line: Reader) -> None:
    """What is printed depends on the devices."""


@dataclass(frozen=True)
class Grammar:
    """How the arguments of a target are read, checked and printed.

    is_alone: it must be the only target of its table. needs_writing: that table is not read-only.
    masks_key: dmsetup prints zeros for its key unless it is asked for. lookup_errno: what a device
    that cannot be found is refused with, whatever the reason; 0 is the reason's own.
    """

    name: str
    usage: str
    pieces: tuple[Piece, ...]
    checks: tuple[Check, ...] = ()
    printer: Printer = as_read
    is_alone: bool = False
    needs_writing: bool = False
    masks_key: bool = False
    lookup_errno: int = 0

    def read(self, line: Reader) -> None:
        """Read a line; what is wrong with it is kept in it."""
        done = read_all(self.pieces, line)
        if done and line.left:
            extra = line.span(line.rest())
            takes = f"takes {self.usage}" if self.usage else "takes no arguments"
            line.error(f"{line.quote(extra)} is too much: it {takes}", extra)
        if not line.has_errors:
            for check in self.checks:
                check(line)


@cache
def all_grammars() -> Mapping[str, Grammar]:
    """Every grammar by the name of its target, sorted."""
    found = [
        grammar
        for module in pkgutil.iter_modules(grammars.__path__, f"{grammars.__name__}.")
        for grammar in import_module(module.name).GRAMMARS
    ]
    return {grammar.name: grammar for grammar in sorted(found, key=lambda one: one.name)}
