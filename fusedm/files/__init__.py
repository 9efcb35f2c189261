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
from fusedm.files.file_span import FileSpan, claimed, obstacles, path_of
from fusedm.files.handles import Handles, OpenDevice
from fusedm.files.holes import seek
from fusedm.files.letting_in import letting_in
from fusedm.files.path import Gate, Path
from fusedm.files.paths import Paths

__all__ = [
    "FileSpan",
    "Gate",
    "Handles",
    "OpenDevice",
    "Path",
    "Paths",
    "allocated_bytes",
    "claimed",
    "empty",
    "flush",
    "flush_nowait",
    "letting_in",
    "obstacles",
    "path_of",
    "read",
    "read_nowait",
    "read_requests",
    "seek",
    "write",
    "write_nowait",
    "write_requests",
    "zero",
]
