"""When workers are let in: while the daemon's own thread waits, and so runs no Python."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fusedm.files.paths import Paths


@contextmanager
def letting_in(paths: Paths) -> Iterator[None]:
    """Open the gate of paths whenever all tasks wait, and close it before one runs again."""
    waits = _Waits(paths)
    trio.lowlevel.add_instrument(waits)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(waits)


class _Waits(trio.abc.Instrument):
    """Is told when trio begins and ends to wait."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def before_io_wait(self, timeout: float) -> None:
        """All tasks wait, or take turns: then only for who waits at the gate already."""
        if timeout > 0 or self._paths.gate.is_waited_at:
            self._paths.open()

    def after_io_wait(self, timeout: float) -> None:
        """Tasks may run."""
        self._paths.close()
