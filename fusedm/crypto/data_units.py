"""From a context and a length to data units and their IVs. Pure."""

from collections.abc import Iterator

from fusedm.block.crypt_ctx import MODES, CryptoConfig


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
