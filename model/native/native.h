// Shared by the files of this folder: vectors of 16 lanes, thread-local scratch memory, and what Python fills in.
//
// For x86 CPUs with AVX-512 VNNI, in the vector extensions of GCC and Clang. A row's result never depends on which
// rows come with it: integer sums are exact, and every float sum has one order.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <immintrin.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define LANES 16
#define UNROLL _Pragma("GCC unroll 16")

typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef float loose_floats __attribute__((vector_size(64), aligned(4), may_alias));

INLINE floats load(const float *from) { return *(const loose_floats *)from; }
INLINE void store(float *to, floats value) { *(loose_floats *)to = value; }
INLINE floats splat(float value) { return value - (floats){0}; }
INLINE floats choose(ints mask, floats yes, floats no) { return (floats)((mask & (ints)yes) | (~mask & (ints)no)); }
INLINE floats largest(floats a, floats b) { return (floats)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE floats smallest(floats a, floats b) { return (floats)_mm512_min_ps((__m512)a, (__m512)b); }

// Keys and values are kept as halves (IEEE binary16), which halves what attention reads.
typedef uint16_t half;
typedef uint16_t halves __attribute__((vector_size(32)));

INLINE floats load_halves(const half *from) {
    return (floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}
INLINE void store_halves(half *to, floats value) {
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT));
}

// the first n of 16 values, then zeros
INLINE floats load_first(const float *from, int64_t n) {
    return (floats)_mm512_maskz_loadu_ps((__mmask16)(n < LANES ? (1u << n) - 1 : 0xffff), from);
}

INLINE void store_first(float *to, floats value, int64_t n) {
    _mm512_mask_storeu_ps(to, (__mmask16)(n < LANES ? (1u << n) - 1 : 0xffff), (__m512)value);
}

// lane i to lane i + 8, the sums to those 4 away, and so on: the one order in which lanes are summed
INLINE float sum_lanes(floats v) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(two) + _mm_cvtss_f32(_mm_movehdup_ps(two));
}

INLINE float max_lanes(floats v) { return _mm512_reduce_max_ps((__m512)v); }

#define MAGIC 12582912.0f  // 1.5 * 2^23: adding it to a float rounds that to a whole number
INLINE ints rounded(floats x) { return (ints)(x + MAGIC) - (ints)splat(MAGIC); }

// The low bytes of 16 values.
INLINE void store_bytes(uint8_t *to, ints values) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)values));
}

// e^x to about 1e-7, 0 below -104 (the coefficients are those of Cephes' expf)
INLINE floats exponential(floats x) {
    x = smallest(largest(x, splat(-128.0f)), splat(88.0f));
    floats whole = x * 1.44269504f + MAGIC - MAGIC;
    floats r = x - whole * 0.693359375f;
    r = r + whole * 2.12194440e-4f;
    floats p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (floats)_mm512_scalef_ps((__m512)p, (__m512)whole);
}

// A matrix [outputs, inputs] of int8 with a scale per output, for activations of 16 or 8 bits. `weight`: [outputs / 32]
// [inputs / 4][32][4], padded with zeros. `sums`: of each output's weights. `limit`: the largest activation whose sums
// cannot overflow 32 bits.
typedef struct {
    const int8_t *weight;
    const float *scale;
    const int32_t *sums;
    int64_t inputs, outputs, bits;
    double limit;
} Linear;

#define OUTPUT_BLOCK 32
#define INPUT_STEP 64  // inputs are padded to a multiple of this

// Activations as integers above the row's zero: a row of bytes each, or one of lower and one of upper bytes. stride in
// bytes.
typedef struct {
    uint8_t *values;
    float *step;
    int32_t *zero;
    int64_t stride;
} Rows;

Rows rows_for(const Linear *linear, int64_t count);
void quantize_row(const Linear *linear, const float *x, Rows to, int64_t row);
void multiply(const Linear *linear, Rows rows, int64_t first, int64_t count, float *out, int64_t out_stride, int add);

typedef struct {
    const float *attention_norm, *mlp_norm;
    Linear qkv, projection, up, down;
} Layer;

typedef struct {
    int64_t n_layer, n_head, n_kv_head, n_embd, head_dim, n_ff;
    const float *norm, *cosine, *sine;  // cosine, sine [positions, head_dim]
    const Layer *layers;
} Transformer;

// Keys and values by layer, slot and head (the strides), then values [position][head_dim] and keys in blocks of 16
// positions: [position / 16][head_dim][16].
typedef struct {
    half *keys, *values;
    int64_t layer_stride, slot_stride, head_stride;
} Cache;

// A head's values [dim] at the position of cosine and sine [dim], times `scale`.
INLINE void rotate(const float *x, const float *cosine, const float *sine, int64_t dim, float scale, float *out) {
    for (int64_t i = 0, middle = dim / 2, n = middle; i < middle; i += LANES, n -= LANES) {
        floats low = load_first(x + i, n), high = load_first(x + i + middle, n);
        floats to_low = (floats)_mm512_fmadd_ps((__m512)low, (__m512)load_first(cosine + i, n),
                                                (__m512)(high * load_first(sine + i, n)));
        floats to_high = (floats)_mm512_fmadd_ps((__m512)high, (__m512)load_first(cosine + i + middle, n),
                                                 (__m512)(low * load_first(sine + i + middle, n)));
        store_first(out + i, to_low * scale, n);
        store_first(out + i + middle, to_high * scale, n);
    }
}

void attend_window(const Transformer *t, const float *mixed, int64_t first, int64_t rows, float *out);
void transformer_rows(const Transformer *t, const Cache *cache, float *x, int64_t rows, int64_t first,
                      const int64_t *slots, const int64_t *positions, const int64_t *visible);
void linear_rows(const Linear *linear, const float *x, int64_t count, float *out, int add);

// How each row draws: see model.sampling. temperature: `temperatures` of each row, one for all codebooks or one for each.
// top_k and top_p may be null.
typedef struct {
    const float *temperature;
    int64_t temperatures;
    const int64_t *keys, *top_k;
    const float *top_p;
} Sampling;

void draw_rows(const float *logits, int64_t rows, int64_t codebooks, int64_t vocab, const Sampling *sampling,
               const int64_t *steps, const double *noise, int64_t *ids);

// Memory of this thread that lasts until it ends; the same `use` gets the same memory, grown when needed.
enum { ROWS, STEPS, ZEROS, NORMED, MIXED, ATTENDED, HIDDEN, SCORES, QUERIES, INPUTS, KEYS, VALUES, WEIGHTS, EMBEDDED, LOGITS, DRAWN, TRANSFORM, SOUND, USES };
void *scratch(int use, size_t bytes);
