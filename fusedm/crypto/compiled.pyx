# cython: language_level=3, boundscheck=False, wraparound=False
"""Ciphers in compiled code: what they have in common, and holes."""

import errno

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memset

from fusedm.block.errors import CryptoError


cdef class CompiledCipher:
    """A key made ready in compiled code; any number of threads may use it at once."""

    @property
    def data_unit_size(self):
        """How many bytes are transformed as one."""
        return self.units.unit

    def encrypt(self, dun, src, dst):
        """Encrypt each data unit of src into dst, which may be src."""
        self.transform(self.units.encrypt, dun, src, dst)

    def decrypt(self, dun, src, dst):
        """Decrypt each data unit of src into dst, which may be src."""
        self.transform(self.units.decrypt, dun, src, dst)

    cdef int transform(self, UnitTransform work, object dun, object src, object dst) except -1:
        cdef uint64_t low = dun & 0xFFFFFFFFFFFFFFFF
        cdef uint64_t high = dun >> 64
        cdef Py_buffer source, target
        cdef bint done = True
        if work == NULL:
            raise TypeError("a cipher of no kind")
        PyObject_GetBuffer(src, &source, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(dst, &target, PyBUF_WRITABLE)
            try:
                if source.len % <Py_ssize_t>self.units.unit or source.len != target.len:
                    text = f"data units of {self.units.unit}"
                    raise CryptoError(f"{source.len} bytes into {target.len}, {text}")
                if source.len:
                    with nogil:
                        done = work(
                            self.units.state, low, high, <const unsigned char *>source.buf,
                            <unsigned char *>target.buf, source.len,
                        )
            finally:
                PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&source)
        if not done:
            raise CryptoError("libcrypto failed", errno.EIO)
        return 0


cdef bint decrypt_with_holes(
    const UnitCipher *cipher, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """Decrypt, but a unit of zeros is a hole and stays zeros."""
    cdef size_t begin = 0, end, unit = cipher.unit
    cdef uint64_t first
    while begin < length:
        end = begin
        while end < length and not is_zero(source + end, unit):
            end += unit
        first = low + begin // cipher.stride
        if end > begin and not cipher.decrypt(
            cipher.state, first, high + (first < low), source + begin, target + begin, end - begin
        ):
            return False
        if end < length:
            memset(target + end, 0, unit)
        begin = end + unit
    return True


cdef bint is_zero(const unsigned char *data, size_t length) noexcept nogil:
    return not data[0] and memcmp(data, data + 1, length - 1) == 0


def is_zero_unit(const unsigned char[::1] data):
    """Whether the data hold nothing but zeros, at least one of them."""
    return data.shape[0] > 0 and is_zero(&data[0], data.shape[0])


def has_zero_unit(const unsigned char[::1] data, size_t unit):
    """Whether any unit of the data, each of so many bytes, holds nothing but zeros."""
    cdef size_t at = 0, length = data.shape[0]
    while at + unit <= length:
        if is_zero(&data[at], unit):
            return True
        at += unit
    return False
