# cython: language_level=3, boundscheck=False, wraparound=False
"""Where a stretch of an open file lies, made ready for compiled workers; nothing is decided here.

A Path is found and made by routes.py. Between set_out and come_back its workers read and write on
it without the GIL, each with a tally of its own.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset
from posix.types cimport off_t

from fusedm.crypto.compiled cimport CompiledCipher, decrypt_with_holes

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buffer, size_t count, off_t offset)
    ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset)

cdef enum:
    #: Data are transformed in pieces that stay in the processor's cache between two steps.
    PIECE = 1 << 17


cdef class Path:
    """Where the blocks of a stretch of a file lie; set_out readies it for a batch.

    Units: bytes; begin, end and block_size as the file counts, shift to the descriptor's offsets.
    """

    def __init__(self, uint64_t handle, int64_t begin, int64_t end, int fd, int64_t shift,
                 uint64_t block_size, object dun_base, size_t data_unit_size,
                 bint zeros_are_holes=True):
        self.way.handle = handle
        self.way.begin, self.way.end, self.way.shift = begin, end, shift
        self.way.fd, self.way.block_mask = fd, block_size - 1
        self.way.dun_low, self.way.dun_high = dun_base & 0xFFFFFFFFFFFFFFFF, dun_base >> 64
        self.way.unit = data_unit_size
        self.way.zeros_are_holes = zeros_are_holes

    def set_out(self, CompiledCipher cipher, bint may_write):
        """Ready it for a batch: through this cipher, if any, and perhaps for reads only."""
        self.way.may_write = may_write
        self.cipher = cipher
        self.way.cipher = NULL if cipher is None else &cipher.units

    def come_back(self):
        """The batch is over: (reads, their bytes and nanoseconds, writes, theirs) done in it."""
        cdef Tally done
        cdef Tally *tally
        cdef int worker
        memset(&done, 0, sizeof(done))
        for worker in range(WORKERS):
            tally = &self.way.tallies[worker]
            done.reads += tally.reads
            done.read_bytes += tally.read_bytes
            done.read_time += tally.read_time
            done.writes += tally.writes
            done.write_bytes += tally.write_bytes
            done.write_time += tally.write_time
        memset(self.way.tallies, 0, sizeof(self.way.tallies))
        self.way.cipher, self.cipher = NULL, None
        return (
            done.reads, done.read_bytes, done.read_time,
            done.writes, done.write_bytes, done.write_time,
        )


cdef bint read_from(
    const Way *way, uint64_t offset, unsigned char *data, size_t size
) noexcept nogil:
    """Fill data from an offset of the file; False if anything fails."""
    cdef size_t done = 0, piece
    cdef uint64_t low = 0, high = 0
    while done < size:
        # PIECE is a multiple of every data unit size.
        piece = size - done
        if way.cipher and piece > PIECE:
            piece = PIECE
        if not pread_all(way.fd, data + done, piece, offset + done + way.shift):
            return False
        if way.cipher:
            first_dun(way, offset + done, &low, &high)
            if not decrypt(way, low, high, data + done, piece):
                return False
        done += piece
    return True


cdef bint decrypt(
    const Way *way, uint64_t low, uint64_t high, unsigned char *data, size_t size
) noexcept nogil:
    """Decrypt data in place, all but holes if the way has any."""
    if way.zeros_are_holes:
        return decrypt_with_holes(way.cipher, low, high, data, data, size)
    return way.cipher.decrypt(way.cipher.state, low, high, data, data, size)


cdef bint write_to(
    const Way *way, uint64_t offset, const unsigned char *data, size_t size,
    unsigned char *bounce,
) noexcept nogil:
    """Write data at an offset of the file; False if anything fails. Data are left alone."""
    cdef size_t done = 0, piece
    cdef uint64_t low = 0, high = 0
    if not way.cipher:
        return pwrite_all(way.fd, data, size, offset + way.shift)
    while done < size:
        piece = min(size - done, <size_t>PIECE)
        first_dun(way, offset + done, &low, &high)
        if not way.cipher.encrypt(way.cipher.state, low, high, data + done, bounce, piece):
            return False
        if not pwrite_all(way.fd, bounce, piece, offset + done + way.shift):
            return False
        done += piece
    return True


cdef void first_dun(const Way *way, uint64_t offset, uint64_t *low, uint64_t *high) noexcept nogil:
    low[0] = way.dun_low + offset // way.unit
    high[0] = way.dun_high + (low[0] < way.dun_low)


cdef bint pread_all(int fd, unsigned char *data, size_t size, int64_t offset) noexcept nogil:
    cdef ssize_t count
    while size:
        count = pread(fd, data, size, offset)
        if count <= 0:
            if count < 0 and errno == EINTR:
                continue
            return False
        data, size, offset = data + count, size - count, offset + count
    return True


cdef bint pwrite_all(int fd, const unsigned char *data, size_t size, int64_t offset) noexcept nogil:
    cdef ssize_t count
    while size:
        count = pwrite(fd, data, size, offset)
        if count <= 0:
            if count < 0 and errno == EINTR:
                continue
            return False
        data, size, offset = data + count, size - count, offset + count
    return True
