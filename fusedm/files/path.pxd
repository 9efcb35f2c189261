"""What other compiled modules may use of path.pyx."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from fusedm.crypto.compiled cimport CompiledCipher, UnitCipher

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_destroy(pthread_cond_t *)
    int pthread_cond_signal(pthread_cond_t *)
    int pthread_cond_broadcast(pthread_cond_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)

cdef extern from * nogil:
    """
    #ifndef FUSEDM_ATOMICS
    #define FUSEDM_ATOMICS
    static inline int load(const int *shared) { return __atomic_load_n(shared, __ATOMIC_ACQUIRE); }
    static inline void store(int *shared, int value)
    {
        __atomic_store_n(shared, value, __ATOMIC_RELEASE);
    }
    #endif
    """
    int load(const int *shared)
    void store(int *shared, int value)

cdef enum:
    PAGE = 4096
    #: Paths that are open to workers at a time.
    MAX_PATHS = 64
    #: Ranges of a path that may be excluded from writing; with more all is.
    MAX_EXCLUDED = 8
    #: Workers of a gate: 16 calls on each of two media that hang, and some; beyond that it is done by
    #: threads in Python.
    MAX_WORKERS = 40

ctypedef int Kind
cdef enum:
    READS
    WRITES
    FLUSHES
    KIND_COUNT

cdef enum Moved:
    DONE
    WOULD_BLOCK
    FAILED

#: What was done; times in nanoseconds.
cdef struct Tally:
    int64_t count[KIND_COUNT]
    int64_t bytes[KIND_COUNT]
    int64_t time[KIND_COUNT]

#: One connection to an NBD server; no request is on it, or one.
cdef enum LineState:
    NO_LINE
    FREE
    TAKEN
    #: Taken while all were dropped: who has it closes it.
    DROPPED

cdef struct Line:
    int fd
    LineState state
    uint64_t cookie

#: A write that a server has acknowledged; its data follow.
cdef struct Acknowledged:
    Acknowledged *next
    int64_t offset
    size_t size

cdef enum:
    #: Connections that workers use beside the daemon's own: with more, more go on there.
    MAX_LINES = 8

#: The connections to one export. count says how many are free or taken.
cdef struct LinesData:
    pthread_mutex_t mutex
    int count
    Line line[MAX_LINES]
    int64_t timeout
    size_t most
    bint keeps
    Acknowledged *first
    Acknowledged *last
    size_t kept

#: A descriptor that paths lead to, or lines instead of one. slow is how many calls to come are expected to take long.
cdef struct MediumData:
    int fd
    LinesData *lines
    bint blocks
    int takes_nowait
    int calls
    int slow

#: One of the places a path leads to; shift leads to the descriptor's offsets.
cdef struct Leg:
    MediumData *medium
    int64_t shift
    Tally tally

#: What workers see of a Path. Bytes of the file, but for chunk and shift, which the legs share.
cdef struct PathData:
    uint64_t handle
    bint is_flush
    int64_t begin, end
    uint64_t block_mask
    int64_t origin, chunk
    int leg_count
    Leg *legs
    #: Whether any leg may keep a thread waiting.
    bint blocks
    bint may_read, may_write
    #: CLOCK_MONOTONIC in nanoseconds, until when it may be used.
    int64_t until
    const UnitCipher *cipher
    uint64_t number_low, number_high
    bint zeros_are_holes
    Tally tally
    int under_way[KIND_COUNT]
    #: What the writes that are under way cover, roughly.
    #: What may not be written just now.
    int excluded_count
    int64_t excluded[MAX_EXCLUDED][2]
    #: Whether the daemon wants to know when something comes back, or when all has.
    int awaited

#: What a worker writes; path is NULL if nothing.
cdef struct Writing:
    PathData *path
    int64_t begin, end

#: The paths that are open to workers.
cdef struct GateData:
    pthread_mutex_t mutex
    pthread_cond_t opened
    int is_open
    int waiting
    int has_ended
    int count
    PathData *paths[MAX_PATHS]
    Writing writing[MAX_WORKERS]
    int bell


cdef class Lines:
    cdef LinesData data


cdef class Medium:
    cdef MediumData data
    cdef Lines lines


cdef class Path:
    cdef PathData data
    cdef list media
    cdef CompiledCipher cipher


cdef class Gate:
    cdef GateData data
    cdef list paths


cdef int64_t monotonic_ns() noexcept nogil
cdef PathData *enter(
    GateData *gate, int worker, uint64_t handle, Kind kind, uint64_t offset, size_t size
) noexcept nogil
cdef void leave(
    GateData *gate, int worker, PathData *path, Kind kind, uint64_t offset, size_t size, int64_t took,
    bint counts,
) noexcept nogil
cdef void ring(GateData *gate) noexcept nogil
cdef Moved read_from(
    const PathData *path, uint64_t offset, unsigned char *data, size_t size, size_t *done, bint may_wait
) noexcept nogil
cdef Moved write_to(
    const PathData *path, uint64_t offset, const unsigned char *data, size_t size, unsigned char *bounce
) noexcept nogil
cdef int flush(const PathData *path) noexcept nogil
cdef bint is_slow(const PathData *path) noexcept nogil
cdef void remember(const PathData *path, size_t size, int64_t took) noexcept nogil
