"""Refusals that say who has a file open: the daemon knows how many do, the machine which."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fusedm.block.errors import FusedmError, StackError
from fusedm.host import loop
from fusedm.host.mounts import describe, holders_of


@contextmanager
def telling_holders(mount_point: str, name: str) -> Iterator[None]:
    """Add to a refusal that speaks of open files the processes and loop devices that have them."""
    try:
        yield
    except FusedmError as error:
        raise _with_holders(error, mount_point, name) from None


def _with_holders(error: FusedmError, mount_point: str, name: str) -> FusedmError:
    if error.errno != errno.EBUSY or "open files" not in str(error):
        return error
    paths = [os.path.join(mount_point, folder, name) for folder in ("disks", "mapper", "views")]
    who = [device.node for path in paths for device in loop.attached(path)]
    holders = describe(holder for path in paths for holder in holders_of(path))
    if holders:
        who.append(holders)
    return StackError(f"{error}: {', '.join(who)}", errno.EBUSY) if who else error
