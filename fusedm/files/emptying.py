"""Opening a file of the mount with O_TRUNC: what it holds is given up, its size stays.

Programs take these files for regular ones. Those that copy images (cp, dd with conv=sparse, tar)
skip the holes of an image, and count on a file just truncated to read as zeros there.
"""

import errno

from fusedm.block.errors import BlockIOError, StackError
from fusedm.dm import all_below
from fusedm.files.device_file import zero, zero_data
from fusedm.system import System, View


async def empty(system: System, view: View) -> None:
    """Have a view read as zeros; where a target cannot give space up, data are overwritten.

    In strict mode it is a device, to which O_TRUNC does nothing.
    Raises: BlockIOError; StackError(EBUSY) while it is open, or what shows the same bytes.
    """
    if system.strict or not view.size:
        return
    users = [name for name in system.names.created if _is_open_over(system, name, view)]
    if users:
        raise StackError(f"{view.name!r} is open, as {', '.join(users)}", errno.EBUSY)
    try:
        await zero(view, 0, view.size, punch=True)
    except BlockIOError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        await zero_data(view)
    system.names.note_write(view.name)


def _is_open_over(system: System, name: str, view: View) -> bool:
    """Whether a name is open and shows bytes of a view, or lies above it."""
    if not system.names.open_count(name):
        return False
    other = system.view(name)
    if other.device is view.device:
        return other.start < view.start + view.size and view.start < other.start + other.size
    return view.device in all_below([other.device])
