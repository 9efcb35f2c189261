"""Open files, whatever front they were opened through: byte ranges, holes, and paths to media."""

from fusedm.files.allocation import allocated_bytes
from fusedm.files.device_file import (
    flush,
    flush_nowait,
    read,
    read_nowait,
    read_requests,
    write,
    write_nowait,
    write_requests,
    zero,
)
from fusedm.files.emptying import empty
from fusedm.files.handles import Handles, OpenDevice
from fusedm.files.holes import seek
from fusedm.files.path import Path
from fusedm.files.routes import Routes, find_stretch

__all__ = [
    "Handles",
    "OpenDevice",
    "Path",
    "Routes",
    "allocated_bytes",
    "empty",
    "find_stretch",
    "flush",
    "flush_nowait",
    "read",
    "read_nowait",
    "read_requests",
    "seek",
    "write",
    "write_nowait",
    "write_requests",
    "zero",
]
