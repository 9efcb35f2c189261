"""The system: what a name or number stands for, as it is opened, and who uses whom."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.system.device_numbers import MAPPED_MAJOR, MINOR_LIMIT
    from fusedm.system.system import System
    from fusedm.system.view import View

__all__ = [
    "MAPPED_MAJOR",
    "MINOR_LIMIT",
    "System",
    "View",
]

__getattr__ = door(
    __name__,
    {
        "device_numbers": "MAPPED_MAJOR MINOR_LIMIT",
        "system": "System",
        "view": "View",
    },
)
