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

/* What is summed up in one go: the sources stay in the nearest cache until all targets are done. */
#define PIECE 4096

/* The products of each factor with the 16 lower and the 16 upper halves of bytes. */
static unsigned char products[256][32];

/* A sum of sources from some byte on: of the first as they are, of the others times a factor. */
typedef void make_sum_t(
    unsigned char *target, const unsigned char **sources, const unsigned char *factors,
    size_t plain, size_t count, size_t at, size_t end);

static inline unsigned product(unsigned a, unsigned b)
{
    unsigned sum = 0;
    for (; b; b >>= 1, a = a << 1 ^ (a & 0x80 ? 0x11d : 0))
        if (b & 1)
            sum ^= a;
    return sum;
}

static void make_sum_bytes(
    unsigned char *target, const unsigned char **sources, const unsigned char *factors,
    size_t plain, size_t count, size_t at, size_t end)
{
    for (; at < end; at++) {
        unsigned char sum = 0;
        for (size_t index = 0; index < count; index++) {
            const unsigned char byte = sources[index][at], *of_it = products[factors[index]];
            sum ^= index < plain ? byte : of_it[byte & 15] ^ of_it[16 + (byte >> 4)];
        }
        target[at] = sum;
    }
}

/* By doubling, once for each bit of the factor. */
static void make_sum_any(
    unsigned char *target, const unsigned char **sources, const unsigned char *factors,
    size_t plain, size_t count, size_t at, size_t end)
{
    typedef signed char bytes __attribute__((vector_size(16)));
    for (; at + sizeof(bytes) <= end; at += sizeof(bytes)) {
        bytes s, t = {0};
        for (size_t index = 0; index < plain; index++) {
            memcpy(&s, sources[index] + at, sizeof(s));
            t ^= s;
        }
        for (size_t index = plain; index < count; index++) {
            memcpy(&s, sources[index] + at, sizeof(s));
            for (unsigned left = factors[index]; left; left >>= 1) {
                if (left & 1)
                    t ^= s;
                s = (s + s) ^ ((s < 0) & 0x1d);
            }
        }
        memcpy(target + at, &t, sizeof(t));
    }
    make_sum_bytes(target, sources, factors, plain, count, at, end);
}

#if defined(FOR_AVX2)
FOR_AVX2 static inline __m256i times(
    __m256i bytes, const unsigned char *of_factor, __m256i digits)
{
    const __m128i *tables = (const __m128i *)of_factor;
    __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128(tables));
    __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128(tables + 1));
    return _mm256_xor_si256(
        _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, digits)),
        _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), digits)));
}

FOR_AVX2 static void make_sum_avx2(
    unsigned char *target, const unsigned char **sources, const unsigned char *factors,
    size_t plain, size_t count, size_t at, size_t end)
{
    const __m256i digits = _mm256_set1_epi8(15);
    for (; at + 64 <= end; at += 64) {
        __m256i t = _mm256_setzero_si256(), u = t;
        for (size_t index = 0; index < plain; index++) {
            const __m256i *s = (const __m256i *)(sources[index] + at);
            t = _mm256_xor_si256(t, _mm256_loadu_si256(s));
            u = _mm256_xor_si256(u, _mm256_loadu_si256(s + 1));
        }
        for (size_t index = plain; index < count; index++) {
            const __m256i *s = (const __m256i *)(sources[index] + at);
            const unsigned char *of_it = products[factors[index]];
            t = _mm256_xor_si256(t, times(_mm256_loadu_si256(s), of_it, digits));
            u = _mm256_xor_si256(u, times(_mm256_loadu_si256(s + 1), of_it, digits));
        }
        _mm256_storeu_si256((__m256i *)(target + at), t);
        _mm256_storeu_si256((__m256i *)(target + at) + 1, u);
    }
    make_sum_bytes(target, sources, factors, plain, count, at, end);
}
#endif

/* What this processor is given. */
static make_sum_t *make_sum = make_sum_any;

/* Choose the code for this processor, or that for any. */
static void choose_code(int for_any)
{
    for (unsigned factor = 0; factor < 256; factor++)
        for (unsigned digit = 0; digit < 16; digit++) {
            products[factor][digit] = product(digit, factor);
            products[factor][16 + digit] = product(digit << 4, factor);
        }
    make_sum = make_sum_any;
#if defined(FOR_AVX2)
    if (!for_any && __builtin_cpu_supports("avx2"))
        make_sum = make_sum_avx2;
#endif
}

/* Make each target from one byte to another the sum of all sources times its factors; those of a
 * target stand together. There is room for as many pointers and factors as sources in used. */
static void sum_products(
    unsigned char **targets, size_t target_count, const unsigned char **sources,
    size_t source_count, const unsigned char *factors, size_t begin, size_t end, void *used)
{
    const unsigned char **used_sources = used;
    unsigned char *used_factors = (unsigned char *)(used_sources + source_count);
    for (size_t at = begin; at < end; at += PIECE) {
        size_t to = end - at < PIECE ? end : at + PIECE;
        for (size_t number = 0; number < target_count; number++) {
            const unsigned char *own = factors + number * source_count;
            size_t plain = 0, count;
            for (size_t index = 0; index < source_count; index++)
                if (own[index] == 1)
                    used_sources[plain++] = sources[index];
            count = plain;
            for (size_t index = 0; index < source_count; index++)
                if (own[index] > 1) {
                    used_sources[count] = sources[index];
                    used_factors[count++] = own[index];
                }
            make_sum(targets[number], used_sources, used_factors, plain, count, at, to);
        }
    }
}

/* Whether all bytes are zero. */
static int is_zero(const unsigned char *data, size_t length)
{
    return !length || (!data[0] && !memcmp(data, data + 1, length - 1));
}
