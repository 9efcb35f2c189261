"""How the number of a data unit or sector becomes its IV.

Source: blk_crypto_dun_to_iv in the kernel's block/blk-crypto-fallback.c for contexts, and the
crypt_iv_*_gen functions of drivers/md/dm-crypt.c for sectors, whose numbers have 64 bits and wrap.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from * nogil:
    """
    static inline uint64_t big_endian(uint64_t number)
    {
        return __builtin_bswap64(number);
    }
    """
    uint64_t big_endian(uint64_t number)

cdef enum IvKind:
    #: The whole number, little-endian; of all others the lower half counts.
    DUN
    PLAIN
    PLAIN64
    PLAIN64BE
    #: Counts cipher blocks from 1, 32 in 512 bytes.
    BENBI
    #: Bytes.
    EBOIV
    ZERO

#: step leads from the number of a unit to the next; an IV is made of the number shifted right.
cdef struct Numbering:
    IvKind kind
    uint64_t step
    int shift
    uint64_t unit


cdef inline void write_iv(
    const Numbering *numbering, uint64_t low, uint64_t high, unsigned char *iv, size_t size
) noexcept nogil:
    """Make the IV of a number, of at least 16 bytes."""
    cdef IvKind kind = numbering.kind
    memset(iv, 0, size)
    if kind == IvKind.DUN:
        memcpy(iv, &low, 8)
        memcpy(iv + 8, &high, 8)
        return
    low >>= numbering.shift
    if kind == IvKind.PLAIN64BE or kind == IvKind.BENBI:
        low = big_endian(low if kind == IvKind.PLAIN64BE else (low << 5) + 1)
        memcpy(iv + size - 8, &low, 8)
    elif kind != IvKind.ZERO:
        if kind == IvKind.PLAIN:
            low = <uint32_t>low
        elif kind == IvKind.EBOIV:
            low *= numbering.unit
        memcpy(iv, &low, 8)


cdef inline bint advance(const Numbering *numbering, uint64_t *low, uint64_t *high) noexcept nogil:
    """Go on to the number of the next unit; whether a context's has come to the end of 128 bits."""
    low[0] += numbering.step
    if numbering.kind != IvKind.DUN or low[0]:
        return False
    high[0] += 1
    return not high[0]
