"""Major and minor numbers of devices: ours, and those of nodes they have got on this machine.

Every device has a number of ours for as long as it is there. Where a kernel's block device stands
for it, as a loop device over its file, it is known by that one's number; both lead to it.
"""

import errno
import re
from itertools import count
from typing import TYPE_CHECKING

from fusedm.block.device_mapper import Number
from fusedm.block.errors import StackError

if TYPE_CHECKING:
    from fusedm.block import BlockDevice

#: The major number device mapper usually gets; what has it here is known to its own stack only.
MAPPED_MAJOR = 253

#: Minors have 20 bits. Mapped devices get the lowest free one, disks those from here on.
MINOR_LIMIT = 1 << 20
FIRST_DISK_MINOR = 1 << 19


class DeviceNumbers:
    """The numbers of one system's devices."""

    def __init__(self) -> None:
        self._own: dict[BlockDevice, Number] = {}
        self._shown: dict[BlockDevice, Number] = {}
        self._devices: dict[Number, BlockDevice] = {}
        # Where minors were looked for, by where that began: below it none is free.
        self._looked_to: dict[int, int] = {}

    def add(self, device: "BlockDevice", first: int = 0, minor: int | None = None) -> None:
        """Give a device a minor, or the lowest free one from first on.

        Raises: StackError: EINVAL for a minor that cannot be, EBUSY for one that is taken.
        """
        if minor is None:
            begin = self._looked_to.get(first, first)
            minor = next(n for n in count(begin) if (MAPPED_MAJOR, n) not in self._devices)
            self._looked_to[first] = minor
        if not 0 <= minor < MINOR_LIMIT:
            raise StackError(f"minor {minor} is not in 0..{MINOR_LIMIT - 1}")
        number = (MAPPED_MAJOR, minor)
        if number in self._devices:
            taken = f"minor {minor} is {self._devices[number].name!r}'s"
            raise StackError(taken, errno.EBUSY)
        self._own[device] = number
        self._devices[number] = device

    def remove(self, device: "BlockDevice") -> None:
        """Forget a device."""
        self.show(device, None)
        self._free(self._own.pop(device))

    def show(self, device: "BlockDevice", number: Number | None) -> None:
        """Have a device known by the number of a block device that stands for it, or no more."""
        old = self._shown.pop(device, None)
        if old is not None and self._devices.get(old) is device:
            self._free(old)
        if number is not None:
            self._shown[device] = number
            self._devices[number] = device

    def _free(self, number: Number) -> None:
        del self._devices[number]
        for first, end in self._looked_to.items():
            if first <= number[1] < end:
                self._looked_to[first] = number[1]

    def of(self, device: "BlockDevice") -> Number:
        """The number a device is known by."""
        return self._shown.get(device) or self._own[device]

    def own(self, device: "BlockDevice") -> Number:
        """The number of ours that it has, whatever it is known by."""
        return self._own[device]

    def find(self, word: str) -> "BlockDevice | None":
        """The device of `major:minor`; None for any other word."""
        match = re.fullmatch(r"(\d{1,10}):(\d{1,10})", word, re.ASCII)
        return self._devices.get((int(match[1]), int(match[2]))) if match else None
