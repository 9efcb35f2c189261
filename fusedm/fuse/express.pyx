# cython: language_level=3, boundscheck=False, wraparound=False
"""The innermost loop of the lane, compiled: take a request, and answer it if that is plain I/O.

Nothing is decided here. A READ or WRITE of whole blocks whose handle, range and kind have a Path
goes to the Path's descriptor, through its cipher if it has one; every other request, and every one
at which anything fails, is handed out to the lane as it came, to be done from the beginning. Paths
are the work of routes.py; they hold for one batch, which is one synchronous step of the daemon.

Memory: one buffer for requests and one for replies. Data begin at a page in both, right behind
their headers, so a request is taken and a reply is sent as one piece, and the medium may be one
that asks for aligned buffers.
"""

from libc.errno cimport EAGAIN, EINTR, ENODEV, ENOENT, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from posix.stdlib cimport posix_memalign
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.types cimport off_t
from posix.unistd cimport read, write

import os

from fusedm.crypto.evp cimport Context, EvpCipher, decrypt_units, transform_units

cdef extern from "fcntl.h" nogil:
    enum:
        O_DSYNC

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buffer, size_t count, off_t offset)
    ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset)

cdef enum:
    PAGE = 4096
    #: Above this, work is done without the GIL: others may have it for as long as a copy takes.
    LARGE = 1 << 16
    #: Data are transformed in pieces that stay in the processor's cache between two steps.
    PIECE = 1 << 17
    READ = 15
    WRITE = 16

#: Headers of a request: fuse_in_header, then fuse_read_in or fuse_write_in (alike as far as used).
cdef packed struct IoRequest:
    uint32_t length
    uint32_t opcode
    uint64_t unique
    uint64_t node
    uint32_t uid, gid, pid
    uint32_t extensions
    uint64_t handle
    uint64_t offset
    uint32_t size
    uint32_t flags
    uint64_t lock_owner
    uint32_t open_flags
    uint32_t padding

#: fuse_out_header, and fuse_write_out behind it.
cdef packed struct Reply:
    uint32_t length
    int32_t error
    uint64_t unique

cdef packed struct WrittenReply:
    Reply header
    uint32_t size
    uint32_t padding

#: What next() returns if no request is handed out.
NOTHING_CAME = 0
TURN_OVER = -1


cdef class Path:
    """Where the blocks of a stretch of a file lie, and what was done there in this batch.

    Units: bytes; begin, end and block_size as the file counts, shift to the descriptor's offsets.
    """

    cdef readonly int64_t begin, end
    cdef int64_t shift
    cdef int fd
    cdef uint64_t block_mask
    cdef uint64_t dun_low, dun_high
    cdef size_t data_unit_size
    #: Set for each batch by who finds the path.
    cdef public EvpCipher cipher
    cdef public bint may_write
    #: Counts and nanoseconds of reads and writes.
    cdef readonly int64_t reads, read_bytes, read_time, writes, write_bytes, write_time

    def __init__(self, int64_t begin, int64_t end, int fd, int64_t shift,
                 uint64_t block_size, object dun_base, size_t data_unit_size):
        self.begin, self.end, self.fd, self.shift = begin, end, fd, shift
        self.block_mask = block_size - 1
        self.dun_low, self.dun_high = dun_base & 0xFFFFFFFFFFFFFFFF, dun_base >> 64
        self.data_unit_size = data_unit_size

    def clear(self):
        """Begin to count anew."""
        self.reads = self.read_bytes = self.read_time = 0
        self.writes = self.write_bytes = self.write_time = 0

    cdef bint covers(self, uint64_t offset, uint32_t size) noexcept nogil:
        """Whether these are whole blocks of this stretch."""
        return (
            size and not (offset | size) & self.block_mask
            and <int64_t>offset >= self.begin and offset + size <= <uint64_t>self.end
        )

    cdef void set_dun(self, uint64_t offset, uint64_t *low, uint64_t *high) noexcept nogil:
        low[0] = self.dun_low + offset // self.data_unit_size
        high[0] = self.dun_high + (low[0] < self.dun_low)

    cdef bint read_into(
        self, uint64_t offset, unsigned char *data, size_t size, Context context
    ) noexcept nogil:
        """Fill data from an offset of the file; False if anything fails."""
        cdef size_t done = 0, piece
        cdef uint64_t low = 0, high = 0
        while done < size:
            # Whole data units at a time: PIECE is a multiple of each.
            piece = size - done if context is None else min(size - done, <size_t>PIECE)
            if not pread_all(self.fd, data + done, piece, offset + done + self.shift):
                return False
            if context is not None:
                self.set_dun(offset + done, &low, &high)
                if not decrypt_units(
                    context, low, high, data + done, data + done, piece, self.data_unit_size
                ):
                    return False
            done += piece
        return True

    cdef bint write_from(
        self, uint64_t offset, const unsigned char *data, size_t size,
        unsigned char *bounce, Context context,
    ) noexcept nogil:
        """Write data at an offset of the file; False if anything fails. Data are left alone."""
        cdef size_t done = 0, piece
        cdef uint64_t low = 0, high = 0
        if context is None:
            return pwrite_all(self.fd, data, size, offset + self.shift)
        while done < size:
            piece = min(size - done, <size_t>PIECE)
            self.set_dun(offset + done, &low, &high)
            if not transform_units(
                context, low, high, data + done, bounce, piece, self.data_unit_size
            ):
                return False
            if not pwrite_all(self.fd, bounce, piece, offset + done + self.shift):
                return False
            done += piece
        return True


cdef class Express:
    """Takes requests from a descriptor of /dev/fuse.

    find(handle, offset, size) is asked for a Path at the first use of each in a batch, end_batch()
    is called when one ends, and reply_failed(errno, length) if the kernel refuses a reply.
    """

    cdef int device
    cdef size_t request_size, reply_size
    cdef unsigned char *request_base
    cdef unsigned char *request
    cdef unsigned char *reply_base
    cdef object find, end_batch, reply_failed
    cdef dict paths
    cdef object view

    def __cinit__(self, int device, size_t data_size, object find, object end_batch,
                  object reply_failed):
        self.device = device
        self.request_size = sizeof(IoRequest) + data_size
        self.reply_size = data_size
        self.find, self.end_batch, self.reply_failed = find, end_batch, reply_failed
        self.paths = {}
        if posix_memalign(<void **>&self.request_base, PAGE, PAGE + data_size) or posix_memalign(
            <void **>&self.reply_base, PAGE, PAGE + data_size
        ):
            raise MemoryError
        self.request = self.request_base + PAGE - sizeof(IoRequest)
        self.view = memoryview(<unsigned char[:self.request_size]>self.request)

    def __dealloc__(self):
        free(self.request_base)
        free(self.reply_base)

    @property
    def requests(self):
        """The buffer that requests are handed out in; it is used again at the next call."""
        return self.view

    def next(self, double spin_seconds, double turn_seconds):
        """The length of the next request that is not answered here; waits only by looking again.

        Returns TURN_OVER after turn_seconds in which some were answered and more may follow at once,
        NOTHING_CAME if none came for spin_seconds, or none at all.
        Raises: OSError; ENODEV when there is no mount any more.
        """
        cdef int64_t now = monotonic_ns()
        cdef int64_t turn_end = now + <int64_t>(turn_seconds * 1e9)
        cdef int64_t spin = <int64_t>(spin_seconds * 1e9)
        cdef ssize_t length
        cdef int error
        cdef bint some = False
        try:
            while True:
                length = 0
                with nogil:
                    error = self.receive(min(now + spin, turn_end), &length)
                if error == EAGAIN:
                    return TURN_OVER if some and now + spin > turn_end else NOTHING_CAME
                if error:
                    raise OSError(error, os.strerror(error))
                if not self.answer(length):
                    return length
                some = True
                now = monotonic_ns()
                if now >= turn_end:
                    return TURN_OVER
        finally:
            if self.paths:
                self.paths.clear()
                self.end_batch()

    cdef int receive(self, int64_t until, ssize_t *length) noexcept nogil:
        """Take a request, looking for one until then; 0 or an errno."""
        while True:
            length[0] = read(self.device, self.request, self.request_size)
            if length[0] > 0:
                return 0
            if length[0] == 0:
                return ENODEV
            # ENOENT: the request was taken back before we had it.
            if errno != EAGAIN and errno != EINTR and errno != ENOENT:
                return errno
            if errno == EAGAIN and monotonic_ns() >= until:
                return EAGAIN

    cdef bint answer(self, ssize_t length) except -1:
        """Answer a request; False if it is not for here, or something failed."""
        cdef IoRequest *request = <IoRequest *>self.request
        cdef int64_t began
        cdef Path path
        cdef object handle
        if length < <ssize_t>sizeof(IoRequest) or request.length != length:
            return False
        if request.opcode != READ and request.opcode != WRITE:
            return False
        if request.size > self.reply_size or request.offset >> 62:
            return False
        handle = request.handle
        path = self.paths.get(handle)
        if path is None or not path.covers(request.offset, request.size):
            path = self.find(handle, request.offset, request.size)
            if path is None or not path.covers(request.offset, request.size):
                return False
            self.paths[handle] = path
        began = monotonic_ns()
        if request.opcode == READ:
            if not self.read(request, path):
                return False
            path.reads += 1
            path.read_bytes += request.size
            path.read_time += monotonic_ns() - began
            return True
        if length != <ssize_t>(sizeof(IoRequest) + request.size) or not path.may_write:
            return False
        if request.open_flags & O_DSYNC or not self.write(request, path):
            return False
        path.writes += 1
        path.write_bytes += request.size
        path.write_time += monotonic_ns() - began
        return True

    cdef bint read(self, IoRequest *request, Path path) except -1:
        cdef unsigned char *data = self.reply_base + PAGE
        cdef Reply *reply = <Reply *>(data - sizeof(Reply))
        cdef Context context = None if path.cipher is None else path.cipher.take(False)
        cdef bint done
        if request.size >= LARGE:
            with nogil:
                done = path.read_into(request.offset, data, request.size, context)
        else:
            done = path.read_into(request.offset, data, request.size, context)
        if context is not None and done:
            path.cipher.give_back(context, False)
        if not done:
            return False
        reply.length, reply.error, reply.unique = sizeof(Reply) + request.size, 0, request.unique
        self.send(reply)
        return True

    cdef bint write(self, IoRequest *request, Path path) except -1:
        cdef WrittenReply reply
        cdef Context context = None if path.cipher is None else path.cipher.take(True)
        cdef unsigned char *data = self.request_base + PAGE
        cdef unsigned char *bounce = self.reply_base + PAGE
        cdef bint done
        if request.size >= LARGE:
            with nogil:
                done = path.write_from(request.offset, data, request.size, bounce, context)
        else:
            done = path.write_from(request.offset, data, request.size, bounce, context)
        if context is not None and done:
            path.cipher.give_back(context, True)
        if not done:
            return False
        reply.header.length, reply.header.error = sizeof(WrittenReply), 0
        reply.header.unique = request.unique
        reply.size, reply.padding = request.size, 0
        self.send(&reply.header)
        return True

    cdef int send(self, Reply *reply) except -1:
        cdef ssize_t sent
        cdef int error = 0
        with nogil:
            sent = write(self.device, reply, reply.length)
            if sent < 0:
                error = errno
        # ENOENT: nobody waits for it any more. ENODEV: unmounted.
        if error and error != ENOENT and error != ENODEV:
            self.reply_failed(error, reply.length)
        return 0


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


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
