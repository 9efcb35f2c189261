# cython: language_level=3, boundscheck=False, wraparound=False
"""Ciphers at line rate: libcrypto's EVP, many data units a call, without the GIL.

A context of libcrypto is made ready for a key and a direction once, and only its IV is set anew for
each data unit. One thread at a time may use a context, so each direction has a pool of them: a
thread takes one out, or makes a copy of one that is never used otherwise, and puts it back. The
places of a pool are taken and filled by atomic exchange: nobody waits, and nobody needs the GIL.
"""

from hashlib import sha256

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fusedm.block.errors import CryptoError
from fusedm.crypto.compiled cimport CompiledCipher

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_CIPHER:
        pass
    ctypedef struct EVP_CIPHER_CTX:
        pass
    EVP_CIPHER_CTX *EVP_CIPHER_CTX_new()
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *)
    int EVP_CIPHER_CTX_copy(EVP_CIPHER_CTX *, const EVP_CIPHER_CTX *)
    int EVP_CIPHER_CTX_set_padding(EVP_CIPHER_CTX *, int)
    int EVP_CipherInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const unsigned char *,
                          const unsigned char *, int)
    int EVP_CipherUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int)
    const EVP_CIPHER *EVP_aes_256_xts()
    const EVP_CIPHER *EVP_aes_128_cbc()
    const EVP_CIPHER *EVP_aes_256_ecb()

cdef extern from "openssl/crypto.h" nogil:
    const char *OpenSSL_version(int)
    enum:
        OPENSSL_VERSION

cdef extern from * nogil:
    """
    static inline void *take_out(void **place)
    {
        if (!__atomic_load_n(place, __ATOMIC_RELAXED))
            return NULL;
        return __atomic_exchange_n(place, NULL, __ATOMIC_ACQUIRE);
    }
    static inline int put_in(void **place, void *thing)
    {
        void *nothing = NULL;
        return !__atomic_load_n(place, __ATOMIC_RELAXED)
            && __atomic_compare_exchange_n(
                place, &nothing, thing, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    }
    """
    void *take_out(void **place)
    bint put_in(void **place, void *thing)

#: The modes EvpCipher knows, by their names in sysfs.
EVP_MODES = frozenset({"AES-256-XTS", "AES-128-CBC-ESSIV"})

cdef enum:
    IV_SIZE = 16
    #: Contexts kept for the next time; as many threads at once copy none. Each is about a kilobyte.
    POOL_SIZE = 16

#: A key made ready for one direction; iv is what makes ESSIV's IVs, or NULL.
cdef struct Context:
    EVP_CIPHER_CTX *data
    EVP_CIPHER_CTX *iv

#: master is only copied.
cdef struct Pool:
    Context *master
    void *spare[POOL_SIZE]

cdef struct State:
    size_t unit
    Pool encryption
    Pool decryption


def libcrypto_version():
    """The version of the libcrypto that is loaded, in its own words."""
    return OpenSSL_version(OPENSSL_VERSION).decode()


cdef class EvpCipher(CompiledCipher):
    """A key of one mode and data unit size; any number of threads may use it at once.

    Raises: CryptoError for a mode that is not among EVP_MODES, a key whose size is not the mode's,
            and what libcrypto refuses (XTS keys with equal halves).
    Owns: its contexts; libcrypto overwrites a key schedule when it is freed.
    """

    cdef State state

    def __init__(self, str mode, const unsigned char[::1] key, size_t data_unit_size):
        cdef size_t wanted
        if self.state.unit:
            raise TypeError("a cipher is made ready once")
        if mode not in EVP_MODES:
            raise CryptoError(f"{mode} is none of {', '.join(sorted(EVP_MODES))}")
        wanted = 64 if mode == "AES-256-XTS" else 16
        if <size_t>key.shape[0] != wanted:
            raise CryptoError(f"{key.shape[0]} bytes of key, {mode} needs {wanted}")
        if data_unit_size % IV_SIZE or not data_unit_size:
            raise CryptoError(f"data_unit_size {data_unit_size} is not a multiple of {IV_SIZE}")
        self.state.unit = data_unit_size
        self.state.encryption.master = make_context(mode, key, 1)
        self.state.decryption.master = make_context(mode, key, 0)
        self.units.state = &self.state
        self.units.unit = self.units.stride = data_unit_size
        self.units.encrypt, self.units.decrypt = encrypt_units, decrypt_units

    def __dealloc__(self):
        empty(&self.state.encryption)
        empty(&self.state.decryption)


cdef Context *make_context(str mode, const unsigned char[::1] key, bint encrypts) except NULL:
    cdef Context *context = empty_context(mode != "AES-256-XTS")
    cdef const EVP_CIPHER *kind
    cdef bytes salt
    cdef bint done
    if not context:
        raise MemoryError
    kind = EVP_aes_128_cbc() if context.iv else EVP_aes_256_xts()
    done = EVP_CipherInit_ex(context.data, kind, NULL, &key[0], NULL, encrypts) == 1
    done = done and EVP_CIPHER_CTX_set_padding(context.data, 0) == 1
    if done and context.iv:
        salt = sha256(key).digest()
        done = EVP_CipherInit_ex(
            context.iv, EVP_aes_256_ecb(), NULL,
            <const unsigned char *>PyBytes_AS_STRING(salt), NULL, 1,
        ) == 1
        done = done and EVP_CIPHER_CTX_set_padding(context.iv, 0) == 1
    if not done:
        free_context(context)
        raise CryptoError(f"libcrypto refuses this key for {mode}")
    return context


cdef Context *empty_context(bint has_iv) noexcept nogil:
    """One without a key; NULL if memory is short."""
    cdef Context *context = <Context *>calloc(1, sizeof(Context))
    if not context:
        return NULL
    context.data = EVP_CIPHER_CTX_new()
    if has_iv:
        context.iv = EVP_CIPHER_CTX_new()
    if not context.data or (has_iv and not context.iv):
        free_context(context)
        return NULL
    return context


cdef void free_context(Context *context) noexcept nogil:
    EVP_CIPHER_CTX_free(context.data)
    EVP_CIPHER_CTX_free(context.iv)
    free(context)


cdef Context *take(Pool *pool) noexcept nogil:
    """A context that nobody else has; NULL if libcrypto cannot copy one."""
    cdef const Context *master = pool.master
    cdef Context *context
    cdef bint done
    cdef int index
    for index in range(POOL_SIZE):
        context = <Context *>take_out(&pool.spare[index])
        if context:
            return context
    context = empty_context(master.iv != NULL)
    if not context:
        return NULL
    done = EVP_CIPHER_CTX_copy(context.data, master.data) == 1
    if done and context.iv:
        done = EVP_CIPHER_CTX_copy(context.iv, master.iv) == 1
    if not done:
        free_context(context)
        return NULL
    return context


cdef void give_back(Pool *pool, Context *context) noexcept nogil:
    """Put a context into the pool; one for which there is no place is freed."""
    cdef int index
    for index in range(POOL_SIZE):
        if put_in(&pool.spare[index], context):
            return
    free_context(context)


cdef void empty(Pool *pool) noexcept nogil:
    """Free all contexts of a pool that nobody uses any more."""
    cdef void *context
    cdef int index
    for index in range(POOL_SIZE):
        context = take_out(&pool.spare[index])
        if context:
            free_context(<Context *>context)
    if pool.master:
        free_context(pool.master)
    pool.master = NULL


cdef bint encrypt_units(
    void *state, uint64_t low, uint64_t high, const unsigned char *source, unsigned char *target,
    size_t length,
) noexcept nogil:
    return transform(
        &(<State *>state).encryption, (<State *>state).unit, low, high, source, target, length
    )


cdef bint decrypt_units(
    void *state, uint64_t low, uint64_t high, const unsigned char *source, unsigned char *target,
    size_t length,
) noexcept nogil:
    return transform(
        &(<State *>state).decryption, (<State *>state).unit, low, high, source, target, length
    )


cdef bint transform(
    Pool *pool, size_t unit, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """As UnitTransform, by a context of a pool; one that failed is not used again."""
    cdef Context *context = take(pool)
    cdef bint done
    if not context:
        return False
    done = transform_by(context, unit, low, high, source, target, length)
    if done:
        give_back(pool, context)
    else:
        free_context(context)
    return done


cdef bint transform_by(
    const Context *context, size_t unit, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """Source: the IV is the DUN, little-endian, as in blk_crypto_dun_to_iv."""
    cdef unsigned char iv[IV_SIZE]
    cdef size_t at = 0
    cdef int count = 0
    while at < length:
        memcpy(iv, &low, 8)
        memcpy(iv + 8, &high, 8)
        if context.iv and EVP_CipherUpdate(context.iv, iv, &count, iv, IV_SIZE) != 1:
            return False
        if EVP_CipherInit_ex(context.data, NULL, NULL, NULL, iv, -1) != 1:
            return False
        if EVP_CipherUpdate(context.data, target + at, &count, source + at, <int>unit) != 1:
            return False
        at += unit
        low += 1
        if not low:
            high += 1
    return True
