/* Adiantum's parts but the block cipher: XChaCha, NH and Poly1305.
 *
 * Source: the Adiantum paper (Crowley and Biggers 2018), section 2 and appendix A: NH with four
 * passes over messages of 1024 bytes, and Poly1305 without its final addition, cut to 128 bits.
 * ChaCha is D. J. Bernstein's, with a 64-bit counter and a 64-bit nonce.
 *
 * Vectors are those of the compiler, so any processor will do. Where the processor has AVX2, which
 * is found out as the module is loaded, code is used that was compiled for it.
 */

#include <openssl/crypto.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are taken from memory as they are");

#if defined(__x86_64__)
#include <immintrin.h>
#define FOR_AVX2 __attribute__((target("avx2")))
#endif

#define CHUNK 1024
#define STRIDE 16
#define PASSES 4
#define NH_WORDS (CHUNK / 4 + 4 * (PASSES - 1))
#define CHACHA_BLOCK 64
#define MAX_LANES 8

/* A key made ready, all but the block cipher's. */
struct adiantum {
    int rounds;
    uint32_t stream_key[8];
    uint64_t tweak_key[2], message_key[2];
    uint32_t nh_key[NH_WORDS];
};

/* A number below 2^131, in limbs of 64 bits. */
struct poly {
    uint64_t low, high, top;
};

typedef unsigned __int128 wide;

/* ChaCha. */

#define ROTATED(x, by) ((x) << (by) | (x) >> (32 - (by)))
#define QUARTER_ROUND(a, b, c, d) \
    do { \
        a += b, d ^= a, d = ROTATED(d, 16); \
        c += d, b ^= c, b = ROTATED(b, 12); \
        a += b, d ^= a, d = ROTATED(d, 8); \
        c += d, b ^= c, b = ROTATED(b, 7); \
    } while (0)
#define TWO_ROUNDS(x) \
    do { \
        QUARTER_ROUND(x[0], x[4], x[8], x[12]); \
        QUARTER_ROUND(x[1], x[5], x[9], x[13]); \
        QUARTER_ROUND(x[2], x[6], x[10], x[14]); \
        QUARTER_ROUND(x[3], x[7], x[11], x[15]); \
        QUARTER_ROUND(x[0], x[5], x[10], x[15]); \
        QUARTER_ROUND(x[1], x[6], x[11], x[12]); \
        QUARTER_ROUND(x[2], x[7], x[8], x[13]); \
        QUARTER_ROUND(x[3], x[4], x[9], x[14]); \
    } while (0)

static const uint32_t chacha_constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

/* The subkey of a nonce: the first and last row after the rounds. */
static void hchacha(const uint32_t key[8], const unsigned char *nonce, int rounds, uint32_t subkey[8])
{
    uint32_t x[16];
    memcpy(x, chacha_constants, 16);
    memcpy(x + 4, key, 32);
    memcpy(x + 12, nonce, 16);
    for (int round = 0; round < rounds; round += 2)
        TWO_ROUNDS(x);
    memcpy(subkey, x, 16);
    memcpy(subkey + 4, x + 12, 16);
}

/* Some blocks of keystream in a row, one in each lane of the vectors. */
#define DEFINE_CHACHA(NAME, LANES, ATTRIBUTE) \
    ATTRIBUTE static void NAME(const uint32_t input[16], int rounds, unsigned char *stream) \
    { \
        typedef uint32_t words __attribute__((vector_size(4 * LANES))); \
        words x[16], zero = {0}, lanes = zero; \
        for (int lane = 0; lane < LANES; lane++) \
            lanes[lane] = lane; \
        for (int word = 0; word < 16; word++) \
            x[word] = zero + input[word]; \
        x[12] += lanes; \
        for (int round = 0; round < rounds; round += 2) \
            TWO_ROUNDS(x); \
        x[12] += lanes; \
        for (int word = 0; word < 16; word++) { \
            x[word] += input[word]; \
            for (int lane = 0; lane < LANES; lane++) { \
                uint32_t one = x[word][lane]; \
                memcpy(stream + CHACHA_BLOCK * lane + 4 * word, &one, 4); \
            } \
        } \
    }

DEFINE_CHACHA(chacha_4, 4, )
#if defined(FOR_AVX2)
DEFINE_CHACHA(chacha_8, 8, FOR_AVX2)
#endif

/* NH. */

static void nh_any(const uint32_t *key, const unsigned char *message, size_t length, uint64_t sums[])
{
    for (; length; length -= STRIDE, message += STRIDE, key += STRIDE / 4) {
        uint32_t m[4];
        memcpy(m, message, STRIDE);
        for (int pass = 0; pass < PASSES; pass++) {
            const uint32_t *k = key + 4 * pass;
            sums[pass] += (uint64_t)(m[0] + k[0]) * (uint32_t)(m[2] + k[2]);
            sums[pass] += (uint64_t)(m[1] + k[1]) * (uint32_t)(m[3] + k[3]);
        }
    }
}

#if defined(FOR_AVX2)
/* Two strides at a time. */
FOR_AVX2 static void nh_avx2(
    const uint32_t *key, const unsigned char *message, size_t length, uint64_t sums[])
{
    __m256i sum[PASSES];
    for (int pass = 0; pass < PASSES; pass++)
        sum[pass] = _mm256_setzero_si256();
    for (; length >= 2 * STRIDE; length -= 2 * STRIDE, message += 2 * STRIDE, key += STRIDE / 2) {
        __m256i m = _mm256_loadu_si256((const __m256i *)message);
        for (int pass = 0; pass < PASSES; pass++) {
            __m256i t = _mm256_add_epi32(m, _mm256_loadu_si256((const __m256i *)(key + 4 * pass)));
            __m256i product = _mm256_mul_epu32(
                _mm256_shuffle_epi32(t, 0x10), _mm256_shuffle_epi32(t, 0x32));
            sum[pass] = _mm256_add_epi64(sum[pass], product);
        }
    }
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t part[4];
        memcpy(part, &sum[pass], sizeof(part));
        sums[pass] += part[0] + part[1] + part[2] + part[3];
    }
    nh_any(key, message, length, sums);
}
#endif

/* What this processor is given. */
static int chacha_lanes = 4;
static void (*chacha)(const uint32_t input[16], int rounds, unsigned char *stream) = chacha_4;
static void (*nh)(
    const uint32_t *key, const unsigned char *message, size_t length, uint64_t sums[]) = nh_any;

/* Choose the code for this processor, or that for any. */
static void choose_code(int for_any)
{
    chacha_lanes = 4, chacha = chacha_4, nh = nh_any;
#if defined(FOR_AVX2)
    if (!for_any && __builtin_cpu_supports("avx2"))
        chacha_lanes = 8, chacha = chacha_8, nh = nh_avx2;
#endif
}

/* The keystream of XChaCha under a nonce (whose last 16 bytes are 1, 0), xored with source. */
static void xchacha(
    const struct adiantum *self, const unsigned char *nonce, uint64_t end_of_nonce,
    const unsigned char *source, unsigned char *target, size_t length)
{
    unsigned char stream[CHACHA_BLOCK * MAX_LANES];
    uint32_t input[16];
    memcpy(input, chacha_constants, 16);
    hchacha(self->stream_key, nonce, self->rounds, input + 4);
    input[12] = input[13] = 0;
    memcpy(input + 14, &end_of_nonce, 8);
    while (length) {
        size_t part = (size_t)CHACHA_BLOCK * chacha_lanes;
        chacha(input, self->rounds, stream);
        if (part > length)
            part = length;
        for (size_t at = 0; at < part; at += STRIDE) {
            uint64_t a[2], b[2];
            memcpy(a, source + at, STRIDE);
            memcpy(b, stream + at, STRIDE);
            a[0] ^= b[0], a[1] ^= b[1];
            memcpy(target + at, a, STRIDE);
        }
        source += part, target += part, length -= part;
        input[12] += chacha_lanes;
    }
}

/* Poly1305. */

/* Add a block of 16 bytes and 2^128, and multiply, modulo 2^130 - 5. */
static inline void poly_add(struct poly *sum, const uint64_t key[2], uint64_t low, uint64_t high)
{
    /* 5/4 of the key's upper half, whose two lowest bits are clear: 2^128 counts as 5/4. */
    const uint64_t folded = key[1] + (key[1] >> 2);
    wide d0, d1, carry = (wide)sum->low + low;
    uint64_t h0 = (uint64_t)carry, h1, h2;
    carry = (wide)sum->high + high + (uint64_t)(carry >> 64);
    h1 = (uint64_t)carry;
    h2 = sum->top + 1 + (uint64_t)(carry >> 64);
    d0 = (wide)h0 * key[0] + (wide)h1 * folded;
    d1 = (wide)h0 * key[1] + (wide)h1 * key[0] + (wide)(h2 * folded);
    d1 += (uint64_t)(d0 >> 64);
    h2 = h2 * key[0] + (uint64_t)(d1 >> 64);
    /* What is above 2^130 counts five times. */
    carry = (wide)(uint64_t)d0 + (h2 >> 2) + (h2 & ~(uint64_t)3);
    sum->low = (uint64_t)carry;
    carry = (wide)(uint64_t)d1 + (uint64_t)(carry >> 64);
    sum->high = (uint64_t)carry;
    sum->top = (h2 & 3) + (uint64_t)(carry >> 64);
}

/* The sum modulo the prime, without what is above 2^128. */
static inline wide poly_end(const struct poly *sum)
{
    wide value = (wide)sum->high << 64 | sum->low;
    /* top is at most 4: once more down, then whether the prime can be taken away. */
    uint64_t top = sum->top & 3, over = sum->top >> 2;
    value += 5 * over;
    top += value < 5 * over;
    wide less = value + 5;
    uint64_t carry = top + (less < 5);
    wide mask = -(wide)(carry >> 2);
    return (less & mask) | (value & ~mask);
}

/* The hash of the left part of a unit; length is a multiple of 16. */
static wide hash_left(const struct adiantum *self, const unsigned char *left, size_t length)
{
    struct poly sum = {0, 0, 0};
    while (length) {
        uint64_t sums[PASSES] = {0};
        size_t part = length < CHUNK ? length : CHUNK;
        nh(self->nh_key, left, part, sums);
        poly_add(&sum, self->message_key, sums[0], sums[1]);
        poly_add(&sum, self->message_key, sums[2], sums[3]);
        left += part, length -= part;
    }
    return poly_end(&sum);
}

/* The hash of a tweak of 32 bytes and the length of the left part. */
static wide hash_tweak(const struct adiantum *self, const unsigned char *tweak, size_t length)
{
    struct poly sum = {0, 0, 0};
    uint64_t words[4];
    memcpy(words, tweak, 32);
    poly_add(&sum, self->tweak_key, 8 * (uint64_t)length, 0);
    poly_add(&sum, self->tweak_key, words[0], words[1]);
    poly_add(&sum, self->tweak_key, words[2], words[3]);
    return poly_end(&sum);
}

/* Keys. */

#define BLOCK_KEY 32

/* Derive all keys from one of 32 bytes, the block cipher's into block_key. */
static void adiantum_derive(
    struct adiantum *self, const unsigned char *key, int rounds, unsigned char *block_key)
{
    static const unsigned char nonce[16] = {1};
    unsigned char derived[BLOCK_KEY + 32 + sizeof(self->nh_key)];
    self->rounds = rounds;
    memcpy(self->stream_key, key, sizeof(self->stream_key));
    memset(derived, 0, sizeof(derived));
    xchacha(self, nonce, 0, derived, derived, sizeof(derived));
    memcpy(block_key, derived, BLOCK_KEY);
    memcpy(self->tweak_key, derived + BLOCK_KEY, 16);
    memcpy(self->message_key, derived + BLOCK_KEY + 16, 16);
    memcpy(self->nh_key, derived + BLOCK_KEY + 32, sizeof(self->nh_key));
    for (int half = 0; half < 2; half++) {
        const uint64_t clear = half ? 0x0ffffffc0ffffffc : 0x0ffffffc0fffffff;
        self->tweak_key[half] &= clear;
        self->message_key[half] &= clear;
    }
    OPENSSL_cleanse(derived, sizeof(derived));
}
