# cython: language_level=3, boundscheck=False, wraparound=False
"""Ciphers at line rate: libcrypto's EVP, many units a call, without the GIL.

A context of libcrypto is made ready for a key and a direction once, and only its IV is set anew for
each unit. One thread at a time may use a context, so each direction has a pool of them: a thread
takes one out, or makes a copy of one that is never used otherwise, and puts it back. The places of
a pool are taken and filled by atomic exchange: nobody waits, and nobody needs the GIL.

XTS is libcrypto's where it has it and takes the key. Else (SM4, AES-192, keys of equal halves) it
is made here of the block cipher: all blocks of a unit in one call, masks before and after.
"""

import errno
from hashlib import sha256

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fusedm.block.errors import CryptoError
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto.compiled cimport CompiledCipher
from fusedm.crypto.numbering cimport IvKind, Numbering, advance, write_iv

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_CIPHER:
        pass
    EVP_CIPHER *EVP_CIPHER_fetch(void *, const char *, const char *)
    void EVP_CIPHER_free(EVP_CIPHER *)
    EVP_CIPHER_CTX *EVP_CIPHER_CTX_new()
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *)
    int EVP_CIPHER_CTX_copy(EVP_CIPHER_CTX *, const EVP_CIPHER_CTX *)
    int EVP_CIPHER_CTX_set_padding(EVP_CIPHER_CTX *, int)
    int EVP_CipherInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const unsigned char *,
                          const unsigned char *, int)
    int EVP_CipherUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int)

cdef extern from "openssl/crypto.h" nogil:
    const char *OpenSSL_version(int)
    enum:
        OPENSSL_VERSION

cdef extern from "openssl/err.h" nogil:
    void ERR_clear_error()

cdef extern from * nogil:
    """
    static inline void *take_out(void **place)
    {
        if (!__atomic_load_n(place, __ATOMIC_RELAXED))
            return NULL;
        return __atomic_exchange_n(place, NULL, __ATOMIC_ACQUIRE);
    }
    static inline void exclusive_or(
        unsigned char *target, const unsigned char *left, const unsigned char *right, size_t length)
    {
        for (size_t at = 0; at < length; at += 16) {
            uint64_t a[2], b[2];
            memcpy(a, left + at, 16);
            memcpy(b, right + at, 16);
            a[0] ^= b[0];
            a[1] ^= b[1];
            memcpy(target + at, a, 16);
        }
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
    void exclusive_or(
        unsigned char *target, const unsigned char *left, const unsigned char *right, size_t length)

cdef enum:
    BLOCK = 16
    #: Words of masks made in one go: with their data they fit the smallest cache.
    MASK_WORDS = 512

cdef enum Chain:
    #: XTS and CBC of libcrypto.
    OF_LIBRARY
    XTS_OF_BLOCKS
    ECB

cdef struct Key:
    Pool encryption
    Pool decryption

#: The keys are used in turns: their number is a power of two, key_mask one less.
cdef struct State:
    Chain chain
    Numbering numbering
    uint64_t key_mask
    Key *keys

#: The modes EvpCipher knows, by their names in sysfs: block cipher, chaining mode, bytes of key.
EVP_MODES = {
    "AES-256-XTS": ("AES", "xts", 64),
    "AES-128-CBC-ESSIV": ("AES", "cbc", 16),
    "SM4-XTS": ("SM4", "xts", 32),
}

#: How the names of dm-crypt make an IV, before it is encrypted, if it is.
_IVS = {
    "plain": IvKind.PLAIN,
    "plain64": IvKind.PLAIN64,
    "plain64be": IvKind.PLAIN64BE,
    "essiv": IvKind.PLAIN64,
    "benbi": IvKind.BENBI,
    "eboiv": IvKind.EBOIV,
    "null": IvKind.ZERO,
    "": IvKind.ZERO,
}


def libcrypto_version():
    """The version of the libcrypto that is loaded, in its own words."""
    return OpenSSL_version(OPENSSL_VERSION).decode()


cdef class Evp(CompiledCipher):
    """What both kinds below have in common.

    Owns: its contexts; libcrypto overwrites a key schedule when it is freed.
    """

    cdef State state

    def __dealloc__(self):
        cdef size_t index
        if self.state.keys:
            for index in range(self.state.key_mask + 1):
                empty(&self.state.keys[index].encryption)
                empty(&self.state.keys[index].decryption)
            free(self.state.keys)

    cdef int prepare(
        self, str block, str chain, keys, iv_keys, size_t unit, size_t stride
    ) except -1:
        """Make contexts; keys are a power of two, and have an iv_key each or there are none.

        Raises: CryptoError: EINVAL for a size that is none of the block cipher's, or a unit that is
                not made of blocks; ENOPKG for a cipher that the library lacks.
        """
        cdef size_t index
        cdef Key *key
        if self.state.keys:
            raise TypeError("a cipher is given its keys once")
        if unit % BLOCK or not unit:
            raise CryptoError(f"data_unit_size {unit} is not a multiple of {BLOCK}")
        self.state.numbering.unit = unit
        self.state.chain = ECB if chain == "ecb" else OF_LIBRARY
        of_blocks = chain == "xts" and (block != "AES" or any(map(is_refused, keys)))
        if of_blocks:
            self.state.chain = XTS_OF_BLOCKS
        by_xts = chain == "xts" and self.state.numbering.kind == IvKind.EBOIV
        self.state.keys = <Key *>calloc(len(keys), sizeof(Key))
        if not self.state.keys:
            raise MemoryError
        self.state.key_mask = len(keys) - 1
        for index in range(len(keys)):
            key = &self.state.keys[index]
            iv_key = iv_keys[index] if iv_keys else None
            fill(&key.encryption, block, chain, keys[index], of_blocks, iv_key, by_xts, True)
            fill(&key.decryption, block, chain, keys[index], of_blocks, iv_key, by_xts, False)
        self.units.state = &self.state
        self.units.unit, self.units.stride = unit, stride
        self.units.encrypt, self.units.decrypt = encrypt_units, decrypt_units
        return 0


cdef class EvpCipher(Evp):
    """A key of one mode and data unit size, for contexts; any number of threads may use it at once.

    Raises: CryptoError: EINVAL for a mode that is not among EVP_MODES and a key whose size is not
            the mode's; ENOPKG for a block cipher that the library lacks.
    """

    def __init__(self, str mode, key, size_t data_unit_size):
        if mode not in EVP_MODES:
            raise CryptoError(f"{mode} is none of {', '.join(sorted(EVP_MODES))}")
        block, chain, wanted = EVP_MODES[mode]
        if len(key) != wanted:
            raise CryptoError(f"{len(key)} bytes of key, {mode} needs {wanted}")
        self.state.numbering.kind, self.state.numbering.step = IvKind.DUN, 1
        iv_keys = [sha256(key).digest()] if chain == "cbc" else []
        self.prepare(block, chain, [memoryview(key)], iv_keys, data_unit_size, data_unit_size)


cdef class EvpSectors(Evp):
    """A cipher of dm-crypt over AES; keys are used in turns, by the numbers of sectors.

    iv_keys are those of AES that the IVs of each key are encrypted with, of the size of keys for XTS
    if they are encrypted as data are; there may be none.
    Raises: CryptoError as prepare.
    """

    def __init__(self, str chain, keys, str iv_mode, iv_keys, size_t sector_size,
                 bint counts_large, bint keeps_zeros):
        cdef size_t step = sector_size // SECTOR_SIZE
        self.state.numbering.kind = _IVS[iv_mode]
        self.state.numbering.step = step
        self.state.numbering.shift = sector_shift(sector_size) if counts_large else 0
        self.keeps_zeros = keeps_zeros
        self.prepare("AES", chain, keys, iv_keys, sector_size, SECTOR_SIZE)


cdef int sector_shift(sector_size) except -1:
    """What leads from numbers that count 512 bytes to those that count sectors."""
    return (sector_size // SECTOR_SIZE).bit_length() - 1


def is_refused(key):
    """Whether libcrypto does no XTS under a key."""
    half = len(key) // 2
    return half == 24 or key[:half] == key[half:]


cdef int fill(
    Pool *pool, str block, str chain, key, bint of_blocks, iv_key, bint iv_by_xts, bint encrypts
) except -1:
    """Make the master of a pool; of_blocks is for an XTS that the library does not do.

    iv_key is None where IVs are not encrypted; else they are as a block, or as zeros by XTS.
    """
    cdef Context *context = <Context *>calloc(1, sizeof(Context))
    if not context:
        raise MemoryError
    pool.master = context
    half = len(key) // 2
    if of_blocks:
        context.parts[DATA] = make(block, "ECB", key[:half], half, encrypts)
        context.parts[TWEAK] = make(block, "ECB", key[half:], half, True)
    else:
        size = half if chain == "xts" else len(key)
        context.parts[DATA] = make(block, chain.upper(), key, size, encrypts)
    if iv_key is None:
        return 0
    size = len(iv_key)
    if iv_by_xts:
        size //= 2
        context.parts[IV_TWEAK] = make("AES", "ECB", iv_key[size:], size, True)
    context.parts[IV] = make("AES", "ECB", iv_key, size, True)
    return 0


cdef EVP_CIPHER_CTX *make(
    str block, str chain, const unsigned char[::1] key, size_t size, bint encrypts
) except NULL:
    """A context under a key; size is what the block cipher has of it."""
    cdef EVP_CIPHER *cipher
    cdef EVP_CIPHER_CTX *context
    cdef bint done
    cdef bytes name
    if size not in (16, 24, 32):
        raise CryptoError(f"{size} bytes are no key of {block}")
    name = (f"{block}-{size * 8}-{chain}" if block == "AES" else f"{block}-{chain}").encode()
    cipher = EVP_CIPHER_fetch(NULL, name, NULL)
    if not cipher:
        ERR_clear_error()
        raise CryptoError(f"OpenSSL was built without {name.decode()}", errno.ENOPKG)
    context = EVP_CIPHER_CTX_new()
    done = context and EVP_CipherInit_ex(context, cipher, NULL, &key[0], NULL, encrypts) == 1
    done = done and EVP_CIPHER_CTX_set_padding(context, 0) == 1
    EVP_CIPHER_free(cipher)
    if not done:
        EVP_CIPHER_CTX_free(context)
        raise CryptoError(f"libcrypto refuses this key for {name.decode()}")
    return context


cdef void free_context(Context *context) noexcept nogil:
    cdef int part
    for part in range(PARTS):
        EVP_CIPHER_CTX_free(context.parts[part])
    free(context)


cdef Context *take(Pool *pool) noexcept nogil:
    """A context that nobody else has; NULL if libcrypto cannot copy one."""
    cdef Context *context
    cdef int index
    for index in range(POOL_SIZE):
        context = <Context *>take_out(&pool.spare[index])
        if context:
            return context
    return copy_of(pool.master)


cdef Context *copy_of(const Context *other) noexcept nogil:
    cdef Context *context = <Context *>calloc(1, sizeof(Context))
    cdef int part
    if not context:
        return NULL
    for part in range(PARTS):
        if not other.parts[part]:
            continue
        context.parts[part] = EVP_CIPHER_CTX_new()
        if not context.parts[part] or (
            EVP_CIPHER_CTX_copy(context.parts[part], other.parts[part]) != 1
        ):
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
    """Free all contexts of a pool, which nobody uses any more."""
    cdef int index
    for index in range(POOL_SIZE):
        if pool.spare[index]:
            free_context(<Context *>pool.spare[index])
    if pool.master:
        free_context(pool.master)


cdef bint encrypt_units(
    void *state, uint64_t low, uint64_t high, const unsigned char *source, unsigned char *target,
    size_t length,
) noexcept nogil:
    return transform(<State *>state, True, low, high, source, target, length)


cdef bint decrypt_units(
    void *state, uint64_t low, uint64_t high, const unsigned char *source, unsigned char *target,
    size_t length,
) noexcept nogil:
    return transform(<State *>state, False, low, high, source, target, length)


cdef bint transform(
    const State *state, bint encrypts, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """As UnitTransform: all at once under the only key, else unit by unit."""
    cdef size_t at = 0, part = length if not state.key_mask else state.numbering.unit
    cdef Key *key
    while at < length:
        key = &state.keys[low & state.key_mask]
        if not transform_by_pool(
            &key.encryption if encrypts else &key.decryption, state, low, high,
            source + at, target + at, part,
        ):
            return False
        at += part
        advance(&state.numbering, &low, &high)
    return True


cdef bint transform_by_pool(
    Pool *pool, const State *state, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """By a context of a pool; one that failed is not used again."""
    cdef Context *context = take(pool)
    if not context:
        ERR_clear_error()
        return False
    if transform_by(context, state, low, high, source, target, length):
        give_back(pool, context)
        return True
    free_context(context)
    ERR_clear_error()
    return False


cdef bint transform_by(
    const Context *context, const State *state, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    cdef EVP_CIPHER_CTX *data = context.parts[DATA]
    cdef size_t at = 0, unit = state.numbering.unit
    cdef unsigned char iv[BLOCK]
    cdef int count = 0
    while at < length:
        write_iv(&state.numbering, low, high, iv, BLOCK)
        if context.parts[IV] and not encrypt_iv(context, iv):
            return False
        if state.chain == XTS_OF_BLOCKS:
            if not xts_of_blocks(context, iv, source + at, target + at, unit):
                return False
        else:
            if state.chain != ECB and EVP_CipherInit_ex(data, NULL, NULL, NULL, iv, -1) != 1:
                return False
            if EVP_CipherUpdate(data, target + at, &count, source + at, <int>unit) != 1:
                return False
        at += unit
        advance(&state.numbering, &low, &high)
    return True


cdef bint encrypt_iv(const Context *context, unsigned char *iv) noexcept nogil:
    """Encrypt an IV: as a block, or as XTS encrypts a block of zeros under it."""
    cdef uint64_t words[2]
    cdef uint64_t masks[2]
    cdef int count = 0
    cdef EVP_CIPHER_CTX *tweak = context.parts[IV_TWEAK]
    if tweak and EVP_CipherUpdate(tweak, iv, &count, iv, BLOCK) != 1:
        return False
    memcpy(masks, iv, BLOCK)
    if EVP_CipherUpdate(context.parts[IV], iv, &count, iv, BLOCK) != 1:
        return False
    if tweak:
        memcpy(words, iv, BLOCK)
        words[0] ^= masks[0]
        words[1] ^= masks[1]
        memcpy(iv, words, BLOCK)
    return True


cdef bint xts_of_blocks(
    const Context *context, const unsigned char *iv,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """Each block is E(block ^ T) ^ T; T is the IV under the second key, doubled for each block.

    Source: IEEE 1619, clause 5.3.2, for whole blocks.
    """
    cdef uint64_t masks[MASK_WORDS]
    cdef uint64_t low, high, carry
    cdef unsigned char first[BLOCK]
    cdef size_t at = 0, part, index
    cdef int count = 0
    if EVP_CipherUpdate(context.parts[TWEAK], first, &count, iv, BLOCK) != 1:
        return False
    memcpy(&low, first, 8)
    memcpy(&high, first + 8, 8)
    while at < length:
        part = min(length - at, sizeof(masks))
        for index in range(0, part // 8, 2):
            masks[index], masks[index + 1] = low, high
            carry = high >> 63
            high = high << 1 | low >> 63
            low = low << 1 ^ (0x87 if carry else 0)
        exclusive_or(target + at, source + at, <unsigned char *>masks, part)
        if EVP_CipherUpdate(
            context.parts[DATA], target + at, &count, target + at, <int>part
        ) != 1:
            return False
        exclusive_or(target + at, target + at, <unsigned char *>masks, part)
        at += part
    return True
