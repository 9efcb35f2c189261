"""The hashes of Adiantum, over many data units at once: NH, and Poly1305 over its results. Pure.

NH takes a message in chunks of 1024 bytes and multiplies words of 32 bits that had a key added: all
of that is done on arrays. Its result is 32 bytes for each chunk; what is left is a polynomial with
few terms for each data unit, for which Python's integers are fast enough.

Source: the Adiantum paper (Crowley and Biggers 2018), sections 2 and A: NH with four passes, and
Poly1305 without its final addition, reduced to 128 bits.
"""

from operator import mul

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

CHUNK_BYTES = 1024
_PASSES = 4
_STRIDE_WORDS = 4
_STRIDES = CHUNK_BYTES // (4 * _STRIDE_WORDS)
#: Each pass has the key of the one before it, moved on by one stride.
NH_KEY_BYTES = CHUNK_BYTES + 16 * (_PASSES - 1)
#: Words hashed in one go, four times as many with the passes: what it takes fits a small cache.
_GROUP_WORDS = (16 << 10) // 4

_PRIME = (1 << 130) - 5
_PAD = 1 << 128
MASK_128 = (1 << 128) - 1
_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF


class NhPoly:
    """The hash of a data unit without its last 16 bytes, and of its tweak.

    Units: unit_size is a power of two, at least 32 bytes.
    """

    def __init__(
        self, unit_size: int, tweak_key: int, message_key: int, nh_key: memoryview
    ) -> None:
        self._strides = min(_STRIDES, unit_size // (4 * _STRIDE_WORDS))
        by_stride = np.frombuffer(nh_key, "<u4").astype(np.uint32).reshape(-1, _STRIDE_WORDS)
        # The key as (word, pass, unit, chunk, stride): the same for all units and chunks.
        passes = [by_stride[number : number + self._strides].T for number in range(_PASSES)]
        self._nh_key = np.stack(passes, axis=1)[:, :, None, None, :]
        self._chunks = max(1, unit_size // CHUNK_BYTES)
        bits = 8 * (unit_size - 16)
        # Each block of 16 bytes counts with 2^128 added; these parts do not depend on the data.
        first, second, third = _powers(tweak_key, 3)
        self._tweak_terms = [second, second << 64, first, first << 64]
        self._tweak_constant = (bits + _PAD) * third + _PAD * (second + first)
        powers = _powers(message_key, 2 * self._chunks)[::-1]
        self._terms = [power << shift for power in powers for shift in (0, 64)]
        self._constant = _PAD * sum(powers)

    def tweak_hashes(self, tweaks: NDArray[np.uint64]) -> list[int]:
        """The part of each data unit's hash that its tweak makes; tweaks are (unit, limb)."""
        return _polynomials(tweaks, self._tweak_terms, self._tweak_constant)

    def hashes(self, units: Words) -> list[int]:
        """The part that the data make; units are (unit, word), and their last 16 bytes not used."""
        return _polynomials(self._nh(units), self._terms, self._constant)

    def _nh(self, units: Words) -> NDArray[np.uint64]:
        """NH of each chunk, as (unit, limb).

        The last stride of a data unit is no part of the message: its products are set to zero.
        """
        shape = (len(units), self._chunks, self._strides)
        words = np.moveaxis(units.reshape(*shape, _STRIDE_WORDS), 3, 0)
        sums = np.empty((_PASSES, *shape[:2]), np.uint64)
        step = min(len(units), max(1, _GROUP_WORDS // units.shape[1]))
        all_keyed = np.empty((_STRIDE_WORDS, _PASSES, step, *shape[1:]), np.uint32)
        all_products = np.empty((2, _PASSES, step, *shape[1:]), np.uint64)
        for start in range(0, len(units), step):
            group = np.ascontiguousarray(words[:, start : start + step])
            count = group.shape[1]
            keyed, products = all_keyed[:, :, :count], all_products[:, :, :count]
            np.add(group[:, None], self._nh_key, out=keyed)
            np.multiply(keyed[:2], keyed[2:], out=products, dtype=np.uint64)
            products[:, :, :, -1, -1] = 0
            products[0] += products[1]
            products[0].sum(axis=3, out=sums[:, start : start + count])
        return np.moveaxis(sums, 0, 2).reshape(len(units), -1)


def poly1305_key(key: memoryview) -> int:
    """The point at which Poly1305 evaluates: 16 bytes with some bits cleared."""
    return int.from_bytes(key, "little") & _CLAMP


def _powers(base: int, count: int) -> list[int]:
    """base^1 to base^count modulo the prime."""
    powers = [base % _PRIME]
    while len(powers) < count:
        powers.append(powers[-1] * base % _PRIME)
    return powers


def _polynomials(limbs: NDArray[np.uint64], terms: list[int], constant: int) -> list[int]:
    """The sum of products with the terms of each row, and the constant: the hash of that row."""
    return [sum(map(mul, row, terms), constant) % _PRIME & MASK_128 for row in limbs.tolist()]
