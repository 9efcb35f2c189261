"""Which data units of a buffer are holes, and decrypting the others. Pure."""

from collections.abc import Iterator

from fusedm.block.crypt_ctx import CryptContext
from fusedm.block.plan import Cipher
from fusedm.crypto.compiled import has_zero_unit, is_zero_unit


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
