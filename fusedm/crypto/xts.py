"""XTS over any block cipher, on all data units of a call at once. Pure.

Each block is xored with its tweak before and after the block cipher. The first tweak of a data unit
is its encrypted IV, and the tweak of block n + 1 is that of block n times x in GF(2^128). To have
them all in few steps, the tweaks known are doubled in number: those of blocks n to 2n - 1 are those
of blocks 0 to n - 1 times x^n.

Source: IEEE 1619, clauses 5.2 to 5.4 (not the variant of GB/T 17964, whose bits are reversed).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fusedm.block.crypt_ctx import CryptoConfig
from fusedm.crypto.batches import split_at_batches
from fusedm.crypto.blocks import BlockCipher, Blocks, as_blocks

Limbs = NDArray[np.uint64]

#: x^128 is x^7 + x^2 + x + 1 in the field.
_REDUCTION = (7, 2, 1, 0)
#: Up to this power of x, what leaves a block at the top still fits one limb after the reduction.
_MAX_SHIFT = 64 - _REDUCTION[0]


class Xts:
    """A block cipher in XTS mode."""

    def __init__(self, config: CryptoConfig, data: BlockCipher, tweak: BlockCipher) -> None:
        self._config = config
        self._data = data
        self._tweak = tweak

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each data unit of src into dst."""
        self._transform(self._data.encrypt, dun, src, dst)

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each data unit of src into dst."""
        self._transform(self._data.decrypt, dun, src, dst)

    def _transform(
        self, blocks_through: Callable[[Blocks], Blocks], dun: int, src: memoryview, dst: memoryview
    ) -> None:
        for ivs, part in split_at_batches(self._config, dun, len(src)):
            source, target = as_blocks(src[part], len(ivs)), as_blocks(dst[part], len(ivs))
            masks = tweaks(self._tweak.encrypt(ivs), source.shape[1])
            through = blocks_through(source ^ masks)
            np.bitwise_xor(through, masks, out=target)


def tweaks(first: Limbs, block_count: int) -> Blocks:
    """The tweaks of the blocks of each data unit, from those of their first blocks.

    Shapes: first is (unit, limb), the result (unit, block, limb); block_count is a power of two.
    """
    unit_count = len(first)
    low = np.empty((block_count, unit_count), np.uint64)
    high = np.empty((block_count, unit_count), np.uint64)
    low[0], high[0] = first.T
    known = 1
    while known < block_count:
        low[known : 2 * known], high[known : 2 * known] = times_power_of_x(
            low[:known], high[:known], known
        )
        known *= 2
    result = np.empty((unit_count, block_count, 2), "<u8")
    result[:, :, 0] = low.T
    result[:, :, 1] = high.T
    return result


def times_power_of_x(low: Limbs, high: Limbs, power: int) -> tuple[Limbs, Limbs]:
    """Products with x^power, a power of two.

    From 128 on x^power is (x^128)^k, which by the reduction is a sum of four lower powers: squaring
    a sum in a field of characteristic two squares its terms.
    """
    if power <= _MAX_SHIFT:
        return _shifted(low, high, power)
    if power <= 128:
        low, high = _shifted_by_a_limb(low, high)
        return times_power_of_x(low, high, power - 64) if power > 64 else (low, high)
    sum_low, sum_high = low, high
    for term in _REDUCTION[:-1]:
        more_low, more_high = times_power_of_x(low, high, term * power // 128)
        sum_low, sum_high = sum_low ^ more_low, sum_high ^ more_high
    return sum_low, sum_high


def _shifted(low: Limbs, high: Limbs, power: int) -> tuple[Limbs, Limbs]:
    """Products with x^power, 1 to 57: a shift, and what leaves at the top comes in below."""
    over = high >> np.uint64(64 - power)
    high = (high << np.uint64(power)) | (low >> np.uint64(64 - power))
    low = low << np.uint64(power)
    for term in _REDUCTION:
        low ^= over << np.uint64(term)
    return low, high


def _shifted_by_a_limb(low: Limbs, high: Limbs) -> tuple[Limbs, Limbs]:
    """Products with x^64: the upper limb comes in below, and over the lower one."""
    over = high
    low, high = over.copy(), low.copy()
    for term in _REDUCTION[:-1]:
        low ^= over << np.uint64(term)
        high ^= over >> np.uint64(64 - term)
    return low, high
