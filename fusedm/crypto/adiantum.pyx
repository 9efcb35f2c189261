# cython: language_level=3, boundscheck=False, wraparound=False
"""Adiantum, compiled.

A unit is its left part and its last 16 bytes, the right part. The right part gets the hash of the
left one added, goes through the block cipher, and what comes out is the nonce of the keystream that
the left part is xored with; then the hash of the new left part is subtracted. So every bit of the
unit depends on every other. To decrypt is the same with the block cipher's inverse.

Source: the Adiantum paper (Crowley and Biggers 2018), section 2. With XChaCha12, AES-256 and 32
bytes of tweak it is Adiantum of blk-crypto; dm-crypt knows it with XChaCha20 too.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fusedm.block.errors import CryptoError
from fusedm.block.units import SECTOR_SIZE
from fusedm.crypto.compiled cimport CompiledCipher, UnitCipher, run_decrypt, run_encrypt
from fusedm.crypto.evp cimport (
    DATA, Context, EVP_CipherUpdate, Pool, empty, fill, free_context, give_back, sector_shift, take,
)
from fusedm.crypto.numbering cimport IvKind, Numbering, advance, write_iv

cdef extern from "openssl/crypto.h" nogil:
    void OPENSSL_cleanse(void *, size_t)

cdef extern from "openssl/err.h" nogil:
    void ERR_clear_error()

cdef extern from "adiantum_core.h" nogil:
    ctypedef unsigned int wide
    enum:
        BLOCK_KEY
    struct adiantum:
        pass
    void adiantum_derive(adiantum *self, const unsigned char *key, int rounds, unsigned char *aes)
    void choose_code(int for_any)
    wide hash_left(const adiantum *self, const unsigned char *left, size_t length)
    wide hash_tweak(const adiantum *self, const unsigned char *tweak, size_t length)
    void xchacha(const adiantum *self, const unsigned char *nonce, uint64_t end_of_nonce,
                 const unsigned char *source, unsigned char *target, size_t length)

cdef enum:
    KEY_SIZE = 32
    BLOCK = 16
    TWEAK_SIZE = 32
    #: What takes about a third of a millisecond.
    ON_THE_SPOT = 1 << 18

cdef struct Key:
    adiantum parts
    Pool encryption
    Pool decryption

#: The keys are used in turns: their number is a power of two, key_mask one less.
cdef struct State:
    Numbering numbering
    uint64_t key_mask
    Key *keys

#: A state, and the upper half of the numbers that it is used with.
cdef struct Numbered:
    State *state
    uint64_t third, fourth

#: What a lower half of a number is taken out with.
MASK = (1 << 128) - 1

#: IVs of dm-crypt that need no cipher.
_IVS = {
    "plain": IvKind.PLAIN,
    "plain64": IvKind.PLAIN64,
    "plain64be": IvKind.PLAIN64BE,
    "benbi": IvKind.BENBI,
    "null": IvKind.ZERO,
}


cdef class Adiantum(CompiledCipher):
    """A key for contexts; any number of threads may use it at once.

    Numbers have up to 256 bits; those of compiled callers 128.
    Raises: CryptoError: EINVAL for a key of another size, or a unit that is not made of blocks.
    Owns: its keys, overwritten when it goes.
    """

    cdef State state
    cdef Numbered numbered

    def __init__(self, key, size_t data_unit_size):
        self.state.numbering.kind, self.state.numbering.step = IvKind.DUN, 1
        self.prepare([key], 12, data_unit_size, data_unit_size)

    def __dealloc__(self):
        cdef size_t index
        if self.state.keys:
            for index in range(self.state.key_mask + 1):
                empty(&self.state.keys[index].encryption)
                empty(&self.state.keys[index].decryption)
            OPENSSL_cleanse(self.state.keys, (self.state.key_mask + 1) * sizeof(Key))
            free(self.state.keys)

    def encrypt(self, dun, src, dst):
        """Encrypt each data unit of src into dst, which may be src."""
        cdef Numbered numbered
        cdef UnitCipher units
        run_encrypt(self.numbered_from(dun, &numbered, &units), dun & MASK, src, dst)

    def decrypt(self, dun, src, dst):
        """Decrypt each data unit of src into dst, which may be src."""
        cdef Numbered numbered
        cdef UnitCipher units
        run_decrypt(
            self.numbered_from(dun, &numbered, &units), dun & MASK, src, dst, self.keeps_zeros
        )

    cdef UnitCipher *numbered_from(
        self, object dun, Numbered *numbered, UnitCipher *units
    ) except NULL:
        """This cipher as it is for numbers with the upper half of this one's."""
        upper = dun >> 128
        if not upper or self.state.numbering.kind != IvKind.DUN:
            return &self.units
        numbered.state = &self.state
        numbered.third, numbered.fourth = upper & 0xFFFFFFFFFFFFFFFF, upper >> 64
        units[0] = self.units
        units.state = numbered
        return units

    cdef int prepare(self, keys, int rounds, size_t unit, size_t stride) except -1:
        """Derive the keys; they are a power of two."""
        cdef size_t index
        if self.state.keys:
            raise TypeError("a cipher is given its keys once")
        if unit % BLOCK or unit < 2 * BLOCK:
            raise CryptoError(f"data_unit_size {unit} is not a multiple of {BLOCK}")
        self.state.keys = <Key *>calloc(len(keys), sizeof(Key))
        if not self.state.keys:
            raise MemoryError
        self.state.key_mask = len(keys) - 1
        for index in range(len(keys)):
            derive(&self.state.keys[index], keys[index], rounds)
        self.state.numbering.unit = unit
        self.numbered.state = &self.state
        self.units.state = &self.numbered
        self.units.unit, self.units.stride = unit, stride
        self.units.encrypt, self.units.decrypt = encrypt_units, decrypt_units
        self.bytes_on_the_spot = ON_THE_SPOT
        return 0


cdef class AdiantumSectors(Adiantum):
    """dm-crypt's adiantum with so many rounds; keys are used in turns, by the numbers of sectors."""

    def __init__(self, keys, int rounds, str iv_mode, size_t sector_size, bint counts_large,
                 bint keeps_zeros):
        self.state.numbering.kind = _IVS[iv_mode]
        self.state.numbering.step = sector_size // <size_t>SECTOR_SIZE
        self.state.numbering.shift = sector_shift(sector_size) if counts_large else 0
        self.keeps_zeros = keeps_zeros
        self.prepare(keys, rounds, sector_size, SECTOR_SIZE)


cdef int derive(Key *key, const unsigned char[::1] raw, int rounds) except -1:
    cdef unsigned char block_key[BLOCK_KEY]
    if raw.shape[0] != KEY_SIZE:
        raise CryptoError(f"{raw.shape[0]} bytes of key, Adiantum needs {KEY_SIZE}")
    adiantum_derive(&key.parts, &raw[0], rounds, block_key)
    try:
        of_block = <unsigned char[:BLOCK_KEY]>block_key
        fill(&key.encryption, "AES", "ecb", of_block, False, None, False, True)
        fill(&key.decryption, "AES", "ecb", of_block, False, None, False, False)
    finally:
        OPENSSL_cleanse(block_key, BLOCK_KEY)
    return 0


def use_code_for_any_processor(bint for_any):
    """Whether to do without what the processor has beyond the least of its kind; for tests."""
    choose_code(for_any)


cdef bint encrypt_units(
    void *state, uint64_t low, uint64_t high, const unsigned char *source, unsigned char *target,
    size_t length,
) noexcept nogil:
    return transform(<Numbered *>state, True, low, high, source, target, length)


cdef bint decrypt_units(
    void *state, uint64_t low, uint64_t high, const unsigned char *source, unsigned char *target,
    size_t length,
) noexcept nogil:
    return transform(<Numbered *>state, False, low, high, source, target, length)


cdef bint transform(
    const Numbered *numbered, bint encrypts, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """As UnitTransform: all at once under the only key, else unit by unit."""
    cdef State *state = numbered.state
    cdef size_t at = 0, part = length if not state.key_mask else state.numbering.unit
    while at < length:
        if not transform_under(
            &state.keys[low & state.key_mask], numbered, encrypts, low, high,
            source + at, target + at, part,
        ):
            ERR_clear_error()
            return False
        at += part
        advance(&state.numbering, &low, &high)
    return True


cdef bint transform_under(
    Key *key, const Numbered *numbered, bint encrypts, uint64_t low, uint64_t high,
    const unsigned char *source, unsigned char *target, size_t length,
) noexcept nogil:
    """By a context of a pool for the block cipher; one that failed is not used again."""
    cdef const Numbering *numbering = &numbered.state.numbering
    cdef Pool *pool = &key.encryption if encrypts else &key.decryption
    cdef Context *context = take(pool)
    cdef uint64_t upper[2]
    cdef unsigned char tweak[TWEAK_SIZE]
    cdef size_t at = 0
    if not context:
        return False
    upper[0], upper[1] = numbered.third, numbered.fourth
    while at < length:
        write_iv(numbering, low, high, tweak, TWEAK_SIZE)
        if numbering.kind == IvKind.DUN:
            memcpy(tweak + 16, upper, 16)
        if not transform_unit(
            &key.parts, context, encrypts, tweak, source + at, target + at, numbering.unit
        ):
            free_context(context)
            return False
        at += numbering.unit
        if advance(numbering, &low, &high):
            upper[0] += 1
            if not upper[0]:
                upper[1] += 1
    give_back(pool, context)
    return True


cdef bint transform_unit(
    const adiantum *key, const Context *context, bint encrypts, const unsigned char *tweak,
    const unsigned char *source, unsigned char *target, size_t unit,
) noexcept nogil:
    cdef size_t left = unit - BLOCK
    cdef wide of_tweak = hash_tweak(key, tweak, left)
    cdef wide right
    cdef unsigned char before[BLOCK]
    cdef unsigned char after[BLOCK]
    cdef const unsigned char *nonce = after
    cdef int count = 0
    memcpy(&right, source + left, BLOCK)
    right += of_tweak + hash_left(key, source, left)
    memcpy(before, &right, BLOCK)
    if EVP_CipherUpdate(context.parts[DATA], after, &count, before, BLOCK) != 1:
        return False
    # The nonce is what has gone through the block cipher on the way from plain to coded.
    if not encrypts:
        nonce = before
    xchacha(key, nonce, 1, source, target, left)
    memcpy(&right, after, BLOCK)
    right -= of_tweak + hash_left(key, target, left)
    memcpy(target + left, &right, BLOCK)
    return True


choose_code(False)
