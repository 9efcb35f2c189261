"""What other compiled modules may use of evp.pyx: contexts of libcrypto, in pools."""

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_CIPHER_CTX:
        pass
    int EVP_CipherUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int)

cdef enum:
    #: Contexts kept for the next time; as many threads at once copy none. Each is about a kilobyte.
    POOL_SIZE = 16

#: What a context of libcrypto is for.
cdef enum:
    DATA
    #: The first mask of XTS_OF_BLOCKS.
    TWEAK
    #: An IV is encrypted where there is one of these; by two, as a block of zeros is under XTS.
    IV
    IV_TWEAK
    PARTS

#: A key made ready for one direction; a part that there is no use for is NULL.
cdef struct Context:
    EVP_CIPHER_CTX *parts[PARTS]

#: master is only copied.
cdef struct Pool:
    Context *master
    void *spare[POOL_SIZE]


cdef int fill(
    Pool *pool, str block, str chain, key, bint of_blocks, iv_key, bint iv_by_xts, bint encrypts
) except -1
cdef Context *take(Pool *pool) noexcept nogil
cdef void give_back(Pool *pool, Context *context) noexcept nogil
cdef void free_context(Context *context) noexcept nogil
cdef void empty(Pool *pool) noexcept nogil
cdef int sector_shift(sector_size) except -1
