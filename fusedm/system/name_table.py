"""The names of one system: since when each is there, when it was last written, how often open."""

import errno
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import time

from fusedm.block.errors import StackError
from fusedm.block.names import check_name


class NameTable:
    """One name space for disks, mapped devices and views."""

    def __init__(self) -> None:
        #: Seconds since the epoch of creation and of the last write, by name.
        self.created: dict[str, float] = {}
        self.written: dict[str, float] = {}
        self._open: Counter[str] = Counter()
        #: Old and new names that verbs have the kernel rename just now.
        self._renaming: set[tuple[str, str]] = set()
        #: Waits until what was asked of files before has been seen, such as that one was closed.
        self.catch_up: Callable[[], Awaitable[None]] = _nothing_to_see

    def check_free(self, kind: str, name: str) -> None:
        """Refuse a name for something new.

        Raises: StackError for an illegal (EINVAL) or taken (EEXIST) name.
        """
        check_name(kind, name)
        if name in self.created:
            raise StackError(f"name {name!r} is taken", errno.EEXIST)

    def claim(self, kind: str, name: str) -> None:
        """Give a name to something new.

        Raises: as check_free.
        """
        self.check_free(kind, name)
        self.created[name] = self.written[name] = time()

    def release(self, name: str) -> None:
        """Let a name go."""
        del self.created[name], self.written[name], self._open[name]

    def rename(self, name: str, new: str) -> None:
        """Have all that is known of a name known of another, which is free."""
        self.created[new] = self.created.pop(name)
        self.written[new] = self.written.pop(name)
        self._open[new] = self._open.pop(name, 0)

    @contextmanager
    def renaming(self, name: str, new: str) -> Iterator[None]:
        """Expect a rename in the mount for the time of a with block; nobody else's is allowed."""
        self._renaming.add((name, new))
        try:
            yield
        finally:
            self._renaming.discard((name, new))

    def is_renaming(self, name: str, new: str) -> bool:
        """Whether a verb is giving the name this new one."""
        return (name, new) in self._renaming

    def opened(self, name: str) -> None:
        """Count an open file."""
        self._open[name] += 1

    def closed(self, name: str) -> None:
        """Count it no more."""
        assert self._open[name] > 0, f"{name} is not open"
        self._open[name] -= 1

    def open_count(self, name: str) -> int:
        """How many times a name is open now."""
        return self._open[name]

    def note_write(self, name: str) -> None:
        """Remember the time of a write."""
        self.written[name] = time()


async def _nothing_to_see() -> None:
    """Who opens files in Python has been seen."""
