"""What other compiled modules may use of path.pyx."""

from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from fusedm.crypto.compiled cimport CompiledCipher, UnitCipher

cdef enum:
    #: How many threads may use a Path at once, each with a number of its own.
    WORKERS = 2

#: What was done on a path in a batch, by one worker; times in nanoseconds.
cdef struct Tally:
    int64_t reads, read_bytes, read_time, writes, write_bytes, write_time

#: What workers see of a Path. Bytes; shift leads from offsets of the file to the descriptor's.
#: cipher is NULL where nothing is transformed.
cdef struct Way:
    uint64_t handle
    int64_t begin, end, shift
    int fd
    uint64_t block_mask
    uint64_t dun_low, dun_high
    size_t unit
    bint may_write
    bint zeros_are_holes
    const UnitCipher *cipher
    Tally tallies[WORKERS]


cdef class Path:
    cdef Way way
    #: Kept for as long as the way leads through it.
    cdef CompiledCipher cipher


cdef bint read_from(
    const Way *way, uint64_t offset, unsigned char *data, size_t size
) noexcept nogil
cdef bint write_to(
    const Way *way, uint64_t offset, const unsigned char *data, size_t size,
    unsigned char *bounce,
) noexcept nogil


cdef inline int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec
