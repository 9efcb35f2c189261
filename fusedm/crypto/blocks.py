"""What the batched modes share: a block cipher as they are given it, and buffers as arrays. Pure.

The modes are made of a block cipher and arithmetic on whole arrays. The block cipher comes from
crypto/ciphers.py, the one place that knows where ciphers are from.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 16

#: Blocks as pairs of 64-bit limbs, in the last dimension, little-endian in memory.
Blocks = NDArray[np.uint64]


class BlockCipher(Protocol):
    """A block cipher under one key, on many blocks in one call, each on its own.

    Shapes: the result is a new array of the shape of blocks.
    """

    def encrypt(self, blocks: Blocks) -> Blocks: ...
    def decrypt(self, blocks: Blocks) -> Blocks: ...


def as_blocks(buffer: memoryview, unit_count: int) -> Blocks:
    """A buffer of unit_count data units as (unit, block, limb), without a copy."""
    return np.frombuffer(buffer, "<u8").reshape(unit_count, -1, 2)
