"""The file front: a system as a tree of files under one FUSE mount.

Each part is loaded when somebody asks for it: a stack without a mount needs no pyfuse3.
"""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.fuse.lane import MAX_DATA_SIZE
    from fusedm.fuse.mount import serve
    from fusedm.fuse.sysfs import crypto_extents, keyslot_count, keyslots

__all__ = [
    "MAX_DATA_SIZE",
    "crypto_extents",
    "keyslot_count",
    "keyslots",
    "serve",
]

__getattr__ = door(
    __name__,
    {
        "lane": "MAX_DATA_SIZE",
        "mount": "serve",
        "sysfs": "crypto_extents keyslot_count keyslots",
    },
)
