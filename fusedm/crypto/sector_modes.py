"""Sectors encrypted as dm-crypt does, all of a call at once. Pure.

The number of a sector counts 512 bytes whatever the sector size. It chooses the key, where there
are several, and the IV is made of it, or of the number of the large sector if those are counted.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto.batches import BATCH_BYTES
from fusedm.crypto.blocks import BlockCipher, Blocks, as_blocks
from fusedm.crypto.essiv import Chain, decrypt_chains, encrypt_chains
from fusedm.crypto.sector_ivs import IvMaker
from fusedm.crypto.xts import tweaks


class UnitMode(Protocol):
    """A mode under one key, on many sectors at once; target may be source.

    Shapes: ivs is (sector, limb), source and target are (sector, block, limb), contiguous.
    """

    def encrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None: ...
    def decrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None: ...


class XtsUnits(UnitMode):
    """Each block xored with its tweak before and after."""

    def __init__(self, data: BlockCipher, tweak: BlockCipher) -> None:
        self._data = data
        self._tweak = tweak

    def encrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        self._transform(self._data.encrypt, ivs, source, target)

    def decrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        self._transform(self._data.decrypt, ivs, source, target)

    def zero_under(self, ivs: Blocks) -> Blocks:
        """A block of zeros encrypted under each IV."""
        masks = self._tweak.encrypt(ivs)
        return self._data.encrypt(masks) ^ masks

    def _transform(
        self, through: Callable[[Blocks], Blocks], ivs: Blocks, source: Blocks, target: Blocks
    ) -> None:
        masks = tweaks(self._tweak.encrypt(ivs), source.shape[1])
        np.bitwise_xor(through(source ^ masks), masks, out=target)


class CbcUnits(UnitMode):
    """Each block xored with the ciphertext before it."""

    def __init__(self, data: BlockCipher, new_chain: Callable[[], Chain]) -> None:
        self._data = data
        self._new_chain = new_chain

    def encrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        src, dst = source.data.cast("B"), target.data.cast("B")
        encrypt_chains(self._new_chain(), ivs, src, dst)

    def decrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        decrypt_chains(self._data, ivs, source, target)

    def zero_under(self, ivs: Blocks) -> Blocks:
        """A block of zeros encrypted under each IV."""
        return self._data.encrypt(ivs)


class EcbUnits(UnitMode):
    """Each block on its own."""

    def __init__(self, data: BlockCipher) -> None:
        self._data = data

    def encrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        target[:] = self._data.encrypt(source)

    def decrypt(self, ivs: Blocks, source: Blocks, target: Blocks) -> None:
        target[:] = self._data.decrypt(source)


class SectorArrays:
    """A cipher of sectors: for each key its IVs and its mode.

    Units:  encrypt and decrypt take the number of the first sector, in 512 bytes.
    Shapes: the number of keys is a power of two.
    """

    def __init__(
        self, sector_size: int, counts_large: bool, keys: Sequence[tuple[IvMaker, UnitMode]]
    ) -> None:
        self._sector_size = sector_size
        self._step = sector_size // SECTOR_SIZE
        self._shift = np.uint64(self._step.bit_length() - 1 if counts_large else 0)
        self._keys = keys

    def encrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Encrypt each sector of src into dst."""
        for numbers, source, target in self._batches(dun, src, dst):
            for chosen, (make_ivs, mode) in self._by_key(numbers):
                part = target[chosen]
                mode.encrypt(make_ivs(numbers[chosen] >> self._shift), source[chosen], part)
                target[chosen] = part

    def decrypt(self, dun: int, src: memoryview, dst: memoryview) -> None:
        """Decrypt each sector of src into dst."""
        for numbers, source, target in self._batches(dun, src, dst):
            for chosen, (make_ivs, mode) in self._by_key(numbers):
                part = target[chosen]
                mode.decrypt(make_ivs(numbers[chosen] >> self._shift), source[chosen], part)
                target[chosen] = part

    def _batches(
        self, first: int, src: memoryview, dst: memoryview
    ) -> Iterator[tuple[NDArray[np.uint64], Blocks, Blocks]]:
        size = self._sector_size
        assert len(src) % size == 0, f"{len(src)} is not a multiple of {size}"
        for start in range(0, len(src), BATCH_BYTES):
            stop = min(start + BATCH_BYTES, len(src))
            count = (stop - start) // size
            numbers = np.arange(count, dtype=np.uint64) * np.uint64(self._step)
            numbers += np.uint64((first + start // SECTOR_SIZE) % (1 << 64))
            yield numbers, as_blocks(src[start:stop], count), as_blocks(dst[start:stop], count)

    def _by_key(
        self, numbers: NDArray[np.uint64]
    ) -> Iterator[tuple[NDArray[np.bool_] | slice, tuple[IvMaker, UnitMode]]]:
        """The sectors of each key; all of them without picking if there is one."""
        if len(self._keys) == 1:
            yield slice(None), self._keys[0]
            return
        indices = numbers & np.uint64(len(self._keys) - 1)
        for index, key in enumerate(self._keys):
            chosen = indices == index
            if chosen.any():
                yield chosen, key
