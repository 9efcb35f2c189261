# cython: language_level=3, boundscheck=False, wraparound=False
"""The innermost loop of the lane, compiled: take a request, and answer it if that is plain I/O.

Nothing is decided here. A READ or WRITE of whole blocks whose handle, range and kind have a Path
goes to the Path's descriptor, through its cipher if it has one; every other request, and every one
at which anything fails, is handed out to the lane as it came, to be done from the beginning. Paths
are the work of files/routes.py; they hold for one batch, which is one synchronous step of the
daemon.

Two workers: the caller of next(), and a helper thread that the caller wakes while requests come
without a pause. Each takes requests from the kernel and answers them by itself, with buffers of its
own, so they share nothing but the list of paths, to which only the caller adds, and ciphers. The
helper works within a batch only: next() does not return before it has come to rest. So whatever
else the daemon does, it does alone.

    helper is    RESTING    waits to be woken; only the caller changes this, to WORKING
                 WORKING    takes requests until told to rest, or until none comes
                 STUCK      has a request that is not for here; the caller sees to it

Memory: each worker has a buffer for requests and one for replies. Data begin at a page in both,
right behind their headers, so a request is taken and a reply is sent as one piece, and the medium
may be one that asks for aligned buffers.
"""

import os
from threading import Thread

from libc.errno cimport EAGAIN, EINTR, EIO, ENODEV, ENOENT, errno
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from posix.stdlib cimport posix_memalign
from posix.unistd cimport read, write

from fusedm.files.path cimport WORKERS, Path, Tally, Way, monotonic_ns, read_from, write_to

cdef extern from "fcntl.h" nogil:
    enum:
        O_DSYNC

cdef extern from "sched.h" nogil:
    int sched_yield()

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
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)

cdef extern from * nogil:
    """
    static inline int load(const int *shared) { return __atomic_load_n(shared, __ATOMIC_ACQUIRE); }
    static inline void store(int *shared, int value)
    {
        __atomic_store_n(shared, value, __ATOMIC_RELEASE);
    }
    """
    int load(const int *shared)
    void store(int *shared, int value)

cdef enum:
    PAGE = 4096
    #: Paths of one batch; a batch that needs more ends.
    MAX_PATHS = 64
    #: The helper is woken after so many small requests, or one of so many bytes, without a pause.
    BUSY_REQUESTS = 6
    BUSY_SIZE = 1 << 17
    #: Nanoseconds the helper looks out for more work before it sleeps: as long as being woken takes.
    HELPER_SPIN = 50000
    #: How often a reply is sent before the request is ended with an error instead.
    REPLY_TRIES = 3
    CALLER = 0
    HELPER = 1
    READ = 15
    WRITE = 16

cdef enum Rest:
    RESTING
    WORKING
    STUCK

cdef enum Outcome:
    ANSWERED
    HANDED_OUT
    NOTHING
    OVER
    HELPER_STUCK
    FAILED

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

#: fuse_out_header.
cdef packed struct Reply:
    uint32_t length
    int32_t error
    uint64_t unique

#: A reply to a WRITE: fuse_write_out behind the header.
cdef packed struct WrittenReply:
    Reply header
    uint32_t size
    uint32_t padding

#: One of the two; request is where a request lies, length how long it is.
cdef struct Worker:
    unsigned char *request_base
    unsigned char *request
    unsigned char *reply_base
    ssize_t length
    #: The errno of a failed receive.
    int error
    #: The last reply the kernel refused: its errno and length.
    int refused
    uint32_t refused_length

#: What next() returns if no request is handed out.
NOTHING_CAME = 0
TURN_OVER = -1


cdef class Express:
    """Takes requests from a descriptor of /dev/fuse.

    find(handle, offset, size) is asked for a Path at the first use of each in a batch, end_batch()
    is called when one ends, and reply_failed(errno, length) if the kernel refused a reply.
    Owns: its buffers and its helper thread, until close.
    """

    cdef int device
    cdef size_t data_size
    cdef Worker workers[WORKERS]
    cdef object find, end_batch, reply_failed, thread
    cdef list views
    #: The paths of this batch: the list keeps alive what the workers look through.
    cdef list paths
    cdef Way *ways[MAX_PATHS]
    cdef int way_count
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t woken
    cdef int helper, told_to_rest, quit

    def __cinit__(self, int device, size_t data_size, object find, object end_batch,
                  object reply_failed):
        cdef Worker *worker
        self.device, self.data_size = device, data_size
        self.find, self.end_batch, self.reply_failed = find, end_batch, reply_failed
        self.paths, self.views = [], []
        pthread_mutex_init(&self.mutex, NULL)
        pthread_cond_init(&self.woken, NULL)
        for index in range(WORKERS):
            worker = &self.workers[index]
            if posix_memalign(<void **>&worker.request_base, PAGE, PAGE + data_size):
                raise MemoryError
            if posix_memalign(<void **>&worker.reply_base, PAGE, PAGE + data_size):
                raise MemoryError
            worker.request = worker.request_base + PAGE - sizeof(IoRequest)
            self.views.append(
                memoryview(<unsigned char[:sizeof(IoRequest) + data_size]>worker.request)
            )
        self.thread = Thread(target=self.help, name="fusedm-helper", daemon=True)

    def __dealloc__(self):
        for index in range(WORKERS):
            free(self.workers[index].request_base)
            free(self.workers[index].reply_base)
        pthread_cond_destroy(&self.woken)
        pthread_mutex_destroy(&self.mutex)

    def close(self):
        """End the helper."""
        if self.thread.is_alive():
            with nogil:
                pthread_mutex_lock(&self.mutex)
                self.quit = True
                pthread_cond_signal(&self.woken)
                pthread_mutex_unlock(&self.mutex)
            self.thread.join()

    def next(self, double spin_seconds, double turn_seconds):
        """The next request that is not answered here; waits only by looking again.

        It lies in a buffer that is used again at the next call.
        Returns TURN_OVER after turn_seconds in which some were answered and more may follow at once,
        NOTHING_CAME if none came for spin_seconds, or none at all.
        Raises: OSError; ENODEV when there is no mount any more.
        """
        cdef int64_t turn_end = monotonic_ns() + <int64_t>(turn_seconds * 1e9)
        cdef int64_t spin = <int64_t>(spin_seconds * 1e9)
        cdef Outcome outcome
        cdef int index
        cdef int error
        if self.thread.ident is None:
            self.thread.start()
        try:
            while True:
                with nogil:
                    outcome = self.drain(CALLER, spin, turn_end)
                if outcome == HANDED_OUT:
                    if not self.find_way(&self.workers[CALLER]):
                        return self.take_from(CALLER)
                    with nogil:
                        outcome = self.answer(CALLER)
                    if outcome == HANDED_OUT:
                        return self.take_from(CALLER)
                elif outcome == HELPER_STUCK:
                    if not self.find_way(&self.workers[HELPER]):
                        return self.take_from(HELPER)
                    self.wake()  # It goes on with the request it has.
                elif outcome == FAILED:
                    error = self.workers[CALLER].error
                    raise OSError(error, os.strerror(error))
                else:
                    with nogil:
                        self.lay_to_rest()
                    # It may have come upon something that is not for here at the last moment.
                    if load(&self.helper) != STUCK:
                        return NOTHING_CAME if outcome == NOTHING else TURN_OVER
        finally:
            with nogil:
                self.lay_to_rest()
            self.finish()

    cdef object take_from(self, int index):
        """The request of a worker, which is rid of it then."""
        cdef ssize_t length = self.workers[index].length
        self.workers[index].length = 0
        if index == HELPER:
            store(&self.helper, RESTING)
        return self.views[index][:length]

    cdef int find_way(self, Worker *worker) except -1:
        """Have a Path found for a request and added for this batch; whether there is one."""
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef Path path
        if not is_io(worker, self.data_size) or self.way_count == MAX_PATHS:
            return False
        if self.look_up(request) != NULL:
            return False  # It did not serve, or something failed on it.
        path = self.find(request.handle, request.offset, request.size)
        if path is None:
            return False
        self.paths.append(path)  # It is in this batch now, also if it does not serve.
        if not covers(&path.way, request):
            return False
        self.ways[self.way_count] = &path.way
        store(&self.way_count, self.way_count + 1)
        return True

    cdef int finish(self) except -1:
        """End the batch."""
        cdef Worker *worker
        if self.paths:
            self.way_count = 0
            self.paths.clear()
            self.end_batch()
        for index in range(WORKERS):
            worker = &self.workers[index]
            if worker.refused:
                self.reply_failed(worker.refused, worker.refused_length)
                worker.refused = 0
        return 0

    cdef Outcome drain(self, int index, int64_t spin, int64_t turn_end) noexcept nogil:
        """Answer requests until one is not for here, none comes, or the turn is over."""
        cdef Worker *worker = &self.workers[index]
        cdef int64_t now = monotonic_ns()
        cdef bint some = False, paused
        cdef int in_a_row = 0
        cdef Outcome outcome
        while True:
            outcome = self.receive(worker, now + spin, turn_end, &paused)
            if outcome == NOTHING and some and now + spin > turn_end:
                return OVER
            if outcome != ANSWERED:
                return outcome
            outcome = self.answer(index)
            if outcome != ANSWERED:
                return outcome
            some = True
            now = monotonic_ns()
            if now >= turn_end:
                return OVER
            in_a_row = 0 if paused else in_a_row + 1
            if index == CALLER and load(&self.helper) == RESTING and not paused and (
                in_a_row >= BUSY_REQUESTS
                or (<IoRequest *>worker.request).size >= BUSY_SIZE
            ):
                self.wake()

    cdef Outcome receive(
        self, Worker *worker, int64_t until, int64_t turn_end, bint *paused
    ) noexcept nogil:
        """Take a request, looking for one until then; ANSWERED means that there is one."""
        cdef bint is_helper = worker == &self.workers[HELPER]
        cdef int64_t now
        paused[0] = False
        while True:
            if is_helper and load(&self.told_to_rest):
                return OVER
            if not is_helper and load(&self.helper) == STUCK:
                return HELPER_STUCK
            worker.length = read(self.device, worker.request, sizeof(IoRequest) + self.data_size)
            if worker.length > 0:
                return ANSWERED
            worker.error = errno if worker.length < 0 else ENODEV
            # ENOENT: the request was taken back before we had it.
            if worker.error == EINTR or worker.error == ENOENT:
                continue
            if worker.error != EAGAIN:
                return FAILED
            paused[0] = True
            now = monotonic_ns()
            if now >= turn_end:
                return NOTHING
            # While the helper is at work the caller has to wait for the end of the batch anyway.
            if now >= until and (is_helper or load(&self.helper) != WORKING):
                return NOTHING
            sched_yield()

    cdef Outcome answer(self, int index) noexcept nogil:
        """Answer the request a worker has; HANDED_OUT if it is not for here, or something fails."""
        cdef Worker *worker = &self.workers[index]
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef Way *way
        cdef Tally *tally
        cdef int64_t began
        if not is_io(worker, self.data_size):
            return HANDED_OUT
        way = self.look_up(request)
        if way == NULL or not serves(way, worker):
            return HANDED_OUT
        began = monotonic_ns()
        tally = &way.tallies[index]
        if request.opcode == READ:
            if not self.answer_read(worker, way):
                return HANDED_OUT
            tally.reads += 1
            tally.read_bytes += request.size
            tally.read_time += monotonic_ns() - began
        else:
            if not self.answer_write(worker, way):
                return HANDED_OUT
            tally.writes += 1
            tally.write_bytes += request.size
            tally.write_time += monotonic_ns() - began
        return ANSWERED

    cdef Way *look_up(self, const IoRequest *request) noexcept nogil:
        """The way that covers a request; NULL if there is none in this batch yet."""
        cdef int index = load(&self.way_count)
        while index:
            index -= 1
            if covers(self.ways[index], request):
                return self.ways[index]
        return NULL

    cdef bint answer_read(self, Worker *worker, Way *way) noexcept nogil:
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef unsigned char *data = worker.reply_base + PAGE
        cdef Reply *reply = <Reply *>(data - sizeof(Reply))
        if not read_from(way, request.offset, data, request.size):
            return False
        reply.length, reply.error, reply.unique = sizeof(Reply) + request.size, 0, request.unique
        self.send(worker, reply)
        return True

    cdef bint answer_write(self, Worker *worker, Way *way) noexcept nogil:
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef unsigned char *data = worker.request + sizeof(IoRequest)
        cdef unsigned char *bounce = worker.reply_base + PAGE
        cdef WrittenReply reply
        if not write_to(way, request.offset, data, request.size, bounce):
            return False
        reply.header.length, reply.header.error = sizeof(WrittenReply), 0
        reply.header.unique = request.unique
        reply.size, reply.padding = request.size, 0
        self.send(worker, &reply.header)
        return True

    cdef void send(self, Worker *worker, Reply *reply) noexcept nogil:
        """Send a reply; if the kernel does not take it, an error, since somebody waits for one."""
        cdef Reply failure
        cdef int tries
        for tries in range(REPLY_TRIES):
            # ENOENT: nobody waits for it any more. ENODEV: unmounted.
            if write(self.device, reply, reply.length) >= 0 or errno == ENOENT or errno == ENODEV:
                return
        worker.refused, worker.refused_length = errno, reply.length
        failure.length, failure.error, failure.unique = sizeof(Reply), -EIO, reply.unique
        write(self.device, &failure, sizeof(Reply))

    # The helper.

    cdef void wake(self) noexcept nogil:
        """Have the helper work; it may have a request already that a path was found for."""
        store(&self.told_to_rest, False)
        pthread_mutex_lock(&self.mutex)
        store(&self.helper, WORKING)
        pthread_cond_signal(&self.woken)
        pthread_mutex_unlock(&self.mutex)

    cdef void lay_to_rest(self) noexcept nogil:
        """Wait until the helper has finished what it is at; what it is stuck with it keeps."""
        store(&self.told_to_rest, True)
        while load(&self.helper) == WORKING:
            sched_yield()

    def help(self):
        """What the helper thread does."""
        with nogil:
            self.help_until_quit()

    cdef void help_until_quit(self) noexcept nogil:
        cdef Outcome outcome
        while self.wait_for_work():
            # A request it was stuck with comes first.
            outcome = ANSWERED
            if self.workers[HELPER].length > 0:
                outcome = self.answer(HELPER)
            if outcome == ANSWERED:
                outcome = self.drain(HELPER, HELPER_SPIN, INT64_MAX)
            if outcome != HANDED_OUT:
                self.workers[HELPER].length = 0
            store(&self.helper, STUCK if outcome == HANDED_OUT else RESTING)

    cdef bint wait_for_work(self) noexcept nogil:
        """Wait until woken; False if there will be no more work."""
        cdef int64_t until = monotonic_ns() + HELPER_SPIN
        while load(&self.helper) != WORKING and monotonic_ns() < until:
            sched_yield()
        pthread_mutex_lock(&self.mutex)
        while load(&self.helper) != WORKING and not self.quit:
            pthread_cond_wait(&self.woken, &self.mutex)
        pthread_mutex_unlock(&self.mutex)
        return not self.quit


cdef bint is_io(const Worker *worker, size_t data_size) noexcept nogil:
    """Whether this is a READ or WRITE that is as long as it says and fits the buffers."""
    cdef const IoRequest *request = <const IoRequest *>worker.request
    if worker.length < <ssize_t>sizeof(IoRequest) or request.length != worker.length:
        return False
    if request.size > data_size or request.offset >> 62:
        return False
    if request.opcode == READ:
        return worker.length == sizeof(IoRequest)
    return (
        request.opcode == WRITE
        and worker.length == <ssize_t>(sizeof(IoRequest) + request.size)
    )


cdef bint covers(const Way *way, const IoRequest *request) noexcept nogil:
    """Whether these are whole blocks of this stretch."""
    return (
        way.handle == request.handle and request.size > 0
        and not (request.offset | request.size) & way.block_mask
        and <int64_t>request.offset >= way.begin
        and <int64_t>(request.offset + request.size) <= way.end
    )


cdef bint serves(const Way *way, const Worker *worker) noexcept nogil:
    """Whether requests of this kind may go this way; a write that must be durable may not."""
    cdef const IoRequest *request = <const IoRequest *>worker.request
    return request.opcode == READ or (way.may_write and not request.open_flags & O_DSYNC)
