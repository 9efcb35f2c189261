"""Sizes: the only conversions between bytes, sectors and data units, and size words like 1GiB.

A sector is always 512 bytes, whatever the logical block size of a device is.
"""

import re

SECTOR_SIZE = 512
SECTOR_SHIFT = 9

#: The last sector a device may have, so that its size in bytes fits a signed 64-bit file offset.
MAX_SECTORS = ((1 << 63) - 1) >> SECTOR_SHIFT

_SIZE = re.compile(r"(?P<number>[0-9]+)\s*(?P<unit>[A-Za-z]*)")
_MULTIPLE = {
    "": 1,
    "b": 1,
    "s": SECTOR_SIZE,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "pib": 1 << 50,
}


def is_power_of_two(number: int) -> bool:
    """Whether the number is 1, 2, 4, 8, ..."""
    return number > 0 and number & (number - 1) == 0


def bytes_to_sectors(size_bytes: int) -> int:
    """Sectors in a size that must be a whole number of sectors.

    Raises: ValueError naming the remainder.
    """
    if size_bytes % SECTOR_SIZE:
        raise ValueError(
            f"{size_bytes} bytes is not a whole number of {SECTOR_SIZE}-byte sectors "
            f"({size_bytes % SECTOR_SIZE} bytes over)"
        )
    return size_bytes >> SECTOR_SHIFT


def sectors_to_bytes(sector_count: int) -> int:
    """Bytes in a number of sectors."""
    return sector_count << SECTOR_SHIFT


def parse_size(text: str) -> int:
    """Bytes named by a word such as 4096, 512s (sectors), 64KiB, 1GiB.

    Raises: ValueError for anything else; decimal units (KB, MB) are refused since readers differ.
    """
    match = _SIZE.fullmatch(text.strip())
    multiple = _MULTIPLE.get(match["unit"].lower()) if match else None
    if match is None or multiple is None:
        raise ValueError(
            f"{text!r} is not a size: use a number with B, s, KiB, MiB, GiB, TiB or PiB"
        )
    return int(match["number"]) * multiple


def format_size(size_bytes: int) -> str:
    """The shortest exact size word that parse_size reads back."""
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        multiple = _MULTIPLE[unit.lower()]
        if size_bytes and size_bytes % multiple == 0:
            return f"{size_bytes // multiple}{unit}"
    return f"{size_bytes}B"
