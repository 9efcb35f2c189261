"""dmsetup: the command line of device mapper, over a daemon that is there while a device is."""

from fusedm.dmsetup.node_mapper import NodeMapper
from fusedm.dmsetup.run import main_dmsetup
from fusedm.dmsetup.shim import remove_shim, write_shim

__all__ = ["NodeMapper", "main_dmsetup", "remove_shim", "write_shim"]
