# cython: language_level=3, boundscheck=False, wraparound=False
"""Workers that take requests from /dev/fuse and do plain I/O whole, without the GIL.

A READ, WRITE or FSYNC that enters a path (files/path.pyx) is done and answered by the worker that
took it. For every other request, and every one at which anything fails, a worker turns to the lane:
it stands before next() with the request in its buffer, and goes on when the lane is done with it.

    a worker is  PARKED   and sleeps until it is called
                 TAKING   takes requests; one does always, a second one while they come without a pause
                 ASKING   has a request that the lane sees to
                 AWAY     in a call that keeps it waiting; somebody else takes requests

No call on a medium that may keep a thread waiting stops requests for others. Before one that is
expected to take long, a worker goes AWAY: it calls another one to take its place. The others are
short nearly always (a write into the page cache), so calling somebody each time would cost more
than the call; the watch sends a worker AWAY that has not come back in time. What has turned out to
be slow is expected to be so for a while.

Memory: each worker has a buffer for requests and one for replies. Data begin at a page in both,
right behind their headers, so a request is taken and a reply is sent as one piece, and the medium
may be one that asks for aligned buffers.
"""

import os
from threading import Thread

from libc.errno cimport EAGAIN, EINTR, EIO, ENODEV, ENOENT, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from posix.stdlib cimport posix_memalign
from posix.time cimport nanosleep, timespec
from posix.unistd cimport close, read, write

from fusedm.files.path cimport (
    DONE, FLUSHES, MAX_WORKERS, PAGE, READS, WOULD_BLOCK, WRITES, Gate, GateData, Kind, MediumData,
    Moved, PathData,
    enter, flush, is_slow, leave, load, monotonic_ns, pthread_cond_destroy, pthread_cond_init,
    pthread_cond_signal, pthread_cond_t, pthread_cond_wait, pthread_mutex_destroy,
    pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock, read_from, remember,
    ring, store, write_to,
)

cdef extern from "fcntl.h" nogil:
    enum:
        O_DSYNC

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *descriptors, unsigned long count, int milliseconds)
    enum:
        POLLIN

cdef extern from * nogil:
    """
    static inline void fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline int64_t exchange(int64_t *shared, int64_t value)
    {
        return __atomic_exchange_n(shared, value, __ATOMIC_SEQ_CST);
    }
    static inline int64_t look_at(const int64_t *shared)
    {
        return __atomic_load_n(shared, __ATOMIC_ACQUIRE);
    }
    static inline int replace(int64_t *shared, int64_t expected, int64_t value)
    {
        return __atomic_compare_exchange_n(shared, &expected, value, 0, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE);
    }
    """
    void fence()
    int64_t exchange(int64_t *shared, int64_t value)
    int64_t look_at(const int64_t *shared)
    bint replace(int64_t *shared, int64_t expected, int64_t value)

cdef enum:
    #: Two that take requests, and one in whose favour they can go away.
    FIRST_WORKERS = 3
    #: Who takes requests is joined after so many small ones, or one of so many bytes, without a pause.
    BUSY_REQUESTS = 6
    BUSY_SIZE = 1 << 17
    MAX_TAKERS = 2
    #: Nanoseconds a worker looks out for a request before it sleeps: about as long as going to sleep
    #: and being woken takes.
    SPIN = 50000
    #: The same for the lane's answer, which takes as long as a request in Python.
    ASK_SPIN = 200000
    #: Nanoseconds between two looks of the watch, and how often it sees nothing before it sleeps.
    WATCH = 500000
    WATCH_IDLE = 20
    #: How often a path is asked for: what has been found may be over before it is entered.
    PATH_TRIES = 3
    #: How often it is looked whether all is quiet; a worker that finds nothing is so most of the time.
    QUIET_TRIES = 10
    #: How often a reply is sent before the request is ended with an error instead.
    REPLY_TRIES = 3
    READ = 15
    WRITE = 16
    FSYNC = 20

cdef enum Role:
    PARKED
    TAKING
    ASKING
    AWAY

#: Why a worker turns to the lane.
cdef enum Need:
    ANSWER      # of a request that is not for here
    A_PATH      # for a request that may have one
    A_WORKER    # to go away in favour of
    NO_DEVICE   # receiving failed

#: What the lane says.
cdef enum Verdict:
    NONE
    AGAIN       # what was needed is there
    ANSWERED    # the lane has done it

#: Headers of a request: fuse_in_header, then fuse_read_in, fuse_write_in or fuse_fsync_in (alike as
#: far as used).
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

cdef struct Worker:
    unsigned char *request_base
    #: Where a request lies, and how long it is.
    unsigned char *request
    unsigned char *reply_base
    ssize_t length
    #: The errno of a failed receive.
    int error
    int role
    pthread_cond_t called
    #: When the call that is watched began; 0: it is in none, SENT_AWAY: it was in it for too long.
    int64_t call_began
    #: What it asks for, as how manieth, what it was before, and what it is told.
    Need need
    int64_t question
    int asked_as
    int verdict
    #: Whether it has, or is just taking, a request that the lane may have to see.
    int may_have_one
    int in_a_row

cdef enum:
    SENT_AWAY = -1
    #: Bytes of an FSYNC.
    FSYNC_LENGTH = 56

#: What next() returns if no request is handed out.
NOTHING_CAME = 0
AT_REST = -1

#: How long a thread that is away is waited for when all end.
LAST_SECONDS = 0.2

#: What threads that never came back use.
_left_behind = []


cdef class Express:
    """Takes requests from a descriptor of /dev/fuse, in threads.

    find(handle, kind, offset, size) is asked for a path at the gate, whether there is one by then;
    open_gate() and close_gate() are called where next() waits; reply_failed(errno, length) if the
    kernel refused a reply.
    Owns: its buffers and threads, until close.
    """

    cdef int device, quit_bell
    cdef size_t data_size
    cdef Worker workers[MAX_WORKERS]
    cdef object find, open_gate, close_gate, reply_failed
    cdef list views, threads
    cdef object watching
    cdef Gate gate_object
    cdef GateData *gate
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t watch_called
    cdef int hired, takers, asking, quit, is_over, is_asleep, is_short_handed, watch_sleeps
    cdef int64_t questions, watched_calls
    #: Who the lane has a request of; -1: nobody.
    cdef int seen_to
    #: The last reply the kernel refused: its errno and length.
    cdef int refused
    cdef uint32_t refused_length

    def __cinit__(self, int device, size_t data_size, Gate gate, object find, object open_gate,
                  object close_gate, object reply_failed):
        # A number of its own: who is left behind in a call may still reply.
        self.device, self.data_size = os.dup(device), data_size
        self.gate_object, self.gate = gate, &gate.data
        self.find, self.reply_failed = find, reply_failed
        self.open_gate, self.close_gate = open_gate, close_gate
        self.views, self.threads, self.seen_to = [], [], -1
        self.quit_bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        pthread_mutex_init(&self.mutex, NULL)
        pthread_cond_init(&self.watch_called, NULL)

    def __dealloc__(self):
        for index in range(self.hired):
            free(self.workers[index].request_base)
            free(self.workers[index].reply_base)
            pthread_cond_destroy(&self.workers[index].called)
        pthread_cond_destroy(&self.watch_called)
        pthread_mutex_destroy(&self.mutex)
        self.close_descriptors()

    cdef void close_descriptors(self) noexcept:
        if self.device >= 0:
            close(self.device)
            close(self.quit_bell)
        self.device = self.quit_bell = -1

    # What the lane calls.

    def start(self):
        """Begin to take requests.

        Raises: OSError(EAGAIN), RuntimeError where the system gives too few threads.
        """
        for _ in range(FIRST_WORKERS):
            if not self.hire():
                raise OSError(EAGAIN, "the system gives no more threads")
        self.watching = Thread(target=self.watch, name="fusedm-watch", daemon=True)
        self.watching.start()
        pthread_mutex_lock(&self.mutex)
        self.call_one()
        pthread_mutex_unlock(&self.mutex)

    def stop(self):
        """Take no more requests: next() says AT_REST when those in hand are answered."""
        pthread_mutex_lock(&self.mutex)
        store(&self.quit, True)
        for index in range(self.hired):
            pthread_cond_signal(&self.workers[index].called)
        pthread_cond_signal(&self.watch_called)
        pthread_mutex_unlock(&self.mutex)
        if self.quit_bell >= 0:
            os.eventfd_write(self.quit_bell, 1)
        ring(self.gate)

    def close(self):
        """End all threads; one in a call gets a moment, and is left behind with what it uses."""
        self.stop()
        self.gate_object.end()
        pthread_mutex_lock(&self.mutex)
        self.is_over = True
        for index in range(self.hired):
            pthread_cond_signal(&self.workers[index].called)
        pthread_mutex_unlock(&self.mutex)
        for index, thread in enumerate(self.threads):
            while thread.is_alive() and not self.is_in_call(index):
                thread.join(LAST_SECONDS / 10)
            thread.join(LAST_SECONDS)
        if any(thread.is_alive() for thread in self.threads):
            _left_behind.append(self)
        else:
            self.close_descriptors()
        self.gate_object.silence()
        self.threads.clear()
        if self.watching is not None:
            self.watching.join()

    def next(self, double spin_seconds):
        """A request that is not answered by workers; the gate is opened to wait for one.

        It lies in a buffer that is used again at the next call.
        Returns NOTHING_CAME if none came for spin_seconds, and then the bell rings for the next one;
        AT_REST after stop().
        Raises: OSError; ENODEV when there is no mount any more.
        """
        cdef bint has_spun = False
        cdef int index
        cdef Worker *worker
        self.release()
        while True:
            if load(&self.is_short_handed):
                self.help_out()
            index = self.first_who_asks()
            if index < 0:
                if self.quit and self.count(PARKED) == self.hired:
                    return AT_REST
                if has_spun or self.quit:
                    if self.fall_asleep():
                        return NOTHING_CAME
                    continue
                has_spun = True
                self.spin(<int64_t>(spin_seconds * 1e9))
                continue
            worker = &self.workers[index]
            if worker.need == A_PATH and self.find_path(worker):
                self.reply_to(worker, AGAIN)
                has_spun = False
            elif worker.need == A_WORKER and self.hire():
                self.reply_to(worker, AGAIN)
                has_spun = False
            else:
                self.seen_to = index
                if worker.need == NO_DEVICE:
                    raise OSError(worker.error, os.strerror(worker.error))
                return self.views[index][:worker.length]

    def is_quiet(self):
        """Whether no request waits to be taken, and no worker has one that the lane may have to see."""
        cdef pollfd waiting
        cdef int index, tries
        cdef bint busy = True
        waiting.fd, waiting.events = self.device, POLLIN
        for tries in range(QUIET_TRIES):
            # In this order: what had come by then has been taken, and is seen at who took it.
            busy = poll(&waiting, 1, 0) > 0
            for index in range(self.hired):
                busy = busy or load(&self.workers[index].may_have_one)
            if not busy:
                return True
        return False

    cdef int release(self) except -1:
        """The lane is done with the request it was given."""
        if self.seen_to >= 0:
            self.reply_to(&self.workers[self.seen_to], ANSWERED)
            self.seen_to = -1
        if self.refused:
            self.reply_failed(self.refused, self.refused_length)
            self.refused = 0
        store(&self.is_asleep, False)
        return 0

    cdef void reply_to(self, Worker *worker, Verdict verdict) noexcept:
        pthread_mutex_lock(&self.mutex)
        worker.role = worker.asked_as
        store(&self.asking, self.asking - 1)
        store(&worker.verdict, verdict)
        pthread_cond_signal(&worker.called)
        pthread_mutex_unlock(&self.mutex)

    cdef int first_who_asks(self) noexcept:
        cdef int index, first = -1
        pthread_mutex_lock(&self.mutex)
        for index in range(self.hired):
            if self.workers[index].role == ASKING and (
                first < 0 or self.workers[index].question < self.workers[first].question
            ):
                first = index
        pthread_mutex_unlock(&self.mutex)
        return first

    cdef int count(self, Role role) noexcept:
        """How many workers are that."""
        cdef int index, found = 0
        pthread_mutex_lock(&self.mutex)
        for index in range(self.hired):
            found += self.workers[index].role == role
        pthread_mutex_unlock(&self.mutex)
        return found

    cdef bint is_in_call(self, int index) noexcept:
        """Whether a worker is in a call that may keep it waiting; the watch never is."""
        cdef Worker *worker = &self.workers[index]
        cdef bint found
        pthread_mutex_lock(&self.mutex)
        found = index < self.hired and (
            worker.role == AWAY or look_at(&worker.call_began) != 0
        )
        pthread_mutex_unlock(&self.mutex)
        return found

    cdef bint fall_asleep(self) noexcept:
        """Have the bell rung at the next question; False if there is one."""
        cdef bint asleep
        pthread_mutex_lock(&self.mutex)
        asleep = not self.asking
        if asleep:
            store(&self.is_asleep, True)
        pthread_mutex_unlock(&self.mutex)
        return asleep

    cdef int spin(self, int64_t nanoseconds) except -1:
        """Wait at an open gate until somebody asks, so long."""
        cdef int64_t until
        if not nanoseconds:
            return 0
        self.open_gate()
        try:
            with nogil:
                until = monotonic_ns() + nanoseconds
                while not load(&self.asking) and monotonic_ns() < until:
                    sched_yield()
        finally:
            self.close_gate()
        return 0

    cdef int find_path(self, Worker *worker) except -1:
        """Have what a request needs found; whether anything was that had been missing."""
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef bint found = False
        if request.opcode != FSYNC:
            found = self.find(request.handle, kind_of(request), request.offset, request.size)
        if request.opcode == FSYNC or is_durable(request):
            found = self.find(request.handle, FLUSHES, 0, 0) or found
        return found

    cdef int help_out(self) except -1:
        """Somebody was sent away, and nobody was there to take requests."""
        self.hire()
        pthread_mutex_lock(&self.mutex)
        store(&self.is_short_handed, False)
        if not self.takers and not self.quit:
            self.call_one()  # If there is none, whoever comes back first takes requests.
        pthread_mutex_unlock(&self.mutex)
        return 0

    cdef bint hire(self) except -1:
        """One worker more, who sleeps; False if there are enough, or the system gives no more."""
        cdef Worker *worker = &self.workers[self.hired]
        if self.hired == MAX_WORKERS:
            return False
        if posix_memalign(<void **>&worker.request_base, PAGE, PAGE + self.data_size):
            return False
        if posix_memalign(<void **>&worker.reply_base, PAGE, PAGE + self.data_size):
            free(worker.request_base)
            return False
        worker.request = worker.request_base + PAGE - sizeof(IoRequest)
        worker.role = PARKED
        pthread_cond_init(&worker.called, NULL)
        thread = Thread(
            target=self.work, name=f"fusedm-{self.hired}", args=(self.hired,), daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            pthread_cond_destroy(&worker.called)
            free(worker.request_base)
            free(worker.reply_base)
            return False
        self.threads.append(thread)
        self.views.append(
            memoryview(<unsigned char[:sizeof(IoRequest) + self.data_size]>worker.request)
        )
        pthread_mutex_lock(&self.mutex)
        self.hired += 1
        pthread_mutex_unlock(&self.mutex)
        return True

    # What workers do.

    def work(self, int index):
        """What a worker's thread does."""
        with nogil:
            while self.wait_for_call(&self.workers[index]):
                self.take_requests(&self.workers[index])

    cdef bint wait_for_call(self, Worker *worker) noexcept nogil:
        """Sleep until called to take requests; False if there will be no more."""
        cdef bint called
        pthread_mutex_lock(&self.mutex)
        while worker.role == PARKED and not self.quit:
            pthread_cond_wait(&worker.called, &self.mutex)
        called = worker.role != PARKED
        pthread_mutex_unlock(&self.mutex)
        return called

    cdef bint call_one(self) noexcept nogil:
        """Call a worker that is parked to take requests, with the mutex held; False if none is."""
        cdef int index
        for index in range(self.hired):
            if self.workers[index].role == PARKED:
                self.workers[index].role = TAKING
                self.takers += 1
                pthread_cond_signal(&self.workers[index].called)
                return True
        return False

    cdef void take_requests(self, Worker *worker) noexcept nogil:
        """Take requests and see each through, until others do that alone."""
        worker.in_a_row = 0
        while self.receive(worker):
            if not self.see_through(worker):
                return
            if self.takers < MAX_TAKERS and (
                worker.in_a_row >= BUSY_REQUESTS
                or (<IoRequest *>worker.request).size >= BUSY_SIZE
            ):
                pthread_mutex_lock(&self.mutex)
                if self.takers < MAX_TAKERS and not self.quit:
                    self.call_one()
                pthread_mutex_unlock(&self.mutex)

    cdef bint receive(self, Worker *worker) noexcept nogil:
        """Take a request; False if none came and it has parked."""
        cdef int64_t until = monotonic_ns() + SPIN
        cdef pollfd descriptors[2]
        worker.in_a_row += 1
        while not load(&self.quit):
            store(&worker.may_have_one, True)
            worker.length = read(self.device, worker.request, sizeof(IoRequest) + self.data_size)
            if worker.length > 0:
                return True
            worker.error = errno if worker.length < 0 else ENODEV
            # ENOENT: the request was taken back before we had it.
            if worker.error == EINTR or worker.error == ENOENT:
                continue
            if worker.error != EAGAIN:
                if self.ask(worker, NO_DEVICE) == NONE:
                    break
                continue
            store(&worker.may_have_one, False)
            worker.in_a_row = 0
            if monotonic_ns() < until:
                sched_yield()
                continue
            if self.park(worker, False):
                return False
            descriptors[0].fd, descriptors[0].events = self.device, POLLIN
            descriptors[1].fd, descriptors[1].events = self.quit_bell, POLLIN
            poll(descriptors, 2, -1)
            until = monotonic_ns() + SPIN
        store(&worker.may_have_one, False)
        self.park(worker, True)
        return False

    cdef bint park(self, Worker *worker, bint at_any_rate) noexcept nogil:
        """Sleep until called, if another one takes requests."""
        cdef bint parks
        pthread_mutex_lock(&self.mutex)
        parks = at_any_rate or self.takers > 1
        if parks:
            self.takers -= 1
            worker.role = PARKED
            if self.quit:
                ring(self.gate)
        pthread_mutex_unlock(&self.mutex)
        return parks

    cdef Verdict ask(self, Worker *worker, Need need) noexcept nogil:
        """Have the lane see to it; NONE if the lane has gone."""
        cdef int64_t until = monotonic_ns() + ASK_SPIN
        pthread_mutex_lock(&self.mutex)
        worker.asked_as, worker.role, worker.need = worker.role, ASKING, need
        store(&worker.verdict, NONE)
        self.questions += 1
        worker.question = self.questions
        store(&self.asking, self.asking + 1)
        if self.is_asleep:
            store(&self.is_asleep, False)
            ring(self.gate)
        pthread_mutex_unlock(&self.mutex)
        while load(&worker.verdict) == NONE and monotonic_ns() < until:
            sched_yield()
        if load(&worker.verdict) == NONE:
            pthread_mutex_lock(&self.mutex)
            while worker.verdict == NONE and not self.is_over:
                pthread_cond_wait(&worker.called, &self.mutex)
            pthread_mutex_unlock(&self.mutex)
        return <Verdict>worker.verdict

    cdef bint see_through(self, Worker *worker) noexcept nogil:
        """Answer a request, or have it answered; False if it takes no more requests."""
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef Kind kind
        cdef PathData *path
        cdef PathData *flushed
        cdef Need need
        cdef int index = self.index_of(worker)
        cdef int tries = 0
        if not is_io(worker, self.data_size):
            self.ask(worker, ANSWER)
            return True
        kind = kind_of(request)
        while True:
            flushed = NULL
            path = enter(self.gate, index, request.handle, kind, request.offset, request.size)
            if path != NULL and is_durable(request):
                flushed = enter(self.gate, index, request.handle, FLUSHES, 0, 0)
                if flushed == NULL:
                    self.leave_both(worker, path, NULL, kind, 0, False)
                    path = NULL
            need = ANSWER if tries == PATH_TRIES else A_PATH
            if path != NULL:
                if self.may_go(worker, path):
                    return self.go(worker, path, flushed, kind)
                self.leave_both(worker, path, flushed, kind, 0, False)
                need = A_WORKER
            if self.ask(worker, need) != AGAIN:
                return True
            tries += 1

    cdef int index_of(self, const Worker *worker) noexcept nogil:
        return worker - &self.workers[0]

    cdef bint may_go(self, Worker *worker, const PathData *path) noexcept nogil:
        """Whether there are others who can take requests meanwhile, if it may have to wait."""
        cdef int index, parked = 0
        if not path.blocks:
            return True
        pthread_mutex_lock(&self.mutex)
        for index in range(self.hired):
            parked += self.workers[index].role == PARKED
        pthread_mutex_unlock(&self.mutex)
        return parked >= (1 if self.hired < MAX_WORKERS else MAX_TAKERS)

    cdef bint go(
        self, Worker *worker, PathData *path, PathData *flushed, Kind kind
    ) noexcept nogil:
        """Do a request that has entered, and answer it; False if it takes no more requests."""
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef int64_t began = monotonic_ns()
        cdef size_t done = 0
        cdef Moved moved = WOULD_BLOCK
        cdef bint is_away = False
        cdef int error = 0
        store(&worker.may_have_one, False)
        if path.blocks:
            is_away = self.go_away_or_be_watched(
                worker, began, kind == FLUSHES or flushed != NULL or (kind == WRITES and is_slow(path))
            )
            if kind == READS:
                # Short nearly always, but it is watched as well: it may have to note a time.
                moved = self.move(worker, path, kind, &done, False)
                if moved == WOULD_BLOCK:
                    is_away = exchange(&worker.call_began, 0) == SENT_AWAY or (
                        self.go_away_or_be_watched(worker, began, nowait(path) or is_slow(path))
                    )
        if moved == WOULD_BLOCK:
            if kind != FLUSHES:
                moved = self.move(worker, path, kind, &done, True)
            if kind == FLUSHES:
                error = flush(path)
                moved = DONE
            elif moved == DONE and flushed != NULL:
                error = flush(flushed)
            if path.blocks and kind != FLUSHES and flushed == NULL:
                remember(path, request.size, monotonic_ns() - began)
        if path.blocks:
            is_away = exchange(&worker.call_began, 0) == SENT_AWAY or is_away
        self.leave_both(worker, path, flushed, kind, monotonic_ns() - began, moved == DONE)
        if moved == DONE:
            self.answer(worker, kind, error)
        else:
            store(&worker.may_have_one, True)
            self.ask(worker, ANSWER)
            store(&worker.may_have_one, False)
        return not is_away or self.come_back(worker)

    cdef Moved move(
        self, Worker *worker, const PathData *path, Kind kind, size_t *done, bint may_wait
    ) noexcept nogil:
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef unsigned char *buffer = worker.reply_base + PAGE
        if kind == READS:
            return read_from(path, request.offset, buffer, request.size, done, may_wait)
        return write_to(
            path, request.offset, worker.request + sizeof(IoRequest), request.size, buffer
        )

    cdef void leave_both(
        self, const Worker *worker, PathData *path, PathData *flushed, Kind kind, int64_t took,
        bint counts,
    ) noexcept nogil:
        """Leave the path of a request, and that of the flush behind it if there is one."""
        cdef const IoRequest *request = <const IoRequest *>worker.request
        cdef int index = self.index_of(worker)
        if flushed != NULL:
            leave(self.gate, index, flushed, FLUSHES, 0, 0, took, counts)
        if kind == FLUSHES:
            leave(self.gate, index, path, kind, 0, 0, took, counts)
        else:
            leave(self.gate, index, path, kind, request.offset, request.size, took, counts)

    cdef void answer(self, Worker *worker, Kind kind, int error) noexcept nogil:
        """Send the reply to a request that has been done."""
        cdef IoRequest *request = <IoRequest *>worker.request
        cdef WrittenReply written
        cdef Reply *reply = &written.header
        reply.length, reply.error = sizeof(Reply), -error
        if not error and kind == READS:
            reply = <Reply *>(worker.reply_base + PAGE - sizeof(Reply))
            reply.length, reply.error = sizeof(Reply) + request.size, 0
        elif not error and kind == WRITES:
            reply.length = sizeof(WrittenReply)
            written.size, written.padding = request.size, 0
        reply.unique = request.unique
        self.send(reply)

    cdef void send(self, Reply *reply) noexcept nogil:
        """Send a reply; if the kernel does not take it, an error, since somebody waits for one."""
        cdef Reply failure
        cdef int tries
        for tries in range(REPLY_TRIES):
            # ENOENT: nobody waits for it any more. ENODEV: unmounted.
            if write(self.device, reply, reply.length) >= 0 or errno == ENOENT or errno == ENODEV:
                return
        self.refused, self.refused_length = errno, reply.length
        failure.length, failure.error, failure.unique = sizeof(Reply), -EIO, reply.unique
        write(self.device, &failure, sizeof(Reply))

    # Going away.

    cdef bint go_away_or_be_watched(
        self, Worker *worker, int64_t now, bint expects_to_wait
    ) noexcept nogil:
        """Before a call that may take long; whether somebody else takes requests from now on."""
        if expects_to_wait and self.go_away(worker):
            return True
        exchange(&worker.call_began, now)
        self.watched_calls += 1
        if load(&self.watch_sleeps):
            pthread_mutex_lock(&self.mutex)
            pthread_cond_signal(&self.watch_called)
            pthread_mutex_unlock(&self.mutex)
        return False

    cdef bint go_away(self, Worker *worker) noexcept nogil:
        """Leave requests to others; False if there is nobody else."""
        cdef bint goes
        pthread_mutex_lock(&self.mutex)
        goes = self.takers > 1 or self.call_one()
        if goes:
            self.takers -= 1
            worker.role = AWAY
        pthread_mutex_unlock(&self.mutex)
        return goes

    cdef bint come_back(self, Worker *worker) noexcept nogil:
        """After having been AWAY: take requests if nobody does, else park."""
        pthread_mutex_lock(&self.mutex)
        if self.takers or self.quit:
            worker.role = PARKED
            if self.quit and not self.is_over:
                ring(self.gate)
        else:
            worker.role = TAKING
            self.takers += 1
        pthread_mutex_unlock(&self.mutex)
        return worker.role == TAKING

    def watch(self):
        """What the thread of the watch does."""
        with nogil:
            self.keep_watch()

    cdef void keep_watch(self) noexcept nogil:
        cdef timespec pause
        cdef int64_t seen = -1
        cdef int idle = 0
        pause.tv_sec, pause.tv_nsec = 0, WATCH
        pthread_mutex_lock(&self.mutex)
        while not self.quit:
            idle = 0 if self.send_away() or self.watched_calls != seen else idle + 1
            seen = self.watched_calls
            if idle >= WATCH_IDLE:
                # Whoever begins a call looks whether the watch sleeps, after saying so.
                store(&self.watch_sleeps, True)
                fence()
                if not self.send_away():
                    pthread_cond_wait(&self.watch_called, &self.mutex)
                store(&self.watch_sleeps, False)
                idle = 0
                continue
            pthread_mutex_unlock(&self.mutex)
            nanosleep(&pause, NULL)
            pthread_mutex_lock(&self.mutex)
        pthread_mutex_unlock(&self.mutex)

    cdef bint send_away(self) noexcept nogil:
        """Send those away whose calls take too long, with the mutex held; whether any is in a call."""
        cdef int index
        cdef int64_t began, now = monotonic_ns()
        cdef bint found = False
        cdef Worker *worker
        for index in range(self.hired):
            worker = &self.workers[index]
            began = look_at(&worker.call_began)
            if began <= 0:
                continue
            found = True
            if now - began < WATCH or not replace(&worker.call_began, began, SENT_AWAY):
                continue
            worker.role = AWAY
            self.takers -= 1
            if not self.takers and not self.quit and not self.call_one():
                store(&self.is_short_handed, True)
                ring(self.gate)
        return found


cdef Kind kind_of(const IoRequest *request) noexcept nogil:
    return READS if request.opcode == READ else WRITES if request.opcode == WRITE else FLUSHES


cdef bint is_durable(const IoRequest *request) noexcept nogil:
    """Whether it is a write that is to be flushed before it is answered."""
    return request.opcode == WRITE and request.open_flags & O_DSYNC != 0


cdef bint is_io(const Worker *worker, size_t data_size) noexcept nogil:
    """Whether this is a READ, WRITE or FSYNC that is as long as it says and fits the buffers."""
    cdef const IoRequest *request = <const IoRequest *>worker.request
    if worker.length < FSYNC_LENGTH or request.length != worker.length:
        return False
    if request.opcode == FSYNC:
        return worker.length == FSYNC_LENGTH
    if worker.length < <ssize_t>sizeof(IoRequest):
        return False
    if request.size > data_size or request.offset >> 62:
        return False
    if request.opcode == READ:
        return worker.length == sizeof(IoRequest)
    return (
        request.opcode == WRITE
        and worker.length == <ssize_t>(sizeof(IoRequest) + request.size)
    )


cdef bint nowait(const PathData *path) noexcept nogil:
    """Whether every leg says beforehand that a read would wait."""
    cdef int index
    for index in range(path.leg_count):
        if path.legs[index].medium.blocks and not load(&path.legs[index].medium.takes_nowait):
            return False
    return True
