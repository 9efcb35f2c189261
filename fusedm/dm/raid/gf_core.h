/* Sums of products in GF(2^8), the field of P and Q: bytes are polynomials over two, modulo
 * x^8 + x^4 + x^3 + x^2 + 1 (0x11d), and 2 generates all of them but 0. To add is to xor.
 *
 * Vectors are those of the compiler, so any processor will do. Where the processor has AVX2, which
 * is found out as the module is loaded, code is used that was compiled for it: there both halves of
 * a byte are looked up in tables of 16 products each, 32 bytes at a time.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define FOR_AVX2 __attribute__((target("avx2")))
#endif

/* What a target is added to in one go: it stays in the nearest cache until all sources are done. */
#define PIECE 8192

typedef void add_product_t(
    unsigned char *target, const unsigned char *source, unsigned factor, size_t length);

static inline unsigned product(unsigned a, unsigned b)
{
    unsigned sum = 0;
    for (; b; b >>= 1, a = a << 1 ^ (a & 0x80 ? 0x11d : 0))
        if (b & 1)
            sum ^= a;
    return sum;
}

static inline void add_product_bytes(
    unsigned char *target, const unsigned char *source, unsigned factor, size_t length)
{
    for (size_t at = 0; at < length; at++)
        target[at] ^= product(source[at], factor);
}

/* By doubling, once for each bit of the factor. */
static void add_product_any(
    unsigned char *target, const unsigned char *source, unsigned factor, size_t length)
{
    typedef signed char bytes __attribute__((vector_size(16)));
    size_t at = 0;
    for (; at + sizeof(bytes) <= length; at += sizeof(bytes)) {
        bytes s, t;
        memcpy(&s, source + at, sizeof(s));
        memcpy(&t, target + at, sizeof(t));
        for (unsigned left = factor; left; left >>= 1) {
            if (left & 1)
                t ^= s;
            s = (s + s) ^ ((s < 0) & 0x1d);
        }
        memcpy(target + at, &t, sizeof(t));
    }
    add_product_bytes(target + at, source + at, factor, length - at);
}

#if defined(FOR_AVX2)
FOR_AVX2 static void add_product_avx2(
    unsigned char *target, const unsigned char *source, unsigned factor, size_t length)
{
    unsigned char low[16], high[16];
    for (unsigned digit = 0; digit < 16; digit++)
        low[digit] = product(digit, factor), high[digit] = product(digit << 4, factor);
    const __m256i of_low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)low));
    const __m256i of_high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)high));
    const __m256i digits = _mm256_set1_epi8(15);
    size_t at = 0;
    for (; at + 32 <= length; at += 32) {
        __m256i s = _mm256_loadu_si256((const __m256i *)(source + at));
        __m256i t = _mm256_loadu_si256((const __m256i *)(target + at));
        __m256i a = _mm256_shuffle_epi8(of_low, _mm256_and_si256(s, digits));
        __m256i b = _mm256_shuffle_epi8(
            of_high, _mm256_and_si256(_mm256_srli_epi16(s, 4), digits));
        t = _mm256_xor_si256(t, _mm256_xor_si256(a, b));
        _mm256_storeu_si256((__m256i *)(target + at), t);
    }
    add_product_bytes(target + at, source + at, factor, length - at);
}
#endif

/* The product with 1. */
static void add(unsigned char *target, const unsigned char *source, size_t length)
{
    typedef uint64_t words __attribute__((vector_size(32)));
    size_t at = 0;
    for (; at + sizeof(words) <= length; at += sizeof(words)) {
        words s, t;
        memcpy(&s, source + at, sizeof(s));
        memcpy(&t, target + at, sizeof(t));
        t ^= s;
        memcpy(target + at, &t, sizeof(t));
    }
    for (; at < length; at++)
        target[at] ^= source[at];
}

/* What this processor is given. */
static add_product_t *add_product = add_product_any;

/* Choose the code for this processor, or that for any. */
static void choose_code(int for_any)
{
    add_product = add_product_any;
#if defined(FOR_AVX2)
    if (!for_any && __builtin_cpu_supports("avx2"))
        add_product = add_product_avx2;
#endif
}

/* Make each target the sum of all sources times its factors; those of a target stand together. */
static void sum_products(
    unsigned char **targets, size_t target_count, const unsigned char **sources,
    size_t source_count, const unsigned char *factors, size_t length)
{
    for (size_t at = 0; at < length; at += PIECE) {
        size_t part = length - at < PIECE ? length - at : PIECE;
        for (size_t to = 0; to < target_count; to++)
            memset(targets[to] + at, 0, part);
        for (size_t index = 0; index < source_count; index++)
            for (size_t to = 0; to < target_count; to++) {
                unsigned factor = factors[to * source_count + index];
                if (factor == 1)
                    add(targets[to] + at, sources[index] + at, part);
                else if (factor)
                    add_product(targets[to] + at, sources[index] + at, factor, part);
            }
    }
}
