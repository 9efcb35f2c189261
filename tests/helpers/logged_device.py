"""A device under log-writes, and what its log says."""

from fusedm.block import FLUSH
from fusedm.crypto import submit_bio
from fusedm.disk import Disk
from fusedm.dm import MappedDevice, format_status
from tests.helpers import write_log
from tests.helpers.builders import make_disk, make_mapped, medium
from tests.helpers.write_log import Entry


async def logged(
    sectors: int = 64, log: int = 4096, block: int = 512
) -> tuple[MappedDevice, Disk, Disk]:
    """A mapped device that logs, its device, and its log."""
    disk, log_disk = make_disk("d0", 64, block=block), make_disk("d1", log)
    return await make_mapped(f"0 {sectors} log-writes d0 d1", disk, log_disk), disk, log_disk


def entries(log: Disk) -> list[Entry]:
    return list(write_log.entries(medium(log)))


def kinds(log: Disk) -> list[str]:
    return [
        f"{each.kind} {each.offset // 512}" if each.length else each.text or each.kind
        for each in entries(log)
    ]


async def flush(mapped: MappedDevice) -> None:
    await submit_bio(mapped, FLUSH)


async def mark(mapped: MappedDevice, text: str) -> None:
    assert await mapped.message(0, ["mark", text]) == ""


def status(mapped: MappedDevice) -> str:
    return format_status(mapped.live).removeprefix(f"0 {mapped.sector_count} log-writes ")
