"""Deferred removal: a process of its own waits until nobody uses a device any more.

The kernel knows when a device is closed for the last time; of a loop device nobody is told.
"""

import errno
import os
import time

from fusedm.block.errors import FusedmError
from fusedm.dmsetup import attachment
from fusedm.dmsetup.session import Session
from fusedm.host import nodes
from fusedm.host.loop import Patience

POLL_SECONDS = 0.25


def remove_when_unused(dev_dir: str, name: str) -> None:
    """Remove a device as soon as it is not in use; give up if that is taken back, or it is gone.

    Raises: FusedmError for anything but that it is in use.
    """
    os.environ[nodes.DEV_DIR_VARIABLE] = dev_dir
    session = Session()
    try:
        while True:
            told = session.mapper.info(name)
            if not told.is_deferred:
                return
            try:
                attachment.remove(session, told, Patience(0))
                return
            except FusedmError as error:
                if error.errno != errno.EBUSY:
                    raise
            time.sleep(POLL_SECONDS)
    except FusedmError as error:
        if error.errno != errno.ENXIO:
            raise
        attachment.forget_node(session, name)
    finally:
        session.end_if_empty()
