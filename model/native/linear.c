// Matrix products with int8 weights and 16-bit activations.
//
// An activation row is rounded to integers once, products are summed in 32 bits without error, and one multiplication per
// output restores the scale. With about 15 bits the weights' 8 decide the accuracy; 8 bits are twice as fast where many
// rows make a product bound by arithmetic. Exact sums have no order: rows alone and together give the same bits, whatever the tiling.
#include "native.h"

void *scratch(int use, size_t bytes) {
    static _Thread_local void *kept[USES];
    static _Thread_local size_t sizes[USES];
    if (sizes[use] < bytes) {
        free(kept[use]);
        size_t size = (bytes + 4095) / 4096 * 4096;
        kept[use] = aligned_alloc(64, size);
        if (!kept[use]) abort();
        sizes[use] = size;
    }
    return kept[use];
}

static int64_t padded_inputs(const Linear *linear) {
    return (linear->inputs + INPUT_STEP - 1) / INPUT_STEP * INPUT_STEP;
}

Rows rows_for(const Linear *linear, int64_t count) {
    Rows rows = {.stride = padded_inputs(linear) * linear->bits / 8};
    rows.values = scratch(ROWS, (size_t)(count * rows.stride));
    rows.step = scratch(STEPS, (size_t)count * sizeof(float));
    rows.zero = scratch(ZEROS, (size_t)count * sizeof(int32_t));
    return rows;
}

void quantize_row(const Linear *linear, const float *x, Rows to, int64_t row) {
    int64_t n = linear->inputs, whole = n / LANES * LANES, padded = padded_inputs(linear);
    floats least = {0}, most = {0};
    float low, high;
    for (int64_t i = 0; i < whole; i += LANES) {
        floats v = load(x + i);
        least = choose(v < least, v, least);
        most = largest(most, v);
    }
    low = -max_lanes(-least);
    high = max_lanes(most);
    for (int64_t i = whole; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float magic = 12582912.0f;  // adding it rounds to a whole number, as in `exponential`
    if (linear->bits == 16) {
        float peak = high > -low ? high : -low, scale = peak > 0 ? (float)linear->limit / peak : 0;
        int16_t *q = (int16_t *)(to.values + row * to.stride);
        to.step[row] = peak / (float)linear->limit;
        to.zero[row] = 0;
        typedef int16_t shorts __attribute__((vector_size(32)));
        for (int64_t i = 0; i < whole; i += LANES) {
            shorts v = __builtin_convertvector((ints)(load(x + i) * scale + magic) - (ints)splat(magic), shorts);
            memcpy(q + i, &v, sizeof v);
        }
        for (int64_t i = whole; i < n; i++) q[i] = (int16_t)lrintf(x[i] * scale);
        for (int64_t i = n; i < padded; i++) q[i] = 0;
    } else {
        float range = high - low, scale = range > 0 ? 255.0f / range : 0;
        uint8_t *q = to.values + row * to.stride;
        int32_t zero = (int32_t)lrintf(-low * scale);
        to.step[row] = range / 255.0f;
        to.zero[row] = zero;
        typedef uint8_t bytes __attribute__((vector_size(16)));
        for (int64_t i = 0; i < whole; i += LANES) {
            floats v = load(x + i) * scale + magic - splat(magic) + (float)zero;
            v = largest(choose(v > splat(255), splat(255), v), (floats){0});
            bytes small = __builtin_convertvector(__builtin_convertvector(v, ints), bytes);
            memcpy(q + i, &small, sizeof small);
        }
        for (int64_t i = whole; i < n; i++) {
            int64_t v = lrintf(x[i] * scale) + zero;
            q[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
        for (int64_t i = n; i < padded; i++) q[i] = 0;
    }
}

#define SUMS 2       // vectors of 16 outputs in a block of outputs
#define MAX_TILE 12  // rows that share a pass over a block of weights: 24 sums in 32 registers

typedef __m512i sums;

// `count` rows times one block of outputs. `chains`: independent sums per output, enough to keep the CPU busy.
INLINE void tile(const int8_t *weight, int64_t groups, const uint8_t *x, int64_t stride, int32_t *out, const int count,
                 const int chains, const int bits) {
    sums total[MAX_TILE][SUMS][4];
    UNROLL
    for (int r = 0; r < count; r++)
        UNROLL
        for (int s = 0; s < SUMS; s++)
            UNROLL
            for (int c = 0; c < chains; c++) total[r][s][c] = _mm512_setzero_si512();
    for (int64_t g = 0; g < groups; g += chains)
        UNROLL
        for (int c = 0; c < chains; c++) {
            sums w[SUMS];
            UNROLL
            for (int s = 0; s < SUMS; s++)
                w[s] = bits == 16 ? _mm512_cvtepi8_epi16(_mm256_load_si256(
                                        (const __m256i *)(weight + ((g + c) * SUMS + s) * 2 * LANES)))
                                  : _mm512_load_si512(weight + ((g + c) * SUMS + s) * 4 * LANES);
            UNROLL
            for (int r = 0; r < count; r++) {
                int32_t group;
                memcpy(&group, x + r * stride + 4 * (g + c), sizeof group);
                sums all = _mm512_set1_epi32(group);
                UNROLL
                for (int s = 0; s < SUMS; s++)
                    total[r][s][c] = bits == 16 ? _mm512_dpwssd_epi32(total[r][s][c], w[s], all)
                                                : _mm512_dpbusd_epi32(total[r][s][c], all, w[s]);
            }
        }
    UNROLL
    for (int r = 0; r < count; r++)
        UNROLL
        for (int s = 0; s < SUMS; s++) {
            UNROLL
            for (int c = 1; c < chains; c++) total[r][s][0] = _mm512_add_epi32(total[r][s][0], total[r][s][c]);
            _mm512_store_si512(out + r * OUTPUT_BLOCK + s * LANES, total[r][s][0]);
        }
}

#define CASE(n, chains, bits) \
    case n: \
        tile(weight, groups, x, stride, out, n, chains, bits); \
        break;

static void tile_16(const int8_t *weight, int64_t groups, const uint8_t *x, int64_t stride, int32_t *out, int count) {
    switch (count) {
        CASE(1, 4, 16) CASE(2, 2, 16) CASE(3, 2, 16) CASE(4, 1, 16) CASE(5, 1, 16) CASE(6, 1, 16)
        CASE(7, 1, 16) CASE(8, 1, 16) CASE(9, 1, 16) CASE(10, 1, 16) CASE(11, 1, 16) CASE(12, 1, 16)
    }
}

static void tile_8(const int8_t *weight, int64_t groups, const uint8_t *x, int64_t stride, int32_t *out, int count) {
    switch (count) {
        CASE(1, 2, 8) CASE(2, 2, 8) CASE(3, 2, 8) CASE(4, 1, 8) CASE(5, 1, 8) CASE(6, 1, 8)
        CASE(7, 1, 8) CASE(8, 1, 8) CASE(9, 1, 8) CASE(10, 1, 8) CASE(11, 1, 8) CASE(12, 1, 8)
    }
}

// rows first..first + count - 1 of `rows`, times `linear`, into (or added to) out [count, outputs]
void multiply(const Linear *linear, Rows rows, int64_t first, int64_t count, float *out, int64_t out_stride, int add) {
    int64_t inputs = padded_inputs(linear), groups = inputs * linear->bits / 32;
    int64_t tiles = (count + MAX_TILE - 1) / MAX_TILE;
    int32_t totals[MAX_TILE * OUTPUT_BLOCK] __attribute__((aligned(64)));
    for (int64_t o = 0; o < linear->outputs; o += OUTPUT_BLOCK) {
        const int8_t *weight = linear->weight + o * inputs;
        int64_t width = linear->outputs - o < OUTPUT_BLOCK ? linear->outputs - o : OUTPUT_BLOCK;
        for (int64_t t = 0, r = 0; t < tiles; t++) {
            int64_t size = (count - r + tiles - t - 1) / (tiles - t);
            const uint8_t *x = rows.values + (first + r) * rows.stride;
            if (linear->bits == 16) tile_16(weight, groups, x, rows.stride, totals, (int)size);
            else tile_8(weight, groups, x, rows.stride, totals, (int)size);
            for (int64_t i = 0; i < size; i++) {
                float *to = out + (r + i) * out_stride + o;
                float step = rows.step[first + r + i];
                int32_t zero = rows.zero[first + r + i];
                for (int64_t j = 0; j < width; j++) {
                    int32_t total = totals[i * OUTPUT_BLOCK + j] - zero * linear->sums[o + j];
                    float value = (float)total * (linear->scale[o + j] * step);
                    to[j] = add ? to[j] + value : value;
                }
            }
            r += size;
        }
    }
}

// out [count, outputs] = x [count, inputs] times the transposed weights
EXPORT void linear_rows(const Linear *linear, const float *x, int64_t count, float *out) {
    Rows rows = rows_for(linear, count);
    for (int64_t r = 0; r < count; r++) quantize_row(linear, x + r * linear->inputs, rows, r);
    multiply(linear, rows, 0, count, out, linear->outputs, 0);
}
