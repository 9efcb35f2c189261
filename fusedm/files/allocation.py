"""How much of a file of the mount is allocated below, for st_blocks: a bound, and no I/O.

cp, tar and rsync look for holes only in a file that has fewer blocks than its size would take. So
what is told is never less than the data, and less than the whole wherever there may be a hole.
"""

from fusedm.block import BlockDevice
from fusedm.block.units import SECTOR_SHIFT
from fusedm.disk import Disk
from fusedm.dm import MappedDevice
from fusedm.system import View

#: What is taken off where a part may or may not have holes, as the device it is a part of has.
_BLOCK_BYTES = 4096


def allocated_bytes(view: View) -> int:
    """No more than its size, no less than the data in it; only nothing is 0."""
    if not view.has_holes:
        return view.size
    return _of_part(view.size, _allocated(view.device, {}), view.device)


def _allocated(device: BlockDevice, known: dict[BlockDevice, int]) -> int:
    """Bytes of a whole device."""
    if device not in known:
        if isinstance(device, Disk):
            known[device] = device.store.allocated_bytes
        elif isinstance(device, MappedDevice):
            known[device] = _allocated_by_table(device, known)
        else:
            known[device] = device.sector_count << SECTOR_SHIFT
    return known[device]


def _allocated_by_table(mapped: MappedDevice, known: dict[BlockDevice, int]) -> int:
    """What lies on the devices below, in as much of them as is mapped.

    A target that lets nothing be discarded (crypt by itself) may show data where there is a hole.
    """
    total, parts = 0, dict[BlockDevice, int]()
    for entry in mapped.live.entries if mapped.live is not None else ():
        segments = list(entry.target.devices()) if entry.target.takes_discards else []
        for segment in segments:
            length = segment.sector_count << SECTOR_SHIFT
            parts[segment.device] = parts.get(segment.device, 0) + length
        # What a target has for itself may be read too, as the origin of a thin device.
        for device in entry.target.own_devices() if segments else ():
            parts[device] = parts.get(device, 0) + (device.sector_count << SECTOR_SHIFT)
        if not segments:
            total += entry.target.sector_count << SECTOR_SHIFT
    for device, length in parts.items():
        total += _of_part(length, _allocated(device, known), device)
    return min(total, mapped.sector_count << SECTOR_SHIFT)


def _of_part(length: int, allocated: int, device: BlockDevice) -> int:
    """Of so many bytes of a device, as many as may be allocated."""
    if allocated < min(length, device.sector_count << SECTOR_SHIFT):
        return allocated
    is_full = allocated >= device.sector_count << SECTOR_SHIFT
    return length if is_full else max(length - _BLOCK_BYTES, min(length, _BLOCK_BYTES))
