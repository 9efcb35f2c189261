"""Data as both sides make and tell it: noise from a seed, and a checksum of each sector.

So neither has to be sent. Runs in the guest too, with the standard library.
"""

import base64
import zlib
from random import Random


def noise(seed: int, length: int) -> bytes:
    """Bytes that follow from a seed."""
    return Random(seed).randbytes(length)


def sums(data: bytes) -> list[int]:
    """A checksum of each sector."""
    return [zlib.crc32(data[at : at + 512]) for at in range(0, len(data), 512)]


def content(sectors: int, block_size: int, seed: int | None, begins: str) -> bytes:
    """What a disk holds before zeros: noise or nothing, after what it begins with, in base64."""
    data = b"" if seed is None else noise(seed, sectors * 512)
    first = base64.b64decode(begins)
    return first + data[len(first) :]
