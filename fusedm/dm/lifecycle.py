"""The life of a table's targets: opened, started, resumed and suspended, closed and stopped."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

from fusedm.block import CryptoKey
from fusedm.block.errors import FusedmError
from fusedm.dm.background import Background
from fusedm.dm.scripts import run_script
from fusedm.dm.table import Table
from fusedm.dm.target import Target
from fusedm.dm.turns import Host, Steps

log = logging.getLogger(__name__)

#: What a target may do once its table is no more used; most do none of it.
_LAST_TURNS = ("presuspend", "postsuspend", "closing")


async def open_targets(table: Table, host: Host) -> None:
    """Let every target read below what it needs before its table can be loaded; once.

    Raises: BlockIOError, StackError: the table cannot be used.
    """
    if table.is_open:
        return
    for entry in table.entries:
        entry.target.host = host
    await _run_all(entry.target.opening() for entry in table.entries)
    table.is_open = True


def start_targets(table: Table, host: Host) -> None:
    """Tell every target that its table is loaded; on all or on none.

    Raises: FusedmError of a target that refuses.
    """
    if table.is_started:
        return
    started: list[Target] = []
    try:
        for entry in table.entries:
            entry.target.host = host
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


async def preresume_targets(table: Table) -> None:
    """Let every target do what it has to before bios come.

    Raises: FusedmError of a target that cannot go on.
    """
    await _run_all(entry.target.preresume() for entry in table.entries)


def resume_targets(table: Table, name: str, quiesce: Callable[[], Awaitable[None]]) -> None:
    """Tell every target that bios come; what it does in the background begins, or goes on.

    quiesce waits until what is in flight on the device has ended.
    """
    table.is_running = True
    for entry in table.entries:
        entry.target.resumed()
    if table.background is not None:
        table.background.go_on()
        return
    scripts = [steps for entry in table.entries for steps in entry.target.background()]
    if scripts:
        table.background = Background(name, quiesce)
        table.background.start(scripts)


async def presuspend_targets(table: Table) -> None:
    """Tell every target that bios are about to stop.

    Raises: FusedmError of a target that does not let itself be suspended.
    """
    await _run_all(entry.target.presuspend() for entry in table.entries)


async def postsuspend_targets(table: Table) -> None:
    """Hold what is done in the background, and let every target write what it owes.

    Raises: FusedmError of one that cannot.
    """
    if table.background is not None:
        await table.background.hold()
    await _run_all(entry.target.postsuspend() for entry in table.entries)
    table.is_running = False


def must_be_ended(table: Table) -> bool:
    """Whether a target may have something to write, or is at work, before its table may go."""
    return table.background is not None or (
        table.is_open
        and any(
            getattr(type(entry.target), turn) is not getattr(Target, turn)
            for entry in table.entries
            for turn in _LAST_TURNS
        )
    )


async def end_targets(table: Table) -> None:
    """Let every target write what it owes, and its last words; errors are logged."""
    try:
        if table.is_running:
            await _try_all(table, lambda target: target.presuspend())
        if table.background is not None:
            await table.background.end()
        if table.is_running:
            await _try_all(table, lambda target: target.postsuspend())
        await _try_all(table, lambda target: target.closing())
    finally:
        stop_targets(table)


def stop_targets(table: Table) -> None:
    """Tell every target that its table is dropped."""
    if table.is_started:
        for entry in table.entries:
            entry.target.stop()
    table.is_started = table.is_running = False
    _forget(table)


@contextmanager
def on_trial(table: Table) -> Iterator[None]:
    """Have every target of a table that is refused overwrite what must not be left of it."""
    try:
        yield
    except BaseException:
        _forget(table)
        raise


def _forget(table: Table) -> None:
    for entry in table.entries:
        entry.target.forget()


async def _run_all(scripts: Iterable[Steps[None]]) -> None:
    for steps in scripts:
        await run_script(steps)


async def _try_all(table: Table, turn: Callable[[Target], Steps[None]]) -> None:
    for entry in table.entries:
        try:
            await run_script(turn(entry.target))
        except FusedmError as error:
            name = entry.target.host.name
            log.warning("%s: %s: at its end: %s", name, entry.target.name, error)
