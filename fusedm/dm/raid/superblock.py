"""What a metadata device says of its array and of the device's own place in it. Pure.

It is the first logical block of the device. All numbers are little endian.
Source: struct dm_raid_superblock of the kernel's dm-raid.c, with the fields of its version 1.9.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block.errors import StackError

MAGIC = 0x64526D44
#: The fields from `flags` on are there.
SUPPORTS_V190 = 1

#: An offset of this says that there is nothing left to do (md's MaxSector).
DONE = (1 << 64) - 1

_FIELDS = struct.Struct("<IIIIQQQQIIIIQIIIIQQQQ3QI")
SIZE = _FIELDS.size
_64_BITS = (1 << 64) - 1


@dataclass(frozen=True)
class Superblock:
    """The fields that are used; those of a reshape always say that there is none.

    Units:  sectors; recovery_offset is how far this device has been rebuilt, resync_offset how far
            the array's redundancy has been made, both DONE where that is all of it.
    """

    device_count: int
    position: int
    events: int
    level: int
    layout: int
    chunk_sectors: int
    array_sectors: int
    member_sectors: int
    failed: frozenset[int] = frozenset()
    recovery_offset: int = DONE
    resync_offset: int = DONE
    data_offset: int = 0

    @property
    def is_recovered(self) -> bool:
        """Whether its device held all it should when it was written."""
        return self.recovery_offset == DONE

    def pack(self, size: int) -> bytes:
        """The first size bytes of the metadata device."""
        bits = sum(1 << index for index in self.failed)
        failed = [bits >> shift & _64_BITS for shift in (0, 64, 128, 192)]
        fields = _FIELDS.pack(
            *(MAGIC, SUPPORTS_V190, self.device_count, self.position),
            *(self.events, failed[0], self.recovery_offset, self.resync_offset),
            *(self.level, self.layout, self.chunk_sectors, 0, DONE),
            *(self.level, self.layout, self.chunk_sectors, 0),
            *(self.array_sectors, self.data_offset, self.data_offset, self.member_sectors),
            *(*failed[1:], 0),
        )
        return fields.ljust(size, b"\0")


def parse(data: bytes | bytearray | memoryview) -> Superblock | None:
    """What a metadata device begins with; None if that is no superblock.

    Raises: StackError for one of an array that cannot be used here.
    """
    (magic, compat, count, position, events, failed, recovery, resync, *rest) = _FIELDS.unpack_from(
        data
    )
    if magic != MAGIC:
        return None
    level, layout, chunk, _, reshape, *_, array, offset, _, sectors, low, mid, high, incompat = rest
    if compat not in (0, SUPPORTS_V190) or incompat:
        text = f"features {compat:#x} and {incompat:#x} of the superblock are not known"
        raise StackError(text)
    if not compat:
        reshape, array, offset, sectors, low, mid, high = DONE, 0, 0, 0, 0, 0, 0
    if reshape != DONE:
        raise StackError(f"the array is being reshaped (at sector {reshape}): not done here")
    bits = failed | low << 64 | mid << 128 | high << 192
    return Superblock(
        *(count, position, events, level, layout, chunk, array, sectors),
        failed=frozenset(_bits(bits)),
        recovery_offset=recovery,
        resync_offset=resync,
        data_offset=offset,
    )


def _bits(number: int) -> Iterable[int]:
    """Which bits of a number are set."""
    return (index for index in range(number.bit_length()) if number >> index & 1)
