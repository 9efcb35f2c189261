"""`fusedm shim DIR`: a dmsetup in a folder, to be put first on PATH."""

import errno
import os
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from fusedm.block.errors import StackError
from fusedm.dmsetup.server_socket import CLIENT
from fusedm.host.nodes import LINKS, LINKS_VARIABLE

#: What tells a shim of ours from somebody else's dmsetup.
MARK = "# dmsetup by fusedm: device mapper without a kernel that has it."


#: As much as the kernel reads of a script's first line, and without blanks.
_LONGEST_INTERPRETER = 120


def shim_text(python: str, client: Path, links: bool = False) -> str:
    """The script: this very installation, whatever PATH and folder it is called with.

    links: nodes are links to those of the loop devices.
    It is run by the client, if there is one, which has sh run it if there is nobody to ask.
    """
    is_there = client.exists() and len(bytes(client)) <= _LONGEST_INTERPRETER
    interpreter = client if is_there and not re.search(r"\s", str(client)) else "/bin/sh"
    command = f'exec {shlex.quote(python)} -P -X utf8 -m fusedm dmsetup "$@"'
    export = f"export {LINKS_VARIABLE}={LINKS}\n" if links else ""
    return f"#!{interpreter}\n{MARK}\n{export}{command}\n"


def remove_shim(folder: str) -> None:
    """Remove the script from a folder, and the folder if nothing else is in it.

    Raises: StackError with the errno; EEXIST for a dmsetup that is not ours.
    """
    path = _path_in(folder)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None
    with suppress(OSError):
        path.parent.rmdir()


def _path_in(folder: str) -> Path:
    path = Path(folder) / "dmsetup"
    if path.exists() and MARK.encode() not in path.read_bytes():
        raise StackError(f"{path}: is there already and not ours", errno.EEXIST)
    return path


def write_shim(folder: str, links: bool = False) -> str:
    """Write the script into a folder, which is made if need be; its path.

    Raises: StackError with the errno; EEXIST for a dmsetup that is not ours.
    """
    path = _path_in(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".dmsetup.{os.getpid()}")
        new.write_text(shim_text(sys.executable, CLIENT, links))
        new.chmod(0o755)
        new.replace(path)
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}", error.errno) from None
    return str(path)
