"""Files for people, written whole or not at all."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from fusedm.host.interrupts import held


def write_whole(path: str, text: str, force: bool = False) -> None:
    """Write a file at once; one that is there only if forced, and then its mode and owner stay.

    What is no regular file, as a pipe or /dev/stdout, is written to as it is.
    Raises: OSError, FileExistsError among them; nothing has changed then.
    """
    try:
        before = os.stat(path)
    except FileNotFoundError:
        before = None
    is_other = before is not None and not stat.S_ISREG(before.st_mode)
    if is_other or os.path.abspath(path).startswith(("/dev/", "/proc/")):
        Path(path).write_text(text, encoding="utf-8")
        return
    if before is not None and not force:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    target = os.path.realpath(path)
    new = f"{target}.{os.getpid()}.new"
    with held():
        try:
            _write(new, text, before)
            if before is None:
                _give_name(new, target)
            else:
                os.replace(new, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(new)


def _write(new: str, text: str, before: os.stat_result | None) -> None:
    """A new file, durable, that may take the place of the one before."""
    with open(new, "x", encoding="utf-8") as file:
        if before is not None:
            with suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _give_name(new: str, target: str) -> None:
    """Give a file the name that it is to have; what came there meanwhile is not replaced."""
    try:
        os.link(new, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        os.rename(new, target)  # The file system has no links.
