"""What other compiled modules may use of evp.pyx."""

from libc.stdint cimport uint64_t

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_CIPHER_CTX:
        pass


cdef class Context:
    cdef EVP_CIPHER_CTX *data
    cdef EVP_CIPHER_CTX *iv


cdef class EvpCipher:
    cdef readonly size_t data_unit_size
    cdef Context _encryption
    cdef Context _decryption
    cdef list _spare_encryptions
    cdef list _spare_decryptions
    cdef int _run(
        self, bint encrypts, object dun, const unsigned char[::1] src, unsigned char[::1] dst
    ) except -1
    cdef Context take(self, bint encrypts)
    cdef void give_back(self, Context context, bint encrypts)


cdef bint transform_units(
    EVP_CIPHER_CTX *data, EVP_CIPHER_CTX *iv_maker, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length, size_t unit,
) noexcept nogil
cdef bint decrypt_units(
    EVP_CIPHER_CTX *data, EVP_CIPHER_CTX *iv_maker, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length, size_t unit,
) noexcept nogil
cdef bint is_zero(const unsigned char *data, size_t length) noexcept nogil
