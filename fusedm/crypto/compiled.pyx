# cython: language_level=3, boundscheck=False, wraparound=False
"""Ciphers in compiled code: what they have in common, and holes."""

import errno

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport SIZE_MAX, uint64_t
from libc.string cimport memcmp, memset

from fusedm.block.errors import CryptoError


cdef class CompiledCipher:
    """A key made ready in compiled code; any number of threads may use it at once.

    With keeps_zeros a unit of zeros is a hole, and is not decrypted. A cipher much slower than
    copying says how many bytes it may be given where nobody should have to wait.
    """

    def __cinit__(self):
        self.bytes_on_the_spot = SIZE_MAX

    @property
    def data_unit_size(self):
        """How many bytes are transformed as one."""
        return self.units.unit

    def is_slow(self, size_t length_bytes):
        """Whether transforming so much belongs in a worker thread."""
        return length_bytes > self.bytes_on_the_spot

    def encrypt(self, dun, src, dst):
        """Encrypt each data unit of src into dst, which may be src."""
        run_encrypt(&self.units, dun, src, dst)

    def decrypt(self, dun, src, dst):
        """Decrypt each data unit of src into dst, which may be src."""
        run_decrypt(&self.units, dun, src, dst, self.keeps_zeros)


cdef int run_encrypt(const UnitCipher *cipher, object number, object src, object dst) except -1:
    """Encrypt src into dst for a caller in Python.

    Raises: CryptoError: EINVAL for lengths that do not fit, EIO if libcrypto fails.
            OverflowError for a number of more than 128 bits.
    """
    return run(cipher, True, number, src, dst, False)


cdef int run_decrypt(
    const UnitCipher *cipher, object number, object src, object dst, bint keeps_zeros
) except -1:
    """The same for decrypting, perhaps all but zeros."""
    return run(cipher, False, number, src, dst, keeps_zeros)


cdef int run(
    const UnitCipher *cipher, bint encrypts, object number, object src, object dst,
    bint keeps_zeros,
) except -1:
    cdef uint64_t low = number & 0xFFFFFFFFFFFFFFFF
    cdef uint64_t high = number >> 64
    cdef Py_buffer source, target
    cdef bint done = True
    if cipher.unit == 0:
        raise TypeError("this cipher was given no key")
    PyObject_GetBuffer(src, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(dst, &target, PyBUF_WRITABLE)
        try:
            if source.len % <Py_ssize_t>cipher.unit or source.len != target.len:
                text = f"data units of {cipher.unit}"
                raise CryptoError(f"{source.len} bytes into {target.len}, {text}")
            with nogil:
                done = carry_out(
                    cipher, encrypts, low, high, <const unsigned char *>source.buf,
                    <unsigned char *>target.buf, source.len, keeps_zeros,
                )
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    if not done:
        raise CryptoError("libcrypto failed", errno.EIO)
    return 0


cdef bint carry_out(
    const UnitCipher *cipher, bint encrypts, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length, bint keeps_zeros,
) noexcept nogil:
    if encrypts:
        return cipher.encrypt(cipher.state, low, high, source, target, length)
    if keeps_zeros:
        return decrypt_with_holes(cipher, low, high, source, target, length)
    return cipher.decrypt(cipher.state, low, high, source, target, length)


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
