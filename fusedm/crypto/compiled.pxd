"""What ciphers look like to compiled code, which calls them without the GIL."""

from libc.stdint cimport uint64_t

#: Transform whole units, the first with number high * 2**64 + low; target may be source.
#: Returns: False if libcrypto failed, and what is in target then is neither.
ctypedef bint (*UnitTransform)(
    void *state, uint64_t low, uint64_t high, const unsigned char *source, unsigned char *target,
    size_t length,
) noexcept nogil

#: A key made ready, for any number of threads at once. Units: bytes; lengths are multiples of unit.
#: Lives: as long as the CompiledCipher it is part of.
cdef struct UnitCipher:
    void *state
    #: What is transformed as one, and what lies between two numbers: unit, or 512 for sectors.
    size_t unit
    size_t stride
    UnitTransform encrypt
    UnitTransform decrypt


cdef class CompiledCipher:
    cdef UnitCipher units
    cdef readonly bint keeps_zeros
    cdef size_t bytes_on_the_spot


cdef int run_encrypt(const UnitCipher *cipher, object number, object src, object dst) except -1
cdef int run_decrypt(
    const UnitCipher *cipher, object number, object src, object dst, bint keeps_zeros
) except -1
cdef bint decrypt_with_holes(
    const UnitCipher *cipher, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil
cdef bint is_zero(const unsigned char *data, size_t length) noexcept nogil
