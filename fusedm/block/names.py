"""What disks, mapped devices, views and keys may be called; a name also names a file."""

import errno

from fusedm.block.errors import StackError

#: The kernel's DM_NAME_LEN is 128 with the closing NUL.
MAX_NAME_BYTES = 127

#: The two names of every directory, and device mapper's own node in /dev/mapper.
RESERVED_NAMES = (".", "..", "control")


def check_name(kind: str, name: str) -> None:
    """Refuse a name that cannot be one; kind says whose it is: disk, mapped device, view, key.

    Raises: StackError(EINVAL).
    """
    wrong = _wrong_with(name)
    if wrong:
        raise StackError(f"{kind} name {wrong}", errno.EINVAL)


def _wrong_with(name: str) -> str | None:
    """What is wrong with a name; a name too long is not repeated."""
    size = len(name.encode(errors="surrogatepass"))
    if size > MAX_NAME_BYTES:
        return f"of {size} bytes is longer than {MAX_NAME_BYTES} bytes"
    if not name:
        return "is empty"
    if name in RESERVED_NAMES:
        return f"{name!r} is reserved"
    for char in name:
        # isprintable is false for NUL, control and format characters, half surrogates and every
        # white space but the blank.
        if char in "/ " or not char.isprintable():
            return f"{name!r} contains {char!r}"
    return None
