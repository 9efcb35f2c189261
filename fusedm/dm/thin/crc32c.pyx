# cython: language_level=3, boundscheck=False, wraparound=False
"""The checksum of metadata blocks, CRC-32C (Castagnoli), eight bytes at a time.

Compiled since Python has the polynomial of zlib only, and opening a pool sums up all of its blocks.
Source: RFC 3720, appendix B.4; the tables of Kounavis and Berry, "A Systematic Approach to Building
High Performance, Software-based, CRC Generators" (2005).
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are taken as they lie in memory");
    """

cdef enum:
    #: The polynomial, its lowest power in the highest bit.
    POLYNOMIAL = 0x82F63B78

#: What a byte leaves in the register after 0 to 7 more bytes of zeros.
cdef uint32_t tables[8][256]


cdef void fill_tables():
    cdef uint32_t byte, bit, register_
    for byte in range(256):
        register_ = byte
        for bit in range(8):
            register_ = (register_ >> 1) ^ (POLYNOMIAL if register_ & 1 else 0)
        tables[0][byte] = register_
    for bit in range(1, 8):
        for byte in range(256):
            register_ = tables[bit - 1][byte]
            tables[bit][byte] = (register_ >> 8) ^ tables[0][register_ & 255]


fill_tables()


def crc32c(const unsigned char[::1] data not None) -> int:
    """The CRC-32C of some bytes."""
    cdef uint32_t register_ = 0xFFFFFFFF
    cdef Py_ssize_t at = 0, length = data.shape[0]
    cdef uint64_t word
    while at + 8 <= length:
        memcpy(&word, &data[at], 8)
        word ^= register_
        register_ = (
            tables[7][word & 255]
            ^ tables[6][word >> 8 & 255]
            ^ tables[5][word >> 16 & 255]
            ^ tables[4][word >> 24 & 255]
            ^ tables[3][word >> 32 & 255]
            ^ tables[2][word >> 40 & 255]
            ^ tables[1][word >> 48 & 255]
            ^ tables[0][word >> 56]
        )
        at += 8
    while at < length:
        register_ = (register_ >> 8) ^ tables[0][(register_ ^ data[at]) & 255]
        at += 1
    return register_ ^ 0xFFFFFFFF
