"""The life of a table's targets: opened, started, told of suspends, closed and stopped."""

import logging
from collections.abc import Callable, Iterable, Iterator

from fusedm.block import CryptoKey
from fusedm.block.errors import BlockIOError
from fusedm.dm.scripts import run_script
from fusedm.dm.table import Table
from fusedm.dm.target import Target

log = logging.getLogger(__name__)


async def open_targets(table: Table) -> None:
    """Let every target read and write below what it needs before it can be used; once.

    Raises: BlockIOError, StackError: the table cannot be used.
    """
    if table.is_open:
        return
    for entry in table.entries:
        await run_script(entry.target.opening())
    table.is_open = True


def start_targets(table: Table, raise_event: Callable[[], None]) -> None:
    """Tell every target that its table is loaded; on all or on none.

    Raises: FusedmError of a target that refuses.
    """
    if table.is_started:
        return
    started: list[Target] = []
    try:
        for entry in table.entries:
            entry.target.raise_event = raise_event  # type: ignore[method-assign]  # meant to be set
            entry.target.start()
            started.append(entry.target)
    except BaseException:
        for target in started:
            target.stop()
        raise
    table.is_started = True


def keys_of_targets(tables: Iterable[Table | None]) -> Iterator[CryptoKey]:
    """The keys of the contexts that targets of some tables give bios."""
    for table in tables:
        for entry in table.entries if table is not None else ():
            yield from entry.target.keys()


def must_be_closed(table: Table) -> bool:
    """Whether a target has something to write before its table may go."""
    return table.is_open and any(
        type(entry.target).closing is not Target.closing for entry in table.entries
    )


async def close_targets(table: Table) -> None:
    """Let every target write what it owes; one that fails is logged, and the others still do."""
    for entry in table.entries:
        try:
            await run_script(entry.target.closing())
        except BlockIOError as error:
            log.warning("%s: at its end: %s", entry.target.name, error)


def stop_targets(table: Table) -> None:
    """Tell every target that its table is dropped."""
    if table.is_started:
        for entry in table.entries:
            entry.target.stop()
    table.is_started = False
