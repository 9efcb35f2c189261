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
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
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

cdef extern from "sys/time.h" nogil:
    struct timeval:
        long tv_sec
        long tv_usec

cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    int setsockopt(int fd, int level, int option, const void *value, unsigned int length)
    int shutdown(int fd, int how)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t recvmsg(int fd, msghdr *message, int flags)
    enum:
        SOL_SOCKET
        SO_RCVTIMEO
        SO_SNDTIMEO
        SHUT_RDWR
        MSG_NOSIGNAL

cdef extern from "endian.h" nogil:
    unsigned short htobe16(unsigned short)
    unsigned int htobe32(unsigned int)
    uint64_t htobe64(uint64_t)

cdef extern from * nogil:
    """
    #include <stdint.h>
    /* As they go over the wire, in network byte order. */
    struct __attribute__((packed)) line_request {
        uint32_t magic; uint16_t flags, command; uint64_t cookie, offset; uint32_t length;
    };
    struct __attribute__((packed)) line_reply { uint32_t magic, error; uint64_t cookie; };
    """
    struct line_request:
        unsigned int magic
        unsigned short flags
        unsigned short command
        uint64_t cookie
        uint64_t offset
        unsigned int length
    struct line_reply:
        unsigned int magic
        unsigned int error
        uint64_t cookie

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef enum:
    #: Data are transformed in pieces that stay in the processor's cache between two steps.
    PIECE = 1 << 17
    #: Calls on one descriptor at a time that may wait; more are not for workers.
    MAX_CALLS = 16
    #: Bytes of acknowledged writes that are kept until they are taken; with more the daemon comes by.
    MAX_KEPT = 16 << 20
    #: Words of the NBD protocol.
    REQUEST_MAGIC = 0x25609513
    SIMPLE_REPLY_MAGIC = 0x67446698
    LINE_READ = 0
    LINE_WRITE = 1
    #: Nanoseconds after which a call has taken long, and a byte more.
    SLOW = 100000
    SLOW_BYTE = 1
    #: How many calls on a medium are expected to take long after one that has.
    SLOW_CALLS = 16
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


cdef class Lines:
    """Connections to an NBD server on which a worker sends a request and waits for its reply.

    What goes wrong on one ends it, and its request is done otherwise, as if it had not been here.
    timeout is in seconds, most in bytes of data; keeps: acknowledged writes are kept until taken.
    Owns: the descriptors that are added. Lives: as long as the store that has it made.
    """

    def __cinit__(self, double timeout, size_t most, bint keeps):
        cdef int index
        pthread_mutex_init(&self.data.mutex, NULL)
        for index in range(MAX_LINES):
            self.data.line[index].fd = -1
        self.data.timeout = <int64_t>(timeout * 1e9)
        self.data.most, self.data.keeps = most, keeps

    def __dealloc__(self):
        self.drop()
        self.taken()
        pthread_mutex_destroy(&self.data.mutex)

    @property
    def missing(self):
        """How many more there may be."""
        return MAX_LINES - load(&self.data.count)

    def add(self, int fd):
        """Use a connection that is in transmission, with simple replies."""
        cdef int index
        cdef bint is_used = False
        cdef timeval time
        time.tv_sec = self.data.timeout // 1000000000
        time.tv_usec = self.data.timeout % 1000000000 // 1000
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time))
        pthread_mutex_lock(&self.data.mutex)
        for index in range(MAX_LINES):
            if self.data.line[index].state == NO_LINE:
                self.data.line[index].fd, self.data.line[index].state = fd, FREE
                store(&self.data.count, self.data.count + 1)
                is_used = True
                break
        pthread_mutex_unlock(&self.data.mutex)
        if not is_used:
            close(fd)

    def drop(self):
        """End all connections; nothing that comes on them from now on counts."""
        cdef int index
        cdef Line *line
        pthread_mutex_lock(&self.data.mutex)
        for index in range(MAX_LINES):
            line = &self.data.line[index]
            if line.state == FREE:
                forget(line)
            elif line.state == TAKEN:
                shutdown(line.fd, SHUT_RDWR)
                line.state = DROPPED
        store(&self.data.count, 0)
        pthread_mutex_unlock(&self.data.mutex)

    def read_into(self, int64_t offset, unsigned char[::1] buffer):
        """Fill a buffer as workers do; False if that must be done otherwise."""
        cdef bint is_done
        with nogil:
            is_done = read_on_line(&self.data, &buffer[0], buffer.shape[0], offset)
        return is_done

    def write(self, int64_t offset, const unsigned char[::1] data):
        """Write as workers do; False if that must be done otherwise."""
        cdef bint is_done
        with nogil:
            is_done = write_on_line(&self.data, &data[0], data.shape[0], offset)
        return is_done

    def taken(self):
        """The writes that were acknowledged since the last time, in order: (offset, data)."""
        cdef list writes = []
        cdef Acknowledged *each
        cdef Acknowledged *after
        pthread_mutex_lock(&self.data.mutex)
        each, self.data.first, self.data.last, self.data.kept = self.data.first, NULL, NULL, 0
        pthread_mutex_unlock(&self.data.mutex)
        while each != NULL:
            after = each.next
            writes.append((each.offset, PyBytes_FromStringAndSize(<char *>(each + 1), each.size)))
            free(each)
            each = after
        return writes


cdef class Medium:
    """A descriptor that paths lead to, open as long as they do; blocks: it may keep threads waiting.

    With lines those are used, and the descriptor is none.
    """

    def __init__(self, int fd, bint blocks, Lines lines=None):
        self.data.fd, self.data.blocks = fd, blocks
        if lines is not None:
            self.lines, self.data.lines = lines, &lines.data
            return
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
            if path.legs[index].medium.calls >= most_calls(path.legs[index].medium):
                return False
    return True


cdef int most_calls(const MediumData *medium) noexcept nogil:
    return MAX_CALLS if medium.lines == NULL else load(&medium.lines.count)


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
        if path.legs[leg].medium.lines != NULL:
            if not write_on_line(path.legs[leg].medium.lines, data, piece, at):
                return FAILED
        elif not pwrite_all(path.legs[leg].medium.fd, data, piece, at):
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


cdef bint is_slow(const PathData *path) noexcept nogil:
    """Whether a call on some leg is expected to take long."""
    cdef int index
    for index in range(path.leg_count):
        if path.legs[index].medium.slow > 0:
            return True
    return False


cdef void remember(const PathData *path, size_t size, int64_t took) noexcept nogil:
    """Expect of the calls to come what this one was."""
    cdef int index
    cdef MediumData *medium
    for index in range(path.leg_count):
        medium = path.legs[index].medium
        if took > SLOW + <int64_t>size * SLOW_BYTE:
            store(&medium.slow, SLOW_CALLS)
        elif medium.slow > 0:
            store(&medium.slow, medium.slow - 1)


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
    if medium.lines != NULL:
        return DONE if read_on_line(medium.lines, data, size, offset) else FAILED
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


# Lines.


cdef bint read_on_line(
    LinesData *lines, unsigned char *data, size_t size, int64_t offset
) noexcept nogil:
    """Read over a connection; False if that must be done otherwise."""
    cdef Line *line = take_line(lines, size)
    cdef bint is_well = False, is_done = False
    if line == NULL:
        return False
    is_well = exchange_on(lines, line, LINE_READ, offset, size, NULL, data, &is_done)
    return give_line(lines, line, is_well, NULL) and is_done


cdef bint write_on_line(
    LinesData *lines, const unsigned char *data, size_t size, int64_t offset
) noexcept nogil:
    """Write over a connection, and keep what was acknowledged; False if it must be done otherwise."""
    cdef Line *line
    cdef Acknowledged *kept = NULL
    cdef bint is_well = False, is_done = False
    if lines.keeps:
        kept = <Acknowledged *>malloc(sizeof(Acknowledged) + size)
        if kept == NULL:
            return False
        kept.next, kept.offset, kept.size = NULL, offset, size
        memcpy(kept + 1, data, size)
    line = take_line(lines, size) if not full(lines) else NULL
    if line == NULL:
        free(kept)
        return False
    is_well = exchange_on(lines, line, LINE_WRITE, offset, size, data, NULL, &is_done)
    if not is_done:
        free(kept)
        kept = NULL
    # What was dropped meanwhile has been done for somebody who is not there any more.
    return give_line(lines, line, is_well, kept) and is_done


cdef bint full(LinesData *lines) noexcept nogil:
    cdef bint is_full
    pthread_mutex_lock(&lines.mutex)
    is_full = lines.kept > MAX_KEPT
    pthread_mutex_unlock(&lines.mutex)
    return is_full


cdef Line *take_line(LinesData *lines, size_t size) noexcept nogil:
    """A connection that is free; NULL if there is none for so many bytes."""
    cdef Line *found = NULL
    cdef int index
    if size > lines.most:
        return NULL
    pthread_mutex_lock(&lines.mutex)
    for index in range(MAX_LINES):
        if lines.line[index].state == FREE:
            found = &lines.line[index]
            found.state = TAKEN
            found.cookie += 1
            break
    pthread_mutex_unlock(&lines.mutex)
    return found


cdef bint give_line(
    LinesData *lines, Line *line, bint is_well, Acknowledged *kept
) noexcept nogil:
    """Give a connection back, to be closed unless it is well; whether what came on it counts."""
    cdef bint counts
    pthread_mutex_lock(&lines.mutex)
    counts = line.state == TAKEN
    if not counts:
        forget(line)
    elif not is_well:
        forget(line)
        store(&lines.count, lines.count - 1)
    else:
        line.state = FREE
    if kept != NULL and counts:
        if lines.last != NULL:
            lines.last.next = kept
        else:
            lines.first = kept
        lines.last = kept
        lines.kept += kept.size
        kept = NULL
    pthread_mutex_unlock(&lines.mutex)
    free(kept)
    return counts


cdef void forget(Line *line) noexcept nogil:
    close(line.fd)
    line.fd, line.state = -1, NO_LINE


cdef bint exchange_on(
    LinesData *lines, Line *line, int command, int64_t offset, size_t size,
    const unsigned char *sent, unsigned char *received, bint *is_done,
) noexcept nogil:
    """Send a request and receive its reply; whether the connection is well, and the request done."""
    cdef line_request request
    cdef line_reply reply
    cdef iovec pieces[2]
    cdef msghdr message
    cdef int64_t until = monotonic_ns() + lines.timeout
    cdef size_t missing
    request.magic, request.flags = htobe32(REQUEST_MAGIC), 0
    request.command = htobe16(command)
    request.cookie, request.offset = htobe64(line.cookie), htobe64(offset)
    request.length = htobe32(size)
    pieces[0].iov_base, pieces[0].iov_len = &request, sizeof(request)
    pieces[1].iov_base, pieces[1].iov_len = <void *>sent, size if sent != NULL else 0
    memset(&message, 0, sizeof(message))
    message.msg_iov, message.msg_iovlen = pieces, 2
    missing = pieces[0].iov_len + pieces[1].iov_len
    while missing:
        if not moved_on(pieces, sendmsg(line.fd, &message, MSG_NOSIGNAL), &missing, until):
            return False
    # The data come behind the header of a reply that is no error, and behind that nothing comes.
    pieces[0].iov_base, pieces[0].iov_len = &reply, sizeof(reply)
    pieces[1].iov_base, pieces[1].iov_len = received, size if received != NULL else 0
    missing = pieces[0].iov_len + pieces[1].iov_len
    while missing:
        if not moved_on(pieces, recvmsg(line.fd, &message, 0), &missing, until):
            return False
        if pieces[0].iov_len == 0 and (
            reply.magic != htobe32(SIMPLE_REPLY_MAGIC) or reply.cookie != request.cookie
        ):
            return False
        if pieces[0].iov_len == 0 and reply.error:
            return received == NULL or pieces[1].iov_len == size
    is_done[0] = True
    return True


cdef bint moved_on(iovec *pieces, ssize_t moved, size_t *missing, int64_t until) noexcept nogil:
    """Take off two pieces what was sent or received; False at an end, an error or too late."""
    cdef size_t count = <size_t>moved, first
    if moved < 0 and errno == EINTR:
        return monotonic_ns() < until
    if moved <= 0:
        return False
    first = min(count, pieces[0].iov_len)
    pieces[0].iov_base, pieces[0].iov_len = (
        <unsigned char *>pieces[0].iov_base + first, pieces[0].iov_len - first
    )
    pieces[1].iov_base, pieces[1].iov_len = (
        <unsigned char *>pieces[1].iov_base + (count - first), pieces[1].iov_len - (count - first)
    )
    missing[0] -= count
    return missing[0] == 0 or monotonic_ns() < until
