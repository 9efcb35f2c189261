"""dmsetup: the command line of device mapper, over a daemon that is there while a device is."""

from fusedm.dmsetup.node_mapper import NodeMapper
from fusedm.dmsetup.run import main_dmsetup
from fusedm.dmsetup.shim import write_shim

__all__ = ["NodeMapper", "main_dmsetup", "write_shim"]
