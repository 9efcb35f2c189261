"""Starting the daemon behind dmsetup: a stack without anything in it yet."""

import os
from pathlib import Path

from fusedm.control import DMSETUP, DaemonConfig, start_detached
from fusedm.dmsetup.session import place_of
from fusedm.host import nodes
from fusedm.host.kernel_mount import MountOptions
from fusedm.stack import StackSpec


def start(dev_dir: str) -> None:
    """Start the daemon for a folder of nodes; it follows the kernel to the letter.

    Raises: FusedmError.
    """
    os.environ[nodes.DEV_DIR_VARIABLE] = dev_dir
    spec = StackSpec(disks={}, mapper={}, keys={}, views={}, strict="linux")
    where = Path(place_of(dev_dir))
    start_detached(DaemonConfig(spec, DMSETUP + dev_dir, where, MountOptions(), Path("/")))
