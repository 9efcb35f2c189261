# cython: language_level=3, boundscheck=False, wraparound=False
"""Sums of products in the field of P and Q, compiled.  See gf_core.h.

All arithmetic of parity is of this one form: P, Q, and what is lost are sums of what is there, each
times a factor. Which factors those are is syndromes.py's.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdlib cimport calloc, free

cdef extern from "gf_core.h" nogil:
    void c_sum_products "sum_products"(
        unsigned char **targets, size_t target_count, const unsigned char **sources,
        size_t source_count, const unsigned char *factors, size_t length)
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
    cdef Py_ssize_t target_count = len(targets), source_count = len(sources)
    cdef Py_ssize_t count = target_count + source_count, taken = 0, length
    cdef bytes all_factors = b"".join(factors)
    cdef const unsigned char *of_sources = all_factors
    cdef Py_buffer *buffers
    cdef void **places
    if len(all_factors) != target_count * source_count:
        raise ValueError(
            f"{len(all_factors)} factors for {target_count} targets of {source_count} sources"
        )
    if not target_count:
        return
    buffers = <Py_buffer *>calloc(count, sizeof(Py_buffer) + sizeof(void *))
    if not buffers:
        raise MemoryError
    places = <void **>(buffers + count)
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
        if length * count < WITHOUT_GIL:
            run(places, target_count, source_count, of_sources, length)
        else:
            with nogil:
                run(places, target_count, source_count, of_sources, length)
    finally:
        for index in range(taken):
            PyBuffer_Release(&buffers[index])
        free(buffers)


cdef void run(
    void **places, Py_ssize_t target_count, Py_ssize_t source_count, const unsigned char *factors,
    Py_ssize_t length,
) noexcept nogil:
    c_sum_products(
        <unsigned char **>places, target_count, <const unsigned char **>(places + target_count),
        source_count, factors, length,
    )


def use_code_for_any_processor(bint for_any):
    """Whether to do without what the processor has beyond the least of its kind; for tests."""
    choose_code(for_any)


choose_code(False)
