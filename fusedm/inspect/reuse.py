"""One key and one data unit number for two places: where that can be, and whether the data differ.

Structure comes first: views under the same key bytes whose ranges of data unit numbers overlap, and
whether the same number leads them to the same bytes of a medium. Data are asked about in a second
step, some data unit numbers at a time. What comes of reuse depends on the mode: under XTS two
ciphertexts of one number show where their plaintexts are equal.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from errno import ENXIO
from typing import Any

import trio

from fusedm.block import NO_DATA, CryptoKey, Op
from fusedm.block.crypt_ctx import dun_limit
from fusedm.block.errors import BlockIOError, StackError, WouldBlock
from fusedm.block.units import SECTOR_SHIFT
from fusedm.inspect.data_keys import data_key
from fusedm.inspect.media import pieces, read_media
from fusedm.system import System, View

Json = dict[str, Any]

#: Overlaps that are told; so many views under one key with one DUN base are surely not meant.
MAX_OVERLAPS = 1000
#: Stretches compared for one overlap: 0.5 s of work. What lies beyond is told as not looked at.
MAX_STRETCHES = 1 << 14

#: Medium (None: there is none) and sector.
_Place = tuple[str | None, int]


def views_named(system: System, names: Sequence[str]) -> list[View]:
    """The views of names, or all of them.

    Raises: StackError for a name that is none.
    """
    for name in names:
        if name not in system.views:
            raise StackError(f"{name!r} is not a view of this stack", ENXIO)
    return [view for name, view in system.views.items() if not names or name in names]


def dun_ranges(system: System, names: Sequence[str]) -> list[Json]:
    """The data unit numbers of views at their sizes now, and whether they fit their key's bytes."""
    return [
        {
            "name": view.name,
            "first": view.dun_base,
            "last": view.dun_base + max(_count(view), 1) - 1,
            "limit": dun_limit(_key(view).config),
            "dun_bytes": _key(view).config.dun_bytes,
        }
        for view in views_named(system, names)
    ]


def overlaps(system: System, names: Sequence[str]) -> Iterator[Json]:
    """Each two views under the same key bytes that share data unit numbers, and where they lie.

    Raises: StackError for a name that is no view, or a suspended device.
    """
    groups: dict[tuple[str, bytes], list[View]] = defaultdict(list)
    for view in views_named(system, names):
        with data_key(view) as raw:
            groups[_key(view).config.mode, bytes(raw)].append(view)
    found = 0
    for group in groups.values():
        ordered = sorted(group, key=lambda view: view.dun_base)
        for index, one in enumerate(ordered):
            for other in ordered[index + 1 :]:
                first = other.dun_base
                last = min(one.dun_base + _count(one), first + _count(other)) - 1
                if last < first:
                    break
                if found == MAX_OVERLAPS:
                    return
                found += 1
                yield _overlap(one, other, first, last)


async def find_overlaps(system: System, names: Sequence[str]) -> list[Json]:
    """The same, all of them; others have their turn in between."""
    found = []
    for overlap in overlaps(system, names):
        found.append(overlap)
        await trio.lowlevel.checkpoint()
    return found


def _overlap(one: View, other: View, first: int, last: int) -> Json:
    told: Json = {"views": [one.name, other.name], "keys": [_key(one).name, _key(other).name]}
    told |= {"first": first, "last": last, "different": 0, "first_different": None}
    dun = first
    for _ in range(MAX_STRETCHES):
        if dun > last:
            break
        here, there = _place(one, dun, last), _place(other, dun, last)
        count = min(here[1], there[1])
        if _unit(one) == _unit(other) and here[0] == there[0]:
            dun += count
            continue
        if here[0][0] is not None and there[0][0] is not None:
            told["different"] += count
            if told["first_different"] is None:
                told["first_different"] = dun
        dun += count
    return told | {"not_looked_at": last + 1 - dun}


def _place(view: View, dun: int, last: int) -> tuple[_Place, int]:
    """Where a data unit begins on its medium, and how many follow it there."""
    sector, sectors = _sector(view, dun), _unit(view) >> SECTOR_SHIFT
    try:
        span = view.device.span(sector).at(sector)
        if span.leaf is not None and Op.READ in span.ops and span.cipher is None:
            count = max((span.end - sector) // sectors, 1)
            return (span.leaf.name, sector + span.shift), min(count, last + 1 - dun)
        block = memoryview(bytearray(view.block_size))
        place = pieces(view.device, sector, block)[0]
    except BlockIOError:
        return (None, 0), 1
    except WouldBlock:
        raise StackError(f"{view.name!r}: a device below is suspended: resume it first") from None
    return (place.leaf.name if place.leaf is not None else None, place.sector), 1


async def compare_data(one: View, other: View, duns: Sequence[int]) -> Json:
    """Of data unit numbers that two views share: how many hold data, and different ones, in both.

    Raises: StackError for a number that is not in both; BlockIOError.
    """
    told: Json = {"looked_at": len(duns), "same_place": 0, "holes": 0, "equal": 0, "different": []}
    size = min(_unit(one), _unit(other))
    for dun in duns:
        for view in (one, other):
            if not view.dun_base <= dun < view.dun_base + _count(view):
                raise StackError(f"DUN {dun} is not one of view {view.name!r}")
        if _unit(one) == _unit(other) and _place(one, dun, dun) == _place(other, dun, dun):
            told["same_place"] += 1
            continue
        raw = [await _raw(view, dun, size) for view in (one, other)]
        if not all(map(any, raw)):
            told["holes"] += 1
        elif raw[0] == raw[1]:
            told["equal"] += 1
        else:
            told["different"].append(dun)
    return told


async def _raw(view: View, dun: int, size: int) -> bytearray:
    """The first bytes of a data unit on its medium; the blocks it lies in are read whole."""
    offset = (dun - view.dun_base) * _unit(view)
    begin = offset - offset % view.block_size
    sector = view.bio(Op.READ, begin, NO_DATA).sector
    held, _ = await read_media(view.device, sector, max(view.block_size, _unit(view)))
    return held[offset - begin : offset - begin + size]


def _key(view: View) -> CryptoKey:
    assert view.key is not None, "a view in the table of views has a key"
    return view.key


def _unit(view: View) -> int:
    return _key(view).config.data_unit_size


def _count(view: View) -> int:
    return view.size // _unit(view)


def _sector(view: View, dun: int) -> int:
    """Where a data unit begins on the view's device."""
    return view.bio(Op.READ, (dun - view.dun_base) * _unit(view), NO_DATA).sector
