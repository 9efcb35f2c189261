"""Is what lies on the media the ciphertext of what a view shows? Asked of a second implementation.

A part of a view at a time: it is read through the view and from the disks themselves, what the
view shows is encrypted again in a worker thread, and the two are compared. Others have their turn
between and meanwhile. Key bytes stay in here; what is told are first bytes of ciphertext.

A data unit that differs is looked at once more, medium, view, medium: if the medium has not changed
in between, no write was in flight.
"""

from dataclasses import asdict, dataclass, field
from errno import ENXIO
from typing import Any

import trio

from fusedm.block import NO_DATA, Op
from fusedm.block.errors import BlockIOError, StackError
from fusedm.block.units import SECTOR_SHIFT
from fusedm.files import read, seek
from fusedm.inspect.data_keys import data_key
from fusedm.inspect.independent import encrypt_unit, knows
from fusedm.inspect.media import Piece, place_at, read_media
from fusedm.system import View

#: Bytes of a view looked at in one go: some 10 ms of work.
PART_SIZE = 1 << 18
#: Mismatches that are told of a part; all are counted.
MAX_TOLD = 16
#: Times a data unit is looked at again that changes under the looking.
MAX_LOOKS = 3
#: Bytes shown of what differs.
SHOWN_BYTES = 8


@dataclass(slots=True)
class Verified:
    """What was found in a part of a view, from begin to end (bytes of the view)."""

    begin: int
    end: int
    units: int = 0
    holes: int = 0
    rechecked: int = 0
    settled: int = 0
    mismatch_count: int = 0
    mismatches: list[dict[str, Any]] = field(default_factory=list)
    unreadable: str | None = None


def check_verifiable(view: View) -> None:
    """Refuse a view that there is no second opinion on.

    Raises: StackError.
    """
    if view.key is None:
        raise StackError(f"{view.name!r} is not a view: nothing on it is encrypted")
    mode = view.key.config.mode
    if not knows(mode):
        encrypt_unit(mode, b"", 0, b"")


async def verify_part(view: View, begin: int, end: int) -> dict[str, Any]:
    """Verify a part of a range of a view that begins there: as much of it as is told.

    Units:  bytes, whole blocks of the view.
    Raises: StackError for a range that is none, or a view that there is no second opinion on.
    Await:  for whatever reads of the view do, and a worker thread.
    """
    check_verifiable(view)
    if not 0 <= begin < end <= view.size or (begin | end) % view.block_size:
        text = f"bytes {begin}..{end} are no range of blocks of {view.block_size} in 0..{view.size}"
        raise StackError(f"{view.name!r}: {text}")
    data = await _first_data(view, begin)
    if data > begin:
        # What the stores call a hole reads as zeros; it is not read to find that out.
        found = Verified(begin, min(data, end))
        found.units = found.holes = (found.end - begin) // _unit(view)
        return asdict(found)
    found = Verified(begin, min(begin + PART_SIZE, end))
    try:
        await _verify(view, found)
    except BlockIOError as error:
        found.unreadable = str(error)
    return asdict(found)


async def _verify(view: View, found: Verified) -> None:
    length, unit = found.end - found.begin, _unit(view)
    shown = await read(view, found.begin, length)
    held, places = await read_media(view.device, _sector(view, found.begin), length)
    with data_key(view) as raw:
        wrong, holes = await trio.to_thread.run_sync(_compare, view, raw, found.begin, shown, held)
    found.units, found.holes = length // unit, holes
    for index in wrong:
        if len(found.mismatches) == MAX_TOLD:
            found.mismatch_count += 1
            continue
        found.rechecked += 1
        told = await _look_again(view, found.begin + index * unit)
        if told is None:
            found.settled += 1
        else:
            found.mismatch_count += 1
            found.mismatches.append(told | _place(places, index * unit >> SECTOR_SHIFT))


async def _look_again(view: View, offset: int) -> dict[str, Any] | None:
    """What is wrong with one data unit while nothing writes it; None if nothing is."""
    unit, block = _unit(view), view.block_size
    begin = offset - offset % block
    for _ in range(MAX_LOOKS):
        held, _ = await read_media(view.device, _sector(view, begin), block)
        shown = await read(view, begin, block)
        after, _ = await read_media(view.device, _sector(view, begin), block)
        if held == after:
            break
    own = slice(offset - begin, offset - begin + unit)
    with data_key(view) as raw:
        if (offset - begin) // unit not in _compare(view, raw, begin, shown, held)[0]:
            return None
        wanted = _wanted(view, raw, offset, bytes(shown[own]), held[own])
    return {
        "offset": offset,
        "sector": _sector(view, offset),
        "dun": _dun(view, offset),
        "holds": held[own][:SHOWN_BYTES].hex(),
        "wanted": wanted[:SHOWN_BYTES].hex(),
        "is_changing": held != after,
    }


def _compare(
    view: View, key: bytearray, begin: int, shown: memoryview, held: bytearray
) -> tuple[list[int], int]:
    """The indices of the data units that differ, and how many are holes."""
    unit, wrong, holes = _unit(view), [], 0
    for at in range(0, len(held), unit):
        plain, raw = bytes(shown[at : at + unit]), held[at : at + unit]
        holes += not any(raw)
        if len(plain) != unit or _wanted(view, key, begin + at, plain, raw) != raw:
            wrong.append(at // unit)
    return wrong, holes


def _wanted(view: View, key: bytearray, offset: int, plain: bytes, raw: bytearray) -> bytes:
    """What the medium should hold for a view to show plain: zeros stand for zeros as well."""
    assert view.key is not None, "a view has a key"
    if not any(raw) and not any(plain):
        return plain
    return encrypt_unit(view.key.config.mode, bytes(key), _dun(view, offset), plain)


def _place(places: list[Piece], sector: int) -> dict[str, Any]:
    place = place_at(places, sector)
    if place.leaf is None:
        return {"disk": None, "disk_sector": None}
    return {"disk": place.leaf.name, "disk_sector": place.sector}


def _unit(view: View) -> int:
    assert view.key is not None, "a view has a key"
    return view.key.config.data_unit_size


def _sector(view: View, offset: int) -> int:
    return view.bio(Op.READ, offset, NO_DATA).sector


def _dun(view: View, offset: int) -> int:
    return view.dun_base + offset // _unit(view)


async def _first_data(view: View, offset: int) -> int:
    try:
        return await seek(view, offset, for_data=True)
    except BlockIOError as error:
        if error.errno != ENXIO:
            raise
        return view.size
