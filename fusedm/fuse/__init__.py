"""The file front: a system as a tree of files under one FUSE mount."""

from fusedm.fuse.lane import MAX_DATA_SIZE
from fusedm.fuse.mount import serve
from fusedm.fuse.sysfs import crypto_extents, keyslot_count, keyslots
from fusedm.host.kernel_mount import MountOptions

__all__ = [
    "MAX_DATA_SIZE",
    "MountOptions",
    "crypto_extents",
    "keyslot_count",
    "keyslots",
    "serve",
]
