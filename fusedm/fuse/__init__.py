"""The file front: a system as a tree of files under one FUSE mount."""

from fusedm.fuse.kernel_mount import MountOptions
from fusedm.fuse.mount import serve
from fusedm.fuse.sysfs import crypto_extents, keyslot_count, keyslots

__all__ = ["MountOptions", "crypto_extents", "keyslot_count", "keyslots", "serve"]
