"""A stack, one of whose stores fails, does less than asked or hangs, whenever a test says so.

The system calls do it, whoever makes them: store_faults.c stands before libc's.
"""

import errno
import mmap
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.helpers.mounted import Mounted, mounted_stack

#: In the order of store_faults.c.
KINDS = ("read", "write", "sync", "punch", "nowait")
Kind = Literal["read", "write", "sync", "punch", "nowait"]

_FIELDS = ("skip", "count", "error", "most", "calls", "struck", "hold", "held")
_RULES = 16
_WRITTEN = _RULES + 4 * len(_FIELDS) * len(KINDS)

#: As a count: every call.
ALWAYS = -1


class StoreFaults:
    """What calls on the store are to do, and what they have done.

    Owns: the page that the daemon shares.
    """

    def __init__(self, store: Path, page: Path) -> None:
        with page.open("w+b") as file:
            file.truncate(mmap.PAGESIZE)
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        info = store.stat()
        is_device = stat.S_ISBLK(info.st_mode)
        identity = (info.st_rdev, 0) if is_device else (info.st_dev, info.st_ino)
        struct.pack_into("=QQ", self._page, 0, *identity)

    def fail(self, kind: Kind, number: int, count: int = ALWAYS, skip: int = 0) -> None:
        """So many calls fail with an errno, after some that do not."""
        self._arm(kind, count, skip, number, 0)

    def cut(self, kind: Kind, most: int, count: int = ALWAYS) -> None:
        """So many calls transfer no more bytes than this."""
        self._arm(kind, count, 0, 0, most)

    def hold(self, *kinds: Kind) -> None:
        """Calls hang from now on."""
        for kind in kinds:
            self._set(kind, "hold", 1)

    def clear(self) -> None:
        """Everything works again, and what hangs goes on."""
        for kind in KINDS:
            self._set(kind, "count", 0)
            self._set(kind, "hold", 0)

    def told(self, kind: Kind, field: str) -> int:
        """How many calls have been made (calls), hit by a rule (struck), hang now (held)."""
        return self._get(_RULES + 4 * self._index(kind, field))

    @property
    def written(self) -> int:
        """How many writes have ended, of those that are not durable by themselves."""
        return self._get(_WRITTEN)

    @property
    def durable(self) -> int:
        """How many had when the last fdatasync began that has succeeded."""
        return self._get(_WRITTEN + 4)

    def _arm(self, kind: Kind, count: int, skip: int, number: int, most: int) -> None:
        self._set(kind, "count", 0)
        for field, value in (("skip", skip), ("error", number), ("most", most), ("struck", 0)):
            self._set(kind, field, value)
        self._set(kind, "count", count)  # From here on it strikes.

    def _index(self, kind: Kind, field: str) -> int:
        return KINDS.index(kind) * len(_FIELDS) + _FIELDS.index(field)

    def _set(self, kind: Kind, field: str, value: int) -> None:
        struct.pack_into("=i", self._page, _RULES + 4 * self._index(kind, field), value)

    def _get(self, offset: int) -> int:
        value: int = struct.unpack_from("=i", self._page, offset)[0]
        return value


@contextmanager
def stack_with_faults(
    text: str, directory: Path, library: Path, store: Path, *options: str
) -> Iterator[tuple[Mounted, StoreFaults]]:
    """The stack of a stack file, and the faults of the store that is there already."""
    page = directory / "faults"
    faults = StoreFaults(store, page)
    environ = {"LD_PRELOAD": str(library), "STORE_FAULTS": str(page)}
    with mounted_stack(text, directory, *options, environ=environ) as mounted:
        try:
            yield mounted, faults
        finally:
            faults.clear()


def errno_of(work: object, *arguments: object) -> int:
    """The errno of an OSError that a call raises; 0 if it raises none."""
    assert callable(work)
    try:
        work(*arguments)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
