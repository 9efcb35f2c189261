"""What the media hold where a range of a device lies, read from the disks themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

from fusedm.block import Bio, BlockDevice
from fusedm.block.errors import BlockIOError, DeviceSuspended, Status
from fusedm.block.plan import (
    Completed,
    Concat,
    Delayed,
    Failed,
    Hooked,
    Leaf,
    LeafIO,
    Legs,
    Node,
    Scripted,
    SoftwareCrypt,
    Transformed,
)
from fusedm.block.units import SECTOR_SHIFT
from fusedm.crypto import make_plan, submit_bio
from fusedm.disk import Disk


@dataclass(frozen=True, slots=True)
class Piece:
    """Adjacent sectors of a medium; without a leaf they have none and read as zeros."""

    leaf: Leaf | None
    sector: int
    sector_count: int


def pieces(device: BlockDevice, sector: int, data: memoryview) -> list[Piece]:
    """Where the sectors that fill data lie, in order.

    Raises: BlockIOError where a target fails them; DeviceSuspended.
    """
    return list(_pieces(make_plan(device, [Bio.read(sector, data)]).root))


async def read_media(
    device: BlockDevice, sector: int, length: int
) -> tuple[bytearray, list[Piece]]:
    """What is there, as it is, and where; no target sees it, so none can change it on the way.

    Raises: BlockIOError.
    Await:  for a resume, and for worker threads.
    """
    data = bytearray(length)
    while True:
        try:
            places = pieces(device, sector, memoryview(data))
            break
        except DeviceSuspended as suspended:
            await suspended.wait()
    at = 0
    for place in places:
        end = at + (place.sector_count << SECTOR_SHIFT)
        if isinstance(place.leaf, Disk):
            await submit_bio(place.leaf, Bio.read(place.sector, memoryview(data)[at:end]))
        at = end
    return data, places


def place_at(places: list[Piece], sector: int) -> Piece:
    """The piece that holds a sector, counted from the beginning of them all, from there on."""
    for place in places:
        if sector < place.sector_count:
            return Piece(place.leaf, place.sector + sector, place.sector_count - sector)
        sector -= place.sector_count
    raise AssertionError(f"{sector} sectors past the end")


def _pieces(node: Node) -> Iterator[Piece]:
    match node:
        case LeafIO(leaf, bio) if bio.crypt is None:
            yield Piece(leaf, bio.sector, bio.sector_count)
        case Legs(_, parts):
            yield from _pieces(parts[0])
        case Concat(parts):
            for part in parts:
                yield from _pieces(part)
        case Hooked(_, _, child) | Delayed(_, child):
            yield from _pieces(child)
        case Completed(bio):
            yield Piece(None, 0, bio.sector_count)
        case Failed():
            raise node.error()
        case Transformed(bio=bio) | SoftwareCrypt(bio=bio) | LeafIO(bio=bio):
            text = f"{bio} goes through a target that encrypts it once more"
            raise BlockIOError(Status.NOTSUPP, "verify", text)
        case Scripted(bio):
            text = f"{bio} goes through a target that decides where when it comes"
            raise BlockIOError(Status.NOTSUPP, "verify", text)
        case _:
            raise AssertionError(f"{type(node).__name__} in the plan of a READ without context")
