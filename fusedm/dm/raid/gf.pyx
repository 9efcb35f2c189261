# cython: language_level=3, boundscheck=False, wraparound=False
"""Sums of products in the field of P and Q, and what differs, compiled.  See gf_core.h.

All arithmetic of parity is of this one form: P, Q, and what is lost are sums of what is there, each
times a factor. Which factors those are is syndromes.py's.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

cdef extern from "gf_core.h" nogil:
    void c_sum_products "sum_products"(
        unsigned char **targets, size_t target_count, const unsigned char **sources,
        size_t source_count, const unsigned char *factors, size_t begin, size_t end, void *used)
    int is_zero(const unsigned char *data, size_t length)
    void choose_code(int for_any)

cdef enum:
    #: What takes longer than giving the GIL to others and taking it back.
    WITHOUT_GIL = 1 << 16


def sum_products(targets, sources, factors):
    """Make each target the sum of all sources, each times a factor.

    Shapes: all buffers are of one length, and no target overlaps another buffer; for each target
            factors has bytes, one of each source.
    Raises: ValueError where they are not.
    """
    sum_pieces(targets, sources, [(len(targets[0]) if targets else 0, b"".join(factors))])


def sum_pieces(targets, sources, pieces):
    """The same piece by piece, of which each has its own factors: those of a target together.

    Shapes: the lengths of all pieces are together that of each buffer.
    Raises: ValueError where they are not.
    """
    cdef Py_ssize_t target_count = len(targets), source_count = len(sources)
    cdef Py_ssize_t count = target_count + source_count, taken = 0, length, end = 0, index, number
    cdef Py_ssize_t piece_count = len(pieces), each = target_count * source_count
    cdef bytes all_factors = b"".join([factors for _, factors in pieces])
    cdef const unsigned char *of_pieces = all_factors
    cdef Py_buffer *buffers
    cdef void **places
    cdef Py_ssize_t *ends
    for _, factors in pieces:
        if len(factors) != each:
            raise ValueError(
                f"{len(factors)} factors for {target_count} targets of {source_count} sources"
            )
    if not target_count:
        return
    # The buffers, where they begin, room for what is used of them, and where pieces end.
    buffers = <Py_buffer *>calloc(
        count * (sizeof(Py_buffer) + 3 * sizeof(void *)) + piece_count * sizeof(Py_ssize_t), 1
    )
    if not buffers:
        raise MemoryError
    places = <void **>(buffers + count)
    ends = <Py_ssize_t *>(places + 3 * count)
    try:
        for buffer in targets:
            PyObject_GetBuffer(buffer, &buffers[taken], PyBUF_WRITABLE)
            taken += 1
        for buffer in sources:
            PyObject_GetBuffer(buffer, &buffers[taken], PyBUF_SIMPLE)
            taken += 1
        length = buffers[0].len
        for index in range(count):
            if buffers[index].len != length:
                raise ValueError(f"a buffer of {buffers[index].len} bytes beside one of {length}")
            places[index] = buffers[index].buf
        for number in range(piece_count):
            if pieces[number][0] < 0:
                raise ValueError(f"a piece of {pieces[number][0]} bytes")
            end += pieces[number][0]
            ends[number] = end
        if end != length:
            raise ValueError(f"pieces of {end} bytes of buffers of {length}")
        if length * count < WITHOUT_GIL:
            run(places, target_count, source_count, of_pieces, ends, piece_count)
        else:
            with nogil:
                run(places, target_count, source_count, of_pieces, ends, piece_count)
    finally:
        for index in range(taken):
            PyBuffer_Release(&buffers[index])
        free(buffers)


cdef void run(
    void **places, Py_ssize_t target_count, Py_ssize_t source_count, const unsigned char *factors,
    Py_ssize_t *ends, Py_ssize_t piece_count,
) noexcept nogil:
    cdef Py_ssize_t begin = 0, number
    for number in range(piece_count):
        c_sum_products(
            <unsigned char **>places, target_count,
            <const unsigned char **>(places + target_count), source_count,
            factors + number * target_count * source_count, begin, ends[number],
            places + target_count + source_count,
        )
        begin = ends[number]


def not_zero(const unsigned char[::1] data, Py_ssize_t step):
    """Where the steps of some bytes begin that have another byte than 0, the last one shorter."""
    cdef Py_ssize_t at = 0, length = data.shape[0]
    found = []
    if not length or is_zero(&data[0], length):
        return found
    for at in range(0, length, step):
        if not is_zero(&data[at], min(step, length - at)):
            found.append(at)
    return found


def differing(const unsigned char[::1] one, const unsigned char[::1] other, Py_ssize_t step):
    """Where the steps begin in which some bytes are not those of others; the last is shorter.

    Shapes: both are of one length.
    Raises: ValueError where they are not.
    """
    cdef Py_ssize_t at = 0, length = one.shape[0]
    found = []
    if other.shape[0] != length:
        raise ValueError(f"{length} bytes beside {other.shape[0]}")
    if not length or not memcmp(&one[0], &other[0], length):
        return found
    for at in range(0, length, step):
        if memcmp(&one[at], &other[at], min(step, length - at)):
            found.append(at)
    return found


def use_code_for_any_processor(bint for_any):
    """Whether to do without what the processor has beyond the least of its kind; for tests."""
    choose_code(for_any)


choose_code(False)
