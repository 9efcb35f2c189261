"""How names are written where /dev would not take them: `a b` is `a\\x20b` there. Pure.

In mode auto a name that has such escapes already is left alone, in mode hex it is not.
"""

import re
import string

from fusedm.block.errors import UsageError
from fusedm.block.names import MAX_NAME_BYTES

#: Characters that stay as they are.
PLAIN = frozenset(string.ascii_letters + string.digits + "#+-.:=@_")

#: The kernel's DM_UUID_LEN is 129 with the closing NUL.
MAX_UUID_BYTES = 128

_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")


def mangle(name: str, mode: str = "auto") -> str:
    """The name as device mapper and /dev/mapper have it."""
    if mode == "none" or (mode == "auto" and _is_mangled(name)):
        return name
    return "".join(char if char in PLAIN else _escaped(char) for char in name)


def unmangle(name: str, mode: str = "auto") -> str:
    """The name as people have it."""
    return name if mode == "none" else unescape(name)


def unescape(name: str) -> str:
    r"""The name with every \xNN replaced by what it stands for."""
    plain = bytearray()
    end = 0
    for found in _ESCAPE.finditer(name):
        plain += name[end : found.start()].encode(errors="surrogateescape")
        plain.append(int(found[1], 16))
        end = found.end()
    plain += name[end:].encode(errors="surrogateescape")
    return plain.decode(errors="surrogateescape")


def check_new_name(name: str) -> None:
    """Refuse what cannot be the name of a new device before anybody is asked.

    Raises: UsageError as dmsetup words it.
    """
    if "/" in name:
        raise UsageError(f'Name "{name}" invalid. It contains "/".')
    check_length(name)


def check_length(name: str) -> None:
    """Refuse a name that no device can have.

    Raises: UsageError.
    """
    if len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise UsageError(f'Name "{name}" too long.')


def check_renamed(name: str, is_uuid: bool) -> None:
    """Refuse what a device cannot be renamed to.

    Raises: UsageError.
    """
    most = MAX_UUID_BYTES if is_uuid else MAX_NAME_BYTES
    if not is_uuid and "/" in name:
        raise UsageError(f'Name "{name}" invalid. It contains "/".')
    if not is_uuid and not name:
        raise UsageError("Non empty new name is required.")
    if len(name.encode(errors="surrogateescape")) > most:
        raise UsageError(f'{"Uuid" if is_uuid else "Name"} "{name}" too long')


def check_uuid(uuid: str) -> None:
    """Refuse a UUID that no device can have.

    Raises: UsageError.
    """
    if len(mangle(uuid).encode(errors="surrogateescape")) > MAX_UUID_BYTES:
        raise UsageError(
            f'Mangled form of the UUID too long for "{uuid}".\n'
            f'Failed to mangle device uuid "{uuid}".'
        )


def split_lvm_name(name: str) -> tuple[str, str, str]:
    """Volume group, logical volume and layer of an LVM device: a dash in one of them is doubled."""
    parts = re.split(r"(?<!-)((?:--)*)-(?!-)", name, maxsplit=2)
    group = parts[0] + (parts[1] if len(parts) > 1 else "")
    volume = parts[2] + (parts[3] if len(parts) > 3 else "") if len(parts) > 2 else ""
    layer = parts[4] if len(parts) > 4 else ""
    return group.replace("--", "-"), volume.replace("--", "-"), layer.replace("--", "-")


def _is_mangled(name: str) -> bool:
    return _ESCAPE.search(name) is not None


def _escaped(char: str) -> str:
    return "".join(rf"\x{byte:02x}" for byte in char.encode(errors="surrogateescape"))
