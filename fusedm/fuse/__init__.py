"""The file front: a system as a tree of files under one FUSE mount."""

from fusedm.fuse.device_file import read, read_requests, write_requests
from fusedm.fuse.holes import seek
from fusedm.fuse.lane import MAX_DATA_SIZE
from fusedm.fuse.mount import serve
from fusedm.fuse.routes import Stretch, find_stretch
from fusedm.fuse.sysfs import crypto_extents, keyslot_count, keyslots
from fusedm.host.kernel_mount import MountOptions

__all__ = [
    "MAX_DATA_SIZE",
    "MountOptions",
    "Stretch",
    "crypto_extents",
    "find_stretch",
    "keyslot_count",
    "keyslots",
    "read",
    "read_requests",
    "seek",
    "serve",
    "write_requests",
]
