"""Writing down for several at once: who comes while one writes is served by the next. Pure."""

from collections.abc import Callable

from fusedm.dm.signal import Signal
from fusedm.dm.target import Wait
from fusedm.dm.turns import Steps


class Commit:
    """Something that is written by one script at a time, as it is then, for all who wait for it."""

    def __init__(self, write: Callable[[], Steps[None]]) -> None:
        self._write = write
        self._wanted = 0
        self._done = 0
        self._is_writing = False
        self._written = Signal()

    def __call__(self) -> Steps[None]:
        """Have written what is to be written now, or wait until another has.

        Raises: what the write raises, to whoever carried it out; others try again.
        """
        self._wanted += 1
        mine = self._wanted
        while self._done < mine:
            if self._is_writing:
                yield Wait(self._written)
                continue
            self._is_writing, wanted = True, self._wanted
            try:
                yield from self._write()
                self._done = wanted
            finally:
                self._is_writing = False
                self._written.notify()
