"""How dm-crypt makes the IV of a sector from its number. Pure.

A maker takes the numbers of many sectors and answers with their IVs; numbers have 64 bits and wrap.

Source: the crypt_iv_*_gen functions of the kernel's drivers/md/dm-crypt.c.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusedm.crypto.blocks import BLOCK_BYTES, Blocks
from fusedm.crypto.cipher_spec import CipherSpec

#: The IVs of sectors. Shapes: (sector,) to (sector, limb).
IvMaker = Callable[[NDArray[np.uint64]], Blocks]
Encrypt = Callable[[Blocks], Blocks]

_LOW_WORD = np.uint64(0xFFFFFFFF)
#: benbi counts cipher blocks, 32 in 512 bytes.
_BENBI_SHIFT = np.uint64((512 // BLOCK_BYTES).bit_length() - 1)


@dataclass(frozen=True, slots=True)
class IvCiphers:
    """What some makers encrypt with.

    salted: the block cipher under the digest of the key, for essiv.
    zero_under: a block of zeros in the cipher's own mode, its IV given, for eboiv.
    """

    salted: Encrypt
    zero_under: Encrypt


def make_iv_maker(spec: CipherSpec, sector_size: int, ciphers: IvCiphers | None) -> IvMaker:
    """The maker of a cipher's IVs; for one without IVs they are zeros. Adiantum's have 32 bytes."""
    limbs = 4 if spec.rounds else 2
    match spec.iv_mode:
        case "plain":
            return lambda numbers: _in_low_limb(numbers & _LOW_WORD, limbs)
        case "plain64":
            return lambda numbers: _in_low_limb(numbers, limbs)
        case "plain64be":
            return lambda numbers: _big_endian(numbers, limbs)
        case "benbi":
            return lambda numbers: _big_endian((numbers << _BENBI_SHIFT) + np.uint64(1), limbs)
        case "essiv":
            assert ciphers is not None, "essiv is for modes that have such a cipher"
            salted = ciphers.salted
            return lambda numbers: salted(_in_low_limb(numbers))
        case "eboiv":
            size = np.uint64(sector_size)
            assert ciphers is not None, "eboiv is for modes that have such a cipher"
            zero_under = ciphers.zero_under
            return lambda numbers: zero_under(_in_low_limb(numbers * size))
        case _:
            return lambda numbers: np.zeros((len(numbers), limbs), "<u8")


def _in_low_limb(numbers: NDArray[np.uint64], limbs: int = 2) -> Blocks:
    ivs = np.zeros((len(numbers), limbs), "<u8")
    ivs[:, 0] = numbers
    return ivs


def _big_endian(numbers: NDArray[np.uint64], limbs: int) -> Blocks:
    """In the last eight bytes."""
    ivs = np.zeros((len(numbers), limbs), "<u8")
    ivs[:, -1] = numbers.astype("<u8").byteswap()
    return ivs
