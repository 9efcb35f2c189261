"""`fusedm shim DIR`: a dmsetup in a folder, to be put first on PATH."""

import errno
import os
import shlex
import sys
from pathlib import Path

from fusedm.block.errors import StackError

#: What tells a shim of ours from somebody else's dmsetup.
MARK = "# dmsetup by fusedm: device mapper without a kernel that has it."


def shim_text(python: str) -> str:
    """The script: this very installation, whatever PATH and folder it is called with."""
    return f'#!/bin/sh\n{MARK}\nexec {shlex.quote(python)} -P -m fusedm dmsetup "$@"\n'


def write_shim(folder: str) -> str:
    """Write the script into a folder, which is made if need be; its path.

    Raises: StackError with the errno; EEXIST for a dmsetup that is not ours.
    """
    path = Path(folder) / "dmsetup"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and MARK.encode() not in path.read_bytes():
            raise StackError(f"{path}: is there already and not ours", errno.EEXIST)
        new = path.with_name(f".dmsetup.{os.getpid()}")
        new.write_text(shim_text(sys.executable))
        new.chmod(0o755)
        new.replace(path)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None
    return str(path)
