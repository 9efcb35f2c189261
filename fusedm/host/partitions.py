"""Partitions of block devices as the kernel has them: found in sysfs, their nodes, and their end.

The kernel forgets those of a loop device that is cleared only if it was told to look for any, and
nodes of theirs stay where nobody makes and removes nodes, as in a container.
"""

import errno
import fcntl
import os
import stat
import struct
from array import array
from contextlib import suppress
from dataclasses import dataclass

from fusedm.block.errors import FusedmError
from fusedm.block.units import SECTOR_SIZE
from fusedm.host.loop_control import SYS_BLOCK, make_missing_node
from fusedm.host.mounts import device_of_node, run_tool

#: Source: include/uapi/linux/blkpg.h: struct blkpg_ioctl_arg and struct blkpg_partition.
BLKPG = 0x1269
BLKPG_DEL_PARTITION = 2
#: What the first sector ends with where there is a table, a GPT too.
MARK = b"\x55\xaa"
#: How long reading a table may take.
TOOL_SECONDS = 20.0

_PARTITION = struct.Struct("qqi64s64s4x")
_ARGUMENT = struct.Struct("iii4xP")


@dataclass(frozen=True, slots=True)
class Partition:
    """One of them: number is that of its block device ("259:1"), index counts from 1."""

    node: str
    number: str
    index: int


def partitions(node: str) -> list[Partition]:
    """The partitions of a block device, in order."""
    name = os.path.basename(node)
    found = []
    for folder in (SYS_BLOCK / name).glob(f"{name}p*"):
        with suppress(OSError, ValueError):
            index = int((folder / "partition").read_text())
            number = (folder / "dev").read_text().strip()
            found.append(Partition(f"/dev/{folder.name}", number, index))
    return sorted(found, key=lambda partition: partition.index)


def numbers(node: str) -> list[str]:
    """The numbers of a block device and of its partitions, its own first."""
    return [device_of_node(node) or "", *(partition.number for partition in partitions(node))]


def show_all(node: str, descriptor: int) -> None:
    """Have the partitions of a block device that is open known, and their nodes there.

    The kernel has looked already; partx knows tables that it was built without.
    Raises: UsageError if a node may not be made.
    """
    with suppress(OSError, FusedmError):
        if not partitions(node) and os.pread(descriptor, SECTOR_SIZE, 0).endswith(MARK):
            run_tool("partx", "--add", node, seconds=TOOL_SECONDS)
    make_nodes(node)


def make_nodes(node: str) -> list[Partition]:
    """Make the nodes of partitions that /dev lacks; those partitions.

    Raises: UsageError if one may not be made.
    """
    found = partitions(node)
    for partition in found:
        if device_of_node(partition.node) not in (None, partition.number):
            os.unlink(partition.node)  # Of a partition that had the same name before.
        name = os.path.basename(partition.node)
        numbers = SYS_BLOCK / os.path.basename(node) / name / "dev"
        make_missing_node(partition.node, str(numbers), stat.S_IFBLK)
    return found


def delete_all(node: str, descriptor: int) -> None:
    """Have the kernel forget the partitions of a block device that is open, and their nodes go.

    Raises: OSError(EBUSY) for the first that is in use.
    """
    for partition in partitions(node):
        told = array("b", _PARTITION.pack(0, 0, partition.index, b"", b""))
        address, length = told.buffer_info()
        try:
            fcntl.ioctl(descriptor, BLKPG, _ARGUMENT.pack(BLKPG_DEL_PARTITION, 0, length, address))
        except OSError as error:
            if error.errno != errno.ENXIO:  # It has gone by itself.
                raise
        if device_of_node(partition.node) == partition.number:
            with suppress(OSError):
                os.unlink(partition.node)
