"""Data units all at once: IVs as arrays, and runs that are transformed together. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fusedm.block.crypt_ctx import MODES, CryptoConfig
from fusedm.crypto.data_units import iv_bytes

_LIMB_BYTES = 8
_LIMB = 1 << (8 * _LIMB_BYTES)

#: Bytes transformed in one go by the ciphers that work on all data units at once: what they need
#: beside them stays in a processor's cache, and the cost of a call to numpy is spread widely.
BATCH_BYTES = 128 << 10


def iv_array(mode: str, dun: int, unit_count: int) -> NDArray[np.uint64]:
    """The IVs of unit_count data units, the first of them numbered dun, as 64-bit limbs.

    Shapes: (unit_count, IV size / 8); little-endian in memory, so its bytes are those of iv_bytes.
    """
    ivs = np.empty((unit_count, MODES[mode].iv_size // _LIMB_BYTES), "<u8")
    low = dun % _LIMB
    ivs[:, 0] = np.arange(unit_count, dtype=np.uint64) + np.uint64(low)
    before_carry = min(unit_count, _LIMB - low)
    ivs[:before_carry, 1:] = _upper_limbs(mode, dun)
    if before_carry < unit_count:
        ivs[before_carry:, 1:] = _upper_limbs(mode, dun + before_carry)
    return ivs


def _upper_limbs(mode: str, dun: int) -> NDArray[np.uint64]:
    return np.frombuffer(iv_bytes(mode, dun), "<u8")[1:]


def split_at_batches(
    config: CryptoConfig, dun: int, length_bytes: int
) -> Iterator[tuple[NDArray[np.uint64], slice]]:
    """Yield (IVs, byte slice) for each run of data units that are to be transformed together.

    Units:  as for split_at_data_units.
    Shapes: a run has BATCH_BYTES, the last one perhaps less; the slices cover the buffer.
    """
    size = config.data_unit_size
    assert length_bytes % size == 0, f"{length_bytes} is not a multiple of {size}"
    for start in range(0, length_bytes, BATCH_BYTES):
        stop = min(start + BATCH_BYTES, length_bytes)
        ivs = iv_array(config.mode, dun + start // size, (stop - start) // size)
        yield ivs, slice(start, stop)
