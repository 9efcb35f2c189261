"""A disk: the leaf where bios end, over stores that block or that wait."""

from fusedm.disk.disk import Disk, close_disks
from fusedm.disk.io import MAX_STORE_REQUESTS, MAX_STORE_THREADS

__all__ = ["MAX_STORE_REQUESTS", "MAX_STORE_THREADS", "Disk", "close_disks"]
