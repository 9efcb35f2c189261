"""The folder for what is there while stacks run: sockets, locks, logs, records of nodes.

It is a user's own: whoever may write to it could be given keys. /run cannot be written everywhere,
not in many containers nor by uid 0 of a user namespace, and environments differ between two
commands. So the first folder that serves is taken for what is new, and all are looked into for what
is there.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fusedm.block.errors import UsageError

#: sun_path of a Unix socket, and what the name of a socket adds to that of the folder.
MAX_SOCKET_BYTES = 107
SOCKET_NAME_BYTES = len("/0123456789abcdef.sock")

#: How many names in a folder of everybody's are tried: others may have taken some, as who is uid 0
#: of another user namespace.
SHARED_NAMES = 8

_OTHERS_MAY_WRITE = 0o022


def run_folder() -> Path:
    """The folder for what is new, made if need be.

    Raises: UsageError with what is wrong with each, if none serves.
    """
    user = os.geteuid()
    return choose(user, map(Path, candidates(user, os.environ)))


def run_folders() -> list[Path]:
    """Every folder of this user's that is there: something may have been started from each."""
    user, environ = os.geteuid(), os.environ
    paths = candidates(user, environ)
    paths += candidates(user, {"XDG_RUNTIME_DIR": f"/run/user/{user}", "TMPDIR": "/tmp"})
    return [Path(path) for path in dict.fromkeys(paths) if _is_own(Path(path), user)]


def folders_of_users() -> Iterator[Path]:
    """Where users have theirs, if it is really the user's."""
    for folder in (*Path("/run/user").glob("*/fusedm"), *Path("/tmp").glob("fusedm-*")):
        name = folder.parent.name if folder.name == "fusedm" else folder.name
        user = name.removeprefix("fusedm-").partition(".")[0]
        if user.isdecimal() and _is_own(folder, int(user)):
            yield folder


def candidates(user: int, environ: Mapping[str, str]) -> list[str]:
    """The folders that may serve a user, the best first."""
    paths = ["/run/fusedm"] if user == 0 else []
    if environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        paths.append(os.path.join(environ["XDG_RUNTIME_DIR"], "fusedm"))
    shared = [environ.get("TMPDIR", ""), "/tmp"]
    for folder in dict.fromkeys(path for path in shared if path.startswith("/")):
        name = os.path.join(folder, f"fusedm-{user}")
        paths += [name, *(f"{name}.{number}" for number in range(1, SHARED_NAMES))]
    return paths


def choose(user: int, paths: Iterable[Path]) -> Path:
    """The first folder that serves.

    Raises: UsageError with what is wrong with each.
    """
    problems: dict[tuple[Path, str], str] = {}
    for path in paths:
        problem = _problem(path, user)
        if problem is None:
            return path
        problems.setdefault((path.parent, problem), f"{path}: {problem}")
    raise UsageError(
        f"no folder for sockets and locks: {'; '.join(problems.values())}: "
        "set XDG_RUNTIME_DIR to a folder of your own"
    )


def _problem(path: Path, user: int) -> str | None:
    """Why a folder does not serve; it is made if it is not there."""
    length = len(os.fsencode(path)) + SOCKET_NAME_BYTES
    if length > MAX_SOCKET_BYTES:
        return f"names of sockets would have {length} bytes, at most {MAX_SOCKET_BYTES}"
    try:
        above = path.parent.stat().st_mode
        if above & _OTHERS_MAY_WRITE and not above & stat.S_ISVTX:
            return "others could put another in its place"
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        pass
    except OSError as error:
        return error.strerror
    if not _is_own(path, user):
        return f"is not a folder that only user {user} may write to"
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        return "cannot be written to"
    return None


def _is_own(path: Path, user: int) -> bool:
    try:
        info = path.lstat()
    except OSError:
        return False
    is_private = info.st_uid == user and not info.st_mode & _OTHERS_MAY_WRITE
    return is_private and stat.S_ISDIR(info.st_mode)
