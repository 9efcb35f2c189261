# cython: language_level=3, boundscheck=False, wraparound=False
"""The engine's ciphers at line rate: libcrypto's EVP, many data units a call, without the GIL.

A context of libcrypto is made ready for a key and a direction once, and only its IV is set anew for
each data unit. One thread at a time may use a context: a second one that comes gets a copy, which
is kept for the next time, so there are never more than threads that transform at once.
"""

import errno
from hashlib import sha256

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

from fusedm.block.errors import CryptoError

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_CIPHER:
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

#: The modes EvpCipher knows, by their names in sysfs.
EVP_MODES = frozenset({"AES-256-XTS", "AES-128-CBC-ESSIV"})

cdef enum:
    IV_SIZE = 16


def libcrypto_version():
    """The version of the libcrypto that is loaded, in its own words."""
    return OpenSSL_version(OPENSSL_VERSION).decode()


cdef class Context:
    """A key made ready for one direction; iv is what makes ESSIV's IVs, or NULL.

    Owns: both contexts of libcrypto, which overwrites the key schedule when they are freed.
    """

    def __cinit__(self):
        self.data = self.iv = NULL

    def __dealloc__(self):
        EVP_CIPHER_CTX_free(self.data)
        EVP_CIPHER_CTX_free(self.iv)


cdef class EvpCipher:
    """A key of one mode and data unit size; any number of threads may use it at once.

    Raises: CryptoError for a mode that is not among EVP_MODES, a key whose size is not the mode's,
            and what libcrypto refuses (XTS keys with equal halves).
    """

    def __init__(self, str mode, const unsigned char[::1] key, size_t data_unit_size):
        cdef size_t wanted
        if mode not in EVP_MODES:
            raise CryptoError(f"{mode} is none of {', '.join(sorted(EVP_MODES))}")
        wanted = 64 if mode == "AES-256-XTS" else 16
        if <size_t>key.shape[0] != wanted:
            raise CryptoError(f"{key.shape[0]} bytes of key, {mode} needs {wanted}")
        if data_unit_size % IV_SIZE or not data_unit_size:
            raise CryptoError(f"data_unit_size {data_unit_size} is not a multiple of {IV_SIZE}")
        self.data_unit_size = data_unit_size
        self._spare_encryptions, self._spare_decryptions = [], []
        self._encryption = make_context(mode, key, 1)
        self._decryption = make_context(mode, key, 0)

    def encrypt(self, object dun, const unsigned char[::1] src, unsigned char[::1] dst):
        """Encrypt each data unit of src into dst, which may be src."""
        self._run(1, dun, src, dst)

    def decrypt(self, object dun, const unsigned char[::1] src, unsigned char[::1] dst):
        """Decrypt each data unit of src into dst, which may be src."""
        self._run(0, dun, src, dst)

    cdef int _run(
        self, bint encrypts, object dun, const unsigned char[::1] src, unsigned char[::1] dst
    ) except -1:
        cdef uint64_t low = dun & 0xFFFFFFFFFFFFFFFF
        cdef uint64_t high = dun >> 64
        cdef size_t length = src.shape[0]
        cdef Context context
        cdef bint done
        if length % self.data_unit_size or length != <size_t>dst.shape[0]:
            raise CryptoError(
                f"{length} bytes into {dst.shape[0]}, data units of {self.data_unit_size}"
            )
        if not length:
            return 0
        context = self.take(encrypts)
        with nogil:
            done = transform_units(
                context.data, context.iv, low, high, &src[0], &dst[0], length,
                self.data_unit_size,
            )
        if not done:  # The context is in an unknown state: it is not used again.
            raise CryptoError("libcrypto failed", errno.EIO)
        self.give_back(context, encrypts)
        return 0

    cdef Context take(self, bint encrypts):
        """A context that nobody else has."""
        cdef list spare = self._spare_encryptions if encrypts else self._spare_decryptions
        if spare:
            return spare.pop()
        return copy_of(self._encryption if encrypts else self._decryption)

    cdef void give_back(self, Context context, bint encrypts):
        (self._spare_encryptions if encrypts else self._spare_decryptions).append(context)


cdef Context make_context(str mode, const unsigned char[::1] key, bint encrypts):
    cdef Context context = empty_context(mode != "AES-256-XTS")
    cdef const EVP_CIPHER *kind = EVP_aes_128_cbc() if context.iv else EVP_aes_256_xts()
    cdef bytes salt
    cdef bint done = EVP_CipherInit_ex(context.data, kind, NULL, &key[0], NULL, encrypts) == 1
    done = done and EVP_CIPHER_CTX_set_padding(context.data, 0) == 1
    if done and context.iv:
        salt = sha256(key).digest()
        done = EVP_CipherInit_ex(
            context.iv, EVP_aes_256_ecb(), NULL,
            <const unsigned char *>PyBytes_AS_STRING(salt), NULL, 1,
        ) == 1
        done = done and EVP_CIPHER_CTX_set_padding(context.iv, 0) == 1
    if not done:
        raise CryptoError(f"libcrypto refuses this key for {mode}")
    return context


cdef Context copy_of(Context other):
    cdef Context context = empty_context(other.iv != NULL)
    cdef bint done = EVP_CIPHER_CTX_copy(context.data, other.data) == 1
    if done and context.iv:
        done = EVP_CIPHER_CTX_copy(context.iv, other.iv) == 1
    if not done:
        raise CryptoError("libcrypto cannot copy a context", errno.ENOMEM)
    return context


cdef Context empty_context(bint has_iv):
    cdef Context context = Context()
    context.data = EVP_CIPHER_CTX_new()
    if has_iv:
        context.iv = EVP_CIPHER_CTX_new()
    if not context.data or (has_iv and not context.iv):
        raise MemoryError
    return context


cdef bint transform_units(
    EVP_CIPHER_CTX *data, EVP_CIPHER_CTX *iv_maker, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length, size_t unit,
) noexcept nogil:
    """Transform whole data units, the first with DUN high * 2**64 + low; False if libcrypto fails.

    Source: the IV is the DUN, little-endian, as in blk_crypto_dun_to_iv.
    """
    cdef unsigned char iv[IV_SIZE]
    cdef size_t done = 0
    cdef int count = 0
    while done < length:
        memcpy(iv, &low, 8)
        memcpy(iv + 8, &high, 8)
        if iv_maker and EVP_CipherUpdate(iv_maker, iv, &count, iv, IV_SIZE) != 1:
            return False
        if EVP_CipherInit_ex(data, NULL, NULL, NULL, iv, -1) != 1:
            return False
        if EVP_CipherUpdate(data, target + done, &count, source + done, <int>unit) != 1:
            return False
        done += unit
        low += 1
        if not low:
            high += 1
    return True


cdef bint decrypt_units(
    EVP_CIPHER_CTX *data, EVP_CIPHER_CTX *iv_maker, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length, size_t unit,
) noexcept nogil:
    """The same, but a data unit of zeros is a hole and stays zeros."""
    cdef size_t begin = 0, end
    cdef uint64_t first
    while begin < length:
        end = begin
        while end < length and not is_zero(source + end, unit):
            end += unit
        first = low + begin // unit
        if end > begin and not transform_units(
            data, iv_maker, first, high + (first < low), source + begin, target + begin,
            end - begin, unit,
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
