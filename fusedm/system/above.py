"""Which mapped devices a change of a device concerns."""

from fusedm.block import BlockDevice
from fusedm.dm import MappedDevice


def all_above(device: BlockDevice) -> list[MappedDevice]:
    """Every mapped device over a device, near ones first, each once."""
    seen: dict[BlockDevice, None] = dict.fromkeys(device.holders)
    to_visit = list(seen)
    for above in to_visit:
        new = [holder for holder in above.holders if holder not in seen]
        seen.update(dict.fromkeys(new))
        to_visit.extend(new)
    return [above for above in seen if isinstance(above, MappedDevice) and above is not device]
