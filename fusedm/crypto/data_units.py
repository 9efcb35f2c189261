"""From a context and a length to data units and their IVs; and which of them are holes. Pure."""

from collections.abc import Iterator

from fusedm.block.crypt_ctx import MODES, CryptContext, CryptoConfig
from fusedm.block.plan import Cipher
from fusedm.crypto.compiled import has_zero_unit, is_zero_unit


def iv_bytes(mode: str, dun: int) -> bytes:
    """The IV of one data unit: its DUN, little-endian, padded with zeros to the mode's IV size.

    Source: blk_crypto_dun_to_iv in the kernel's block/blk-crypto-fallback.c.
    """
    return dun.to_bytes(MODES[mode].iv_size, "little")


def split_at_data_units(
    config: CryptoConfig, dun: int, length_bytes: int
) -> Iterator[tuple[bytes, slice]]:
    """Yield (IV, byte slice) for each data unit of a buffer.

    Units:  length_bytes is a whole number of data units (checked where the bio entered the device).
    Shapes: the slices are adjacent and cover the buffer.
    """
    size = config.data_unit_size
    assert length_bytes % size == 0, f"{length_bytes} is not a multiple of {size}"
    for index in range(length_bytes // size):
        yield iv_bytes(config.mode, dun + index), slice(index * size, (index + 1) * size)


def decrypt_data(cipher: Cipher, context: CryptContext, data: memoryview) -> None:
    """Decrypt the data of a bio in place, all but its holes."""
    unit = context.key.config.data_unit_size
    if not context.zeros_are_holes:
        cipher.decrypt(context.dun, data, data)
        return
    for run in runs_of_data(data, unit):
        cipher.decrypt(context.dun + run.start // unit, data[run], data[run])


def runs_of_data(data: memoryview, unit: int) -> Iterator[slice]:
    """Yield what lies between units of zeros, each of unit bytes."""
    if not has_zero_unit(data, unit):
        yield slice(0, len(data))
        return
    begin = 0
    for end in range(0, len(data) + unit, unit):
        if end == len(data) or is_zero_unit(data[end : end + unit]):
            if begin < end:
                yield slice(begin, end)
            begin = end + unit
