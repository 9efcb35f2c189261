"""`fusedm shim DIR`: a dmsetup in a folder, to be put first on PATH."""

import errno
import os
import re
import shlex
import sys
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.dmsetup.server_socket import CLIENT

#: What tells a shim of ours from somebody else's dmsetup.
MARK = "# dmsetup by fusedm: device mapper without a kernel that has it."


#: As much as the kernel reads of a script's first line, and without blanks.
_LONGEST_INTERPRETER = 120


def shim_text(python: str, client: Path) -> str:
    """The script: this very installation, whatever PATH and folder it is called with.

    It is run by the client, if there is one, which has sh run it if there is nobody to ask.
    """
    is_there = client.exists() and len(bytes(client)) <= _LONGEST_INTERPRETER
    interpreter = client if is_there and not re.search(r"\s", str(client)) else "/bin/sh"
    command = f'exec {shlex.quote(python)} -P -X utf8 -m fusedm dmsetup "$@"'
    return f"#!{interpreter}\n{MARK}\n{command}\n"


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
        new.write_text(shim_text(sys.executable, CLIENT))
        new.chmod(0o755)
        new.replace(path)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None
    return str(path)
