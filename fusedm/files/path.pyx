# cython: language_level=3, boundscheck=False, wraparound=False
"""Paths, which workers take without the GIL, and the gate that lets them.

A Path is a span of an open file made ready: descriptors and offsets, perhaps a cipher. Nothing is
decided here: paths.py finds them, and says which are open. A worker *enters* a path for a request,
does its I/O, and *leaves*; between the two the request is under way, whatever the daemon does.

The gate is open only while the daemon's own thread runs no Python, so between two awaits nothing
new begins: what was looked at when it opened (tables, keyslots, range locks) holds until it
closes. What is under way then goes on, and take_back tells the books of it.

Whoever enters or leaves holds the mutex for a moment, and so does the gate when it moves.
"""

import fcntl
import os

from libc.errno cimport EAGAIN, EINTR, EIO, ENOSYS, EOPNOTSUPP, errno
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.types cimport off_t
from posix.unistd cimport close, write

from fusedm.crypto.compiled cimport CompiledCipher, UnitCipher, decrypt_with_holes

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buffer, size_t count, off_t offset)
    ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset)
    int fdatasync(int fd)

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t preadv2(int fd, const iovec *pieces, int count, off_t offset, int flags)
    enum:
        RWF_NOWAIT

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef enum:
    #: Data are transformed in pieces that stay in the processor's cache between two steps.
    PIECE = 1 << 17
    #: Calls on one descriptor at a time that may wait; more are not for workers.
    MAX_CALLS = 16
    #: Nanoseconds a worker looks for an open gate before it sleeps.
    GATE_SPIN = 50000
    #: Nanoseconds a gate that opens for a moment stays open for those who wait at it.
    GATE_PATIENCE = 200000

#: What of a path the daemon waits for.
cdef enum:
    NOTHING
    ALL
    EACH

#: What paths count, in the order of Kind.
KINDS = ("read", "write", "flush")


cdef class Medium:
    """A descriptor that paths lead to, open as long as they do; blocks: it may keep threads waiting."""

    def __init__(self, int fd, bint blocks):
        self.data.fd, self.data.blocks = fd, blocks
        # Direct I/O waits for its medium, whatever it is asked.
        self.data.takes_nowait = blocks and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT


cdef class Path:
    """Where the blocks of a part of a file lie; opened at a gate, and taken back from it.

    Units: bytes; begin, end and origin as the file counts. legs are (medium, shift); with several
           the file is dealt out to them in chunks from origin on, and shift leads from the offsets of
           a file that had one chunk in so many to the medium's.
    """

    def __init__(self, uint64_t handle, int64_t begin, int64_t end, list legs, uint64_t block_size,
                 int64_t origin=0, int64_t chunk=INT64_MAX, bint is_flush=False):
        cdef int index
        cdef Medium medium
        self.data.handle, self.data.is_flush = handle, is_flush
        self.data.begin, self.data.end = begin, end
        self.data.block_mask = block_size - 1
        self.data.origin, self.data.chunk = origin, chunk
        self.data.until = INT64_MAX
        self.media = [medium for medium, _ in legs]
        self.data.legs = <Leg *>calloc(len(legs), sizeof(Leg))
        if self.data.legs == NULL:
            raise MemoryError
        self.data.leg_count = len(legs)
        for index, (medium, shift) in enumerate(legs):
            self.data.legs[index].medium = &medium.data
            self.data.legs[index].shift = shift
            self.data.blocks = self.data.blocks or medium.data.blocks

    def __dealloc__(self):
        free(self.data.legs)

    def numbers(self, object first, bint zeros_are_holes):
        """Say which number the data unit at offset 0 has, and whether units of zeros are holes."""
        self.data.number_low = first & 0xFFFFFFFFFFFFFFFF
        self.data.number_high = first >> 64 & 0xFFFFFFFFFFFFFFFF
        self.data.zeros_are_holes = zeros_are_holes

    def ready(self, CompiledCipher cipher, bint may_read, bint may_write, int64_t until=INT64_MAX,
              excluded=()):
        """Ready it for the gate: through this cipher, if any, for what, and until when.

        The ranges that are excluded are not written.
        """
        cdef int index
        self.cipher = cipher
        self.data.cipher = &cipher.units if cipher is not None else NULL
        self.data.may_read, self.data.may_write = may_read, may_write
        self.data.until = until
        if len(excluded) > MAX_EXCLUDED:
            self.data.may_write, excluded = False, ()
        for index, (begin, end) in enumerate(excluded):
            self.data.excluded[index][0], self.data.excluded[index][1] = begin, end
        self.data.excluded_count = len(excluded)


cdef class Gate:
    """Lets workers enter paths; bell is a descriptor that rings when the daemon has to look here."""

    def __cinit__(self):
        self.paths = []
        self.data.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        pthread_mutex_init(&self.data.mutex, NULL)
        pthread_cond_init(&self.data.opened, NULL)

    def __dealloc__(self):
        pthread_cond_destroy(&self.data.opened)
        pthread_mutex_destroy(&self.data.mutex)
        if self.data.bell >= 0:
            close(self.data.bell)

    @property
    def bell(self):
        """Readable when it has rung."""
        return self.data.bell

    @property
    def is_waited_at(self):
        """Whether a worker waits for the gate to open."""
        return bool(load(&self.data.waiting))

    def add(self, Path path):
        """Open a path to workers once the gate, closed now, opens; False if there is no room."""
        assert not self.data.is_open, "paths are added to a closed gate"
        if self.data.count == MAX_PATHS:
            return False
        self.data.paths[self.data.count] = &path.data
        self.data.count += 1
        self.paths.append(path)
        return True

    def serves(self, uint64_t handle, int kind, uint64_t offset, size_t size):
        """Whether a path that was added serves a request; None if none covers it."""
        cdef PathData *path = look_up(&self.data, handle, <Kind>kind, offset, size)
        if path == NULL:
            return None
        return bool(serves(path, <Kind>kind, offset, size))

    def open(self):
        """Let workers in; only when the daemon's own thread runs no Python until close."""
        if not self.data.is_open:
            with nogil:
                pthread_mutex_lock(&self.data.mutex)
                store(&self.data.is_open, True)
                pthread_cond_broadcast(&self.data.opened)
                pthread_mutex_unlock(&self.data.mutex)

    def close(self):
        """Let nobody in any more, after those who wait; whether it was open. No path is any longer."""
        cdef int64_t until
        cdef bint was_open = self.data.is_open
        if was_open:
            with nogil:
                until = monotonic_ns() + GATE_PATIENCE
                while load(&self.data.waiting) and monotonic_ns() < until:
                    sched_yield()
                pthread_mutex_lock(&self.data.mutex)
                store(&self.data.is_open, False)
                pthread_mutex_unlock(&self.data.mutex)
        self.data.count = 0
        self.paths.clear()
        return was_open

    def take_back(self, Path path):
        """What has been done on a path since the last time, and what is still under way.

        First count, bytes and nanoseconds of each kind, for all of it, and if it has several legs
        for each; then how many of each kind are under way, and the ranges of the writes among them.
        If any are, the bell rings when none is.
        """
        cdef PathData *data = &path.data
        cdef list tallies
        pthread_mutex_lock(&self.data.mutex)
        tallies = [taken(&data.tally)]
        if data.leg_count > 1:
            tallies += [taken(&data.legs[index].tally) for index in range(data.leg_count)]
        under_way = (data.under_way[READS], data.under_way[WRITES], data.under_way[FLUSHES])
        data.awaited = ALL if any(under_way) else NOTHING
        writes = [
            (self.data.writing[index].begin, self.data.writing[index].end)
            for index in range(MAX_WORKERS) if self.data.writing[index].path == data
        ]
        pthread_mutex_unlock(&self.data.mutex)
        return tallies, under_way, writes

    def ring_for_each(self, Path path):
        """Have the bell ring when anything comes back that is under way: somebody waits for it."""
        pthread_mutex_lock(&self.data.mutex)
        if any(path.data.under_way):
            path.data.awaited = EACH
        else:
            ring(&self.data)
        pthread_mutex_unlock(&self.data.mutex)

    def end(self):
        """Nobody is let in any more, and nobody waits."""
        pthread_mutex_lock(&self.data.mutex)
        self.data.has_ended = True
        pthread_cond_broadcast(&self.data.opened)
        pthread_mutex_unlock(&self.data.mutex)

    def silence(self):
        """Close the bell, which does not ring any more."""
        pthread_mutex_lock(&self.data.mutex)
        if self.data.bell >= 0:
            close(self.data.bell)
        self.data.bell = -1
        pthread_mutex_unlock(&self.data.mutex)

    def hush(self):
        """Have the bell ring again when there is something new."""
        try:
            os.eventfd_read(self.data.bell)
        except BlockingIOError:
            pass


cdef tuple taken(Tally *tally):
    """A tally as numbers; it begins anew."""
    cdef tuple numbers = tuple([
        (tally.count[kind], tally.bytes[kind], tally.time[kind]) for kind in range(KIND_COUNT)
    ])
    memset(tally, 0, sizeof(Tally))
    return numbers


# What workers do; none of it holds the GIL.


cdef PathData *enter(
    GateData *gate, int worker, uint64_t handle, Kind kind, uint64_t offset, size_t size
) noexcept nogil:
    """Enter the path that serves a request, when the gate is open; NULL if there is none."""
    cdef PathData *path
    cdef int64_t until
    if not load(&gate.is_open):
        until = monotonic_ns() + GATE_SPIN
        while not load(&gate.is_open) and monotonic_ns() < until:
            sched_yield()
    pthread_mutex_lock(&gate.mutex)
    store(&gate.waiting, gate.waiting + 1)
    while not gate.is_open and not gate.has_ended:
        pthread_cond_wait(&gate.opened, &gate.mutex)
    store(&gate.waiting, gate.waiting - 1)
    path = look_up(gate, handle, kind, offset, size) if gate.is_open else NULL
    if path != NULL and not serves(path, kind, offset, size):
        path = NULL
    if path != NULL:
        begin(path, kind)
        if kind == WRITES:
            gate.writing[worker].path = path
            gate.writing[worker].begin, gate.writing[worker].end = offset, offset + size
    pthread_mutex_unlock(&gate.mutex)
    return path


cdef void leave(
    GateData *gate, int worker, PathData *path, Kind kind, uint64_t offset, size_t size,
    int64_t took, bint counts,
) noexcept nogil:
    """A request that entered has been done, or (counts) goes on elsewhere as if it had not been."""
    cdef int index
    pthread_mutex_lock(&gate.mutex)
    path.under_way[kind] -= 1
    if kind == WRITES:
        gate.writing[worker].path = NULL
    for index in range(path.leg_count):
        path.legs[index].medium.calls -= 1
    if counts:
        count(&path.tally, kind, size, took)
        if path.leg_count > 1:
            count_legs(path, kind, offset, size, took)
    if path.awaited == EACH or (path.awaited == ALL and not (
        path.under_way[READS] or path.under_way[WRITES] or path.under_way[FLUSHES]
    )):
        path.awaited = NOTHING
        ring(gate)
    pthread_mutex_unlock(&gate.mutex)


cdef void ring(GateData *gate) noexcept nogil:
    """Have the daemon's own thread look here."""
    cdef uint64_t one = 1
    write(gate.bell, &one, sizeof(one))


cdef PathData *look_up(
    GateData *gate, uint64_t handle, Kind kind, uint64_t offset, size_t size
) noexcept nogil:
    """The path that covers a request; NULL if none does."""
    cdef int index = gate.count
    cdef PathData *path
    while index:
        index -= 1
        path = gate.paths[index]
        if path.handle != handle or path.is_flush != (kind == FLUSHES):
            continue
        if kind == FLUSHES or (
            size > 0 and not (offset | size) & path.block_mask
            and <int64_t>offset >= path.begin and <int64_t>(offset + size) <= path.end
        ):
            return path
    return NULL


cdef bint serves(
    const PathData *path, Kind kind, int64_t offset, int64_t size
) noexcept nogil:
    """Whether requests of this kind may go this way now."""
    cdef int index
    if (kind == READS and not path.may_read) or (kind == WRITES and not path.may_write):
        return False
    if path.until != INT64_MAX and monotonic_ns() >= path.until:
        return False
    if kind == WRITES:
        for index in range(path.excluded_count):
            if offset < path.excluded[index][1] and path.excluded[index][0] < offset + size:
                return False
    if path.blocks:
        for index in range(path.leg_count):
            if path.legs[index].medium.calls >= MAX_CALLS:
                return False
    return True


cdef void begin(PathData *path, Kind kind) noexcept nogil:
    cdef int index
    path.under_way[kind] += 1
    for index in range(path.leg_count):
        path.legs[index].medium.calls += 1


cdef void count(Tally *tally, Kind kind, size_t size, int64_t took) noexcept nogil:
    tally.count[kind] += 1
    tally.bytes[kind] += size
    tally.time[kind] += took


cdef void count_legs(
    PathData *path, Kind kind, int64_t offset, size_t size, int64_t took
) noexcept nogil:
    """Count a request once at each leg for each of its pieces there."""
    cdef int index
    cdef size_t piece
    cdef int64_t at
    if kind == FLUSHES:
        for index in range(path.leg_count):
            count(&path.legs[index].tally, kind, 0, took)
    while size:
        piece = place(path, offset, size, &index, &at)
        count(&path.legs[index].tally, kind, piece, took)
        offset, size = offset + piece, size - piece


cdef size_t place(
    const PathData *path, int64_t offset, size_t size, int *leg, int64_t *at
) noexcept nogil:
    """On which leg, and where, bytes of a file lie; how many of them lie there in one piece."""
    cdef int64_t chunk, within
    chunk = (offset - path.origin) // path.chunk
    within = (offset - path.origin) % path.chunk
    leg[0] = chunk % path.leg_count
    at[0] = path.legs[leg[0]].shift + chunk // path.leg_count * path.chunk + within
    return min(size, <size_t>(path.chunk - within))


cdef Moved read_from(
    const PathData *path, uint64_t offset, unsigned char *data, size_t size, size_t *done,
    bint may_wait,
) noexcept nogil:
    """Fill data from an offset of the file, from done on, which says how far it came.

    WOULD_BLOCK only without may_wait.
    """
    cdef size_t piece
    cdef Moved moved
    while done[0] < size:
        # PIECE is a multiple of every data unit size.
        piece = size - done[0]
        if path.cipher and piece > PIECE:
            piece = PIECE
        moved = read_piece(path, offset + done[0], data + done[0], piece, may_wait)
        if moved != DONE:
            return moved
        if path.cipher and not decrypt(path, offset + done[0], data + done[0], piece):
            return FAILED
        done[0] += piece
    return DONE


cdef Moved read_piece(
    const PathData *path, int64_t offset, unsigned char *data, size_t size, bint may_wait
) noexcept nogil:
    cdef size_t piece
    cdef int leg
    cdef int64_t at
    cdef MediumData *medium
    cdef Moved moved
    while size:
        piece = place(path, offset, size, &leg, &at)
        medium = path.legs[leg].medium
        moved = pread_all(medium, data, piece, at, may_wait or not medium.blocks)
        if moved != DONE:
            return moved
        data, offset, size = data + piece, offset + piece, size - piece
    return DONE


cdef Moved write_to(
    const PathData *path, uint64_t offset, const unsigned char *data, size_t size,
    unsigned char *bounce,
) noexcept nogil:
    """Write data at an offset of the file. Data are left alone; bounce has room for as many."""
    cdef size_t done = 0, piece
    if not path.cipher:
        return write_piece(path, offset, data, size)
    while done < size:
        piece = min(size - done, <size_t>PIECE)
        if not encrypt(path, offset + done, data + done, bounce, piece):
            return FAILED
        if write_piece(path, offset + done, bounce, piece) != DONE:
            return FAILED
        done += piece
    return DONE


cdef Moved write_piece(
    const PathData *path, int64_t offset, const unsigned char *data, size_t size
) noexcept nogil:
    cdef size_t piece
    cdef int leg
    cdef int64_t at
    while size:
        piece = place(path, offset, size, &leg, &at)
        if not pwrite_all(path.legs[leg].medium.fd, data, piece, at):
            return FAILED
        data, offset, size = data + piece, offset + piece, size - piece
    return DONE


cdef int flush(const PathData *path) noexcept nogil:
    """Flush every leg; 0, or the errno of the first that failed. No error is told twice."""
    cdef int index, error = 0
    for index in range(path.leg_count):
        while fdatasync(path.legs[index].medium.fd):
            if errno != EINTR:
                error = error or errno
                break
    return error


cdef bint encrypt(
    const PathData *path, int64_t offset, const unsigned char *data, unsigned char *target,
    size_t size,
) noexcept nogil:
    cdef uint64_t low = 0, high = 0
    first_number(path, offset, &low, &high)
    return path.cipher.encrypt(path.cipher.state, low, high, data, target, size)


cdef bint decrypt(
    const PathData *path, int64_t offset, unsigned char *data, size_t size
) noexcept nogil:
    """Decrypt data in place, all but holes if the path has any."""
    cdef uint64_t low = 0, high = 0
    first_number(path, offset, &low, &high)
    if path.zeros_are_holes:
        return decrypt_with_holes(path.cipher, low, high, data, data, size)
    return path.cipher.decrypt(path.cipher.state, low, high, data, data, size)


cdef void first_number(
    const PathData *path, int64_t offset, uint64_t *low, uint64_t *high
) noexcept nogil:
    low[0] = path.number_low + offset // path.cipher.stride
    high[0] = path.number_high + (low[0] < path.number_low)


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef Moved pread_all(
    MediumData *medium, unsigned char *data, size_t size, int64_t offset, bint may_wait
) noexcept nogil:
    cdef ssize_t got
    cdef iovec piece
    if not may_wait and not load(&medium.takes_nowait):
        return WOULD_BLOCK
    while size:
        if may_wait:
            got = pread(medium.fd, data, size, offset)
        else:
            piece.iov_base, piece.iov_len = data, size
            got = preadv2(medium.fd, &piece, 1, offset, RWF_NOWAIT)
        if got <= 0:
            if got == 0:
                return FAILED
            if errno == EINTR:
                continue
            if may_wait:
                return FAILED
            if errno == EOPNOTSUPP or errno == ENOSYS:
                store(&medium.takes_nowait, False)
            return WOULD_BLOCK
        data, size, offset = data + got, size - got, offset + got
    return DONE


cdef bint pwrite_all(int fd, const unsigned char *data, size_t size, int64_t offset) noexcept nogil:
    cdef ssize_t got
    while size:
        got = pwrite(fd, data, size, offset)
        if got <= 0:
            if got < 0 and errno == EINTR:
                continue
            return False
        data, size, offset = data + got, size - got, offset + got
    return True
