# cython: language_level=3, boundscheck=False, wraparound=False
"""The thread of one client: takes requests from its socket, and does plain I/O whole without the GIL.

A READ, WRITE or FLUSH that enters a path (files/path.pyx) is done and answered here; answers are put
together while more requests are there already. Every other request is handed on to the tasks of the
connection as it came, and so is one for which no path is open, which they find then, one at which
anything fails, and one that a medium would keep waiting: whatever waits, waits there. What they
answer is sent by this thread as well, so nothing comes between two parts of an answer.

It takes no more requests while answers have not gone out, or too much is under way at the tasks: the
client has to wait then, and nobody else.
"""

import os
from threading import Thread

from cpython.bytearray cimport PyByteArray_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove
from posix.stdlib cimport posix_memalign
from posix.unistd cimport close, read, write

from fusedm.files.path cimport (
    DONE, FLUSHES, MAX_WORKERS, PAGE, READS, WRITES, Gate, GateData, Kind, Moved, PathData, enter,
    flush, is_slow, leave, load, monotonic_ns, pthread_mutex_destroy, pthread_mutex_init,
    pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock, read_from, remember, store, write_to,
)

cdef extern from "endian.h" nogil:
    uint16_t be16toh(uint16_t)
    uint32_t be32toh(uint32_t)
    uint64_t be64toh(uint64_t)
    uint16_t htobe16(uint16_t)
    uint32_t htobe32(uint32_t)
    uint64_t htobe64(uint64_t)

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
        POLLOUT
        POLLERR
        POLLHUP
        POLLRDHUP

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    int shutdown(int fd, int how)
    ssize_t recv(int fd, void *buffer, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        SHUT_RDWR

cdef enum:
    #: Bytes of data in one request that is done here; buffers of the thread are so large.
    MAX_DATA = 1 << 20
    #: Bytes of data in any request.
    MAX_REQUEST = 32 << 20
    #: Bytes of requests received at a time, and of answers put together.
    IN_SIZE = 1 << 16
    OUT_SIZE = 1 << 17
    #: Data up to so many bytes are put among the other answers.
    JOINED = 1 << 15
    #: Nanoseconds it is looked out for a request before sleeping: about as long as going to sleep and
    #: being woken takes.
    SPIN = 50000
    #: Nanoseconds after which giving way while looking out has taken long: others want the processor,
    #: and who sleeps is woken sooner then than who gives way. It is not looked out for so long then.
    GIVEN_AWAY = 30000
    BUSY = 1000000000
    REQUEST_MAGIC = 0x25609513
    SIMPLE_MAGIC = 0x67446698
    CHUNK_MAGIC = 0x668E33EF
    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    DF = 4

cdef packed struct Header:
    uint32_t magic
    uint16_t flags
    uint16_t command
    uint64_t cookie
    uint64_t offset
    uint32_t length

cdef packed struct SimpleReply:
    uint32_t magic
    uint32_t error
    uint64_t cookie

#: Chunk OFFSET_DATA, with DONE.
cdef packed struct DataChunk:
    uint32_t magic
    uint16_t flags
    uint16_t kind
    uint64_t cookie
    uint32_t length
    uint64_t offset

#: A request for the tasks, or an answer of theirs. Its bytes follow it.
cdef struct Message:
    Message *next
    size_t size
    size_t sent

cdef struct Queue:
    Message *first
    Message *last

#: So many can be at a gate.
MAX_READERS = <int>MAX_WORKERS

#: Threads that never came back from a call on a medium, with what they use.
_left_behind = []


cdef class Reader:
    """Takes requests from a connected socket, in a thread, until close.

    index is its own among those that enter the gate; handle is of the open device. max_count and
    max_bytes bound what is under way at the tasks. The bell rings when there is something for take,
    or the thread has ended, or all has been sent.
    Owns: its number of the socket, its buffers and its thread.
    """

    cdef readonly int index
    cdef int socket, wake, bell_number
    cdef bint structured, may_write
    cdef uint64_t handle
    cdef Gate gate_object
    cdef GateData *gate
    cdef unsigned char *inward
    cdef unsigned char *outward
    cdef unsigned char *data
    cdef unsigned char *moved
    cdef size_t in_begin, in_end, out_begin, out_end
    #: What of moved is to be sent behind what is in outward.
    cdef size_t big_begin, big_end
    cdef pthread_mutex_t mutex
    cdef Queue requests, answers
    cdef int stops, quits, ended, gone
    cdef int under_way, max_count
    cdef size_t bytes_under_way, max_bytes
    #: Until when it is not looked out, since the machine is busy.
    cdef int64_t busy_until
    cdef object thread

    def __cinit__(self, int socket, Gate gate, int index, uint64_t handle, bint structured,
                  bint may_write, int max_count, size_t max_bytes):
        self.socket = self.wake = self.bell_number = -1
        pthread_mutex_init(&self.mutex, NULL)
        if not 0 <= index < MAX_WORKERS:
            raise ValueError(f"reader {index}, not one of {MAX_WORKERS}")
        self.gate_object, self.gate = gate, &gate.data
        self.index, self.handle = index, handle
        self.structured, self.may_write = structured, may_write
        self.max_count, self.max_bytes = max_count, max_bytes
        self.inward, self.outward = <unsigned char *>malloc(IN_SIZE), <unsigned char *>malloc(OUT_SIZE)
        if self.inward == NULL or self.outward == NULL:
            raise MemoryError
        if posix_memalign(<void **>&self.data, PAGE, MAX_DATA):
            raise MemoryError
        if posix_memalign(<void **>&self.moved, PAGE, MAX_DATA):
            raise MemoryError
        self.socket = os.dup(socket)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.bell_number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        self.close_numbers()
        while self.requests.first != NULL:
            free(pop(&self.requests))
        while self.answers.first != NULL:
            free(pop(&self.answers))
        free(self.inward)
        free(self.outward)
        free(self.data)
        free(self.moved)
        pthread_mutex_destroy(&self.mutex)

    # What the tasks call.

    @property
    def bell(self):
        """Readable when it has rung."""
        return self.bell_number

    @property
    def has_ended(self):
        """Whether the thread takes and sends nothing any more."""
        return bool(load(&self.ended))

    @property
    def has_sent_all(self):
        """Whether all answers have gone out, or nobody is there to take them."""
        pthread_mutex_lock(&self.mutex)
        idle = self.answers.first == NULL or self.ended
        pthread_mutex_unlock(&self.mutex)
        return bool(idle)

    def start(self):
        """Begin to take requests. Raises: RuntimeError where the system gives no more threads."""
        self.thread = Thread(target=self.run, name=f"fusedm-nbd-{self.index}", daemon=True)
        self.thread.start()

    def hush(self):
        """Have the bell ring again when there is something new."""
        try:
            os.eventfd_read(self.bell_number)
        except BlockingIOError:
            pass

    def take(self):
        """A request with its data as they came, which are under way now; None if there is none."""
        cdef Message *message
        pthread_mutex_lock(&self.mutex)
        message = pop(&self.requests)
        pthread_mutex_unlock(&self.mutex)
        if message == NULL:
            return None
        taken = PyByteArray_FromStringAndSize(<char *>(message + 1), message.size)
        free(message)
        return taken

    def give_back(self, size_t size):
        """A request with so many bytes of data is under way no more."""
        pthread_mutex_lock(&self.mutex)
        self.under_way -= 1
        self.bytes_under_way -= size
        pthread_mutex_unlock(&self.mutex)
        ring(self.wake)

    def send(self, list parts):
        """Have an answer sent; its buffers are free when this returns. Raises: MemoryError."""
        cdef size_t size = 0
        cdef const unsigned char[::1] part
        cdef unsigned char *at
        cdef Message *message
        for each in parts:
            size += len(each)
        message = <Message *>malloc(sizeof(Message) + size)
        if message == NULL:
            raise MemoryError
        message.next, message.size, message.sent = NULL, size, 0
        at = <unsigned char *>(message + 1)
        for each in parts:
            if len(each):
                part = each
                memcpy(at, &part[0], len(each))
                at += len(each)
        pthread_mutex_lock(&self.mutex)
        push(&self.answers, message)
        pthread_mutex_unlock(&self.mutex)
        ring(self.wake)

    def stop(self):
        """Take no more requests; answers go out still."""
        store(&self.stops, True)
        ring(self.wake)

    def quit(self):
        """Have the thread end, whatever is left."""
        store(&self.quits, True)
        ring(self.wake)

    def let_go(self):
        """Let go of the thread, which has ended or never comes back."""
        if self.has_ended:
            self.thread.join()
            self.close_numbers()
        else:
            shutdown(self.socket, SHUT_RDWR)
            _left_behind.append(self)

    cdef void close_numbers(self) noexcept:
        for number in (self.socket, self.wake, self.bell_number):
            if number >= 0:
                close(number)
        self.socket = self.wake = self.bell_number = -1

    # What the thread does.

    def run(self):
        """What the thread does."""
        with nogil:
            self.serve()
            store(&self.ended, True)
            ring(self.bell_number)

    cdef void serve(self) noexcept nogil:
        cdef bint is_sent
        while not load(&self.quits):
            if not self.has_request() or self.big_end or OUT_SIZE - self.out_end < 2 * JOINED:
                is_sent = self.send_out()
                if self.gone:
                    return
                if not is_sent:
                    self.wait(POLLOUT)
                    continue
            if load(&self.stops):
                if self.wait(0) & (POLLHUP | POLLERR):
                    return
            elif self.has_request():
                if not self.see_to_request():
                    # Nothing can follow it; answers go out still.
                    store(&self.stops, True)
            elif not self.receive():
                return

    cdef bint has_request(self) noexcept nogil:
        return self.in_end - self.in_begin >= sizeof(Header) and not load(&self.stops)

    cdef short wait(self, short events) noexcept nogil:
        """Sleep until the socket is ready for that, or somebody rings; what became of the socket."""
        cdef pollfd descriptors[2]
        cdef uint64_t rung
        descriptors[0].fd, descriptors[0].events = self.wake, POLLIN
        descriptors[1].fd, descriptors[1].events = self.socket, events
        descriptors[0].revents = descriptors[1].revents = 0
        poll(descriptors, 2, -1)
        if descriptors[0].revents:
            read(self.wake, &rung, sizeof(rung))
        return descriptors[1].revents

    cdef bint receive(self) noexcept nogil:
        """Receive some more of what comes, if anything has come before somebody rang; False at the end."""
        cdef int64_t began = monotonic_ns()
        cdef int64_t now = began, last
        cdef ssize_t got
        if self.in_begin:
            memmove(self.inward, self.inward + self.in_begin, self.in_end - self.in_begin)
            self.in_begin, self.in_end = 0, self.in_end - self.in_begin
        if now < self.busy_until:
            self.wait(POLLIN)
        while True:
            got = recv(self.socket, self.inward + self.in_end, IN_SIZE - self.in_end, MSG_DONTWAIT)
            if got > 0:
                self.in_end += got
                return True
            if got == 0 or (errno != EAGAIN and errno != EINTR):
                return False
            if now >= self.busy_until and now - began < SPIN and not self.is_rung_for():
                sched_yield()
                last, now = now, monotonic_ns()
                if now - last > GIVEN_AWAY:
                    self.busy_until = now + BUSY
                continue
            if now >= self.busy_until:
                self.wait(POLLIN)
            return True

    cdef bint is_rung_for(self) noexcept nogil:
        """Whether tasks have something to be sent, or want it to end."""
        cdef bint found
        pthread_mutex_lock(&self.mutex)
        found = self.answers.first != NULL
        pthread_mutex_unlock(&self.mutex)
        return found or load(&self.quits) or load(&self.stops)

    cdef bint receive_all(self, unsigned char *target, size_t size) noexcept nogil:
        """The data of a write; False if it cannot be had any more."""
        cdef size_t got = min(size, self.in_end - self.in_begin)
        cdef ssize_t some
        memcpy(target, self.inward + self.in_begin, got)
        self.in_begin += got
        while got < size:
            some = recv(self.socket, target + got, size - got, MSG_DONTWAIT)
            if some > 0:
                got += some
            elif some == 0 or (errno != EAGAIN and errno != EINTR):
                return False
            else:
                # A client may wait for answers before it goes on.
                self.send_out()
                if self.gone or load(&self.quits):
                    return False
                self.wait(POLLIN | POLLOUT if self.has_unsent() else POLLIN)
        return True

    cdef bint see_to_request(self) noexcept nogil:
        """Do the next request, or hand it on; False if nothing can follow."""
        cdef Header header
        cdef size_t length
        cdef uint16_t command, flags
        cdef unsigned char *data = NULL
        memcpy(&header, self.inward + self.in_begin, sizeof(header))
        length, command, flags = be32toh(header.length), be16toh(header.command), be16toh(header.flags)
        if be32toh(header.magic) != REQUEST_MAGIC or command == DISCONNECT or (
            command == WRITE and length > MAX_REQUEST
        ):
            self.in_begin += sizeof(header)
            self.hand_on(&header, NULL, 0)
            return False
        if 0 < length <= MAX_DATA or command == FLUSH:
            if command == WRITE and not flags and self.may_write:
                self.in_begin += sizeof(header)
                if not self.receive_all(self.data, length):
                    store(&self.quits, True)
                    return False
                if self.do_write(&header, length):
                    return True
                return self.hand_on(&header, self.data, length)
            if command == READ and (not flags or (flags == DF and self.structured)):
                if self.do_read(&header, length):
                    self.in_begin += sizeof(header)
                    return True
            if command == FLUSH and not flags and not length and not header.offset:
                if self.do_flush(&header):
                    self.in_begin += sizeof(header)
                    return True
        self.in_begin += sizeof(header)
        return self.hand_on(&header, NULL, length if command == WRITE else 0)

    cdef bint do_write(self, Header *header, size_t length) noexcept nogil:
        cdef uint64_t offset = be64toh(header.offset)
        cdef int64_t began, took
        cdef Moved moved
        cdef PathData *path = self.enter(WRITES, offset, length)
        if path == NULL:
            return False
        if path.blocks and is_slow(path):
            # Some are left to others, and then one is tried again.
            remember(path, 0, 0)
            leave(self.gate, self.index, path, WRITES, offset, length, 0, False)
            return False
        began = monotonic_ns()
        moved = write_to(path, offset, self.data, length, self.moved)
        took = monotonic_ns() - began
        if path.blocks:
            remember(path, length, took)
        leave(self.gate, self.index, path, WRITES, offset, length, took, moved == DONE)
        if moved == DONE:
            self.reply(header.cookie, 0)
        return moved == DONE

    cdef bint do_read(self, Header *header, size_t length) noexcept nogil:
        cdef uint64_t offset = be64toh(header.offset)
        cdef int64_t began
        cdef size_t done = 0
        cdef Moved moved
        cdef PathData *path = self.enter(READS, offset, length)
        if path == NULL:
            return False
        began = monotonic_ns()
        moved = read_from(path, offset, self.moved, length, &done, False)
        leave(
            self.gate, self.index, path, READS, offset, length, monotonic_ns() - began,
            moved == DONE,
        )
        if moved == DONE:
            self.reply_with_data(header, length)
        return moved == DONE

    cdef bint do_flush(self, Header *header) noexcept nogil:
        cdef int64_t began
        cdef int error
        cdef PathData *path = self.enter(FLUSHES, 0, 0)
        if path == NULL:
            return False
        if path.blocks:
            leave(self.gate, self.index, path, FLUSHES, 0, 0, 0, False)
            return False
        began = monotonic_ns()
        error = flush(path)
        leave(self.gate, self.index, path, FLUSHES, 0, 0, monotonic_ns() - began, True)
        # A medium tells of an error once: it must not be asked again.
        self.reply(header.cookie, EIO if error else 0)
        return True

    cdef PathData *enter(self, Kind kind, uint64_t offset, size_t length) noexcept nogil:
        if offset >> 62:
            return NULL
        return enter(self.gate, self.index, self.handle, kind, offset, length)

    cdef void reply(self, uint64_t cookie, uint32_t error) noexcept nogil:
        """Answer that it is done, or failed; cookie as it came."""
        cdef SimpleReply *reply = <SimpleReply *>(self.outward + self.out_end)
        reply.magic, reply.error, reply.cookie = htobe32(SIMPLE_MAGIC), htobe32(error), cookie
        self.out_end += sizeof(SimpleReply)

    cdef void reply_with_data(self, Header *header, size_t length) noexcept nogil:
        """Answer with what is in moved."""
        cdef DataChunk *chunk = <DataChunk *>(self.outward + self.out_end)
        if self.structured:
            chunk.magic, chunk.flags, chunk.kind = htobe32(CHUNK_MAGIC), htobe16(1), htobe16(1)
            chunk.cookie, chunk.offset = header.cookie, header.offset
            chunk.length = htobe32(length + sizeof(uint64_t))
            self.out_end += sizeof(DataChunk)
        else:
            self.reply(header.cookie, 0)
        if length <= JOINED:
            memcpy(self.outward + self.out_end, self.moved, length)
            self.out_end += length
        else:
            self.big_begin, self.big_end = 0, length

    cdef bint hand_on(self, Header *header, const unsigned char *data, size_t length) noexcept nogil:
        """Hand a request on to the tasks, with data that are there or still to come."""
        cdef size_t bytes_now = length
        cdef Message *message
        if be16toh(header.command) == READ:
            bytes_now = min(<size_t>be32toh(header.length), <size_t>MAX_REQUEST)
        while not self.has_room(bytes_now):
            self.send_out()
            if self.gone or load(&self.quits):
                return False
            if self.wait(POLLRDHUP | (POLLOUT if self.has_unsent() else 0)) & (
                POLLRDHUP | POLLHUP | POLLERR
            ):
                # It may have sent more, which nobody needs any more.
                store(&self.quits, True)
                return False
        message = <Message *>malloc(sizeof(Message) + sizeof(Header) + length)
        if message == NULL:
            store(&self.quits, True)
            return False
        message.next, message.size, message.sent = NULL, sizeof(Header) + length, 0
        memcpy(message + 1, header, sizeof(Header))
        if data != NULL:
            memcpy(<unsigned char *>(message + 1) + sizeof(Header), data, length)
        elif length and not self.receive_all(
            <unsigned char *>(message + 1) + sizeof(Header), length
        ):
            free(message)
            store(&self.quits, True)
            return False
        pthread_mutex_lock(&self.mutex)
        push(&self.requests, message)
        self.under_way += 1
        self.bytes_under_way += bytes_now
        pthread_mutex_unlock(&self.mutex)
        ring(self.bell_number)
        return True

    cdef bint has_room(self, size_t size) noexcept nogil:
        cdef bint found
        pthread_mutex_lock(&self.mutex)
        found = self.under_way < self.max_count and self.bytes_under_way + size <= self.max_bytes
        pthread_mutex_unlock(&self.mutex)
        return found

    cdef bint has_unsent(self) noexcept nogil:
        cdef bint found
        pthread_mutex_lock(&self.mutex)
        found = self.answers.first != NULL
        pthread_mutex_unlock(&self.mutex)
        return found or self.out_end != 0

    cdef bint send_out(self) noexcept nogil:
        """Send what there is, as far as the client takes it; whether that is all."""
        cdef iovec parts[2]
        cdef msghdr message
        cdef ssize_t sent
        cdef size_t some
        cdef Message *answer
        while True:
            pthread_mutex_lock(&self.mutex)
            answer = self.answers.first
            pthread_mutex_unlock(&self.mutex)
            message.msg_iov = parts
            if self.out_end and not (answer != NULL and answer.sent):
                # What has been begun is ended first.
                answer = NULL
                parts[0].iov_base = self.outward + self.out_begin
                parts[0].iov_len = self.out_end - self.out_begin
                parts[1].iov_base = self.moved + self.big_begin
                parts[1].iov_len = self.big_end - self.big_begin
                message.msg_iovlen = 2
            elif answer != NULL:
                parts[0].iov_base = <unsigned char *>(answer + 1) + answer.sent
                parts[0].iov_len = answer.size - answer.sent
                message.msg_iovlen = 1
            else:
                return True
            sent = send_message(self.socket, parts, message.msg_iovlen)
            if sent < 0:
                if errno == EINTR:
                    continue
                self.gone = errno != EAGAIN
                return False
            if answer != NULL:
                answer.sent += sent
                if answer.sent == answer.size:
                    pthread_mutex_lock(&self.mutex)
                    answer = pop(&self.answers)
                    pthread_mutex_unlock(&self.mutex)
                    free(answer)
                    if load(&self.stops):
                        ring(self.bell_number)
                continue
            some = min(<size_t>sent, self.out_end - self.out_begin)
            self.out_begin += some
            self.big_begin += sent - some
            if self.out_begin == self.out_end and self.big_begin == self.big_end:
                self.out_begin = self.out_end = self.big_begin = self.big_end = 0


cdef ssize_t send_message(int socket, iovec *parts, size_t count) noexcept nogil:
    cdef msghdr message
    cdef unsigned char *bytes_of = <unsigned char *>&message
    cdef size_t index
    for index in range(sizeof(message)):
        bytes_of[index] = 0
    message.msg_iov, message.msg_iovlen = parts, count
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL)


cdef void push(Queue *queue, Message *message) noexcept nogil:
    if queue.last != NULL:
        queue.last.next = message
    else:
        queue.first = message
    queue.last = message


cdef Message *pop(Queue *queue) noexcept nogil:
    cdef Message *message = queue.first
    if message != NULL:
        queue.first = message.next
        if queue.first == NULL:
            queue.last = NULL
    return message


cdef void ring(int bell) noexcept nogil:
    cdef uint64_t one = 1
    write(bell, &one, sizeof(one))
