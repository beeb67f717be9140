// Matrix products of int8 weights and activations of 16 or 8 bits.
//
// An activation row is rounded to integers once, products are summed in 32 bits without error, and one multiplication
// per output restores the scale. With about 15 bits the weights' 8 decide the accuracy; 8 bits are twice as fast where
// many rows make a product bound by arithmetic. Activations of 16 bits are two rows of bytes, so that one loop over
// bytes serves both. Exact sums have no order: rows alone and together give the same bits, whatever the tiling, by
// vectors and by the matrix tiles of newer CPUs alike.
#include "native.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint32_t unsigned_ints __attribute__((vector_size(64)));  // that may wrap
typedef uint32_t loose_ints __attribute__((vector_size(64), aligned(4), may_alias));

#define TILES 32  // byte rows that two tiles take
#define TILE_BYTES 64
#define TILED __attribute__((target("amx-tile,amx-int8")))

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

INLINE unsigned_ints load_ints(const int32_t *from) { return *(const loose_ints *)from; }

static int64_t padded_inputs(const Linear *linear) {
    return (linear->inputs + INPUT_STEP - 1) / INPUT_STEP * INPUT_STEP;
}

Rows rows_for(const Linear *linear, int64_t count) {
    Rows rows = {.stride = padded_inputs(linear) * linear->bits / 8};
    rows.values = scratch(ROWS, (size_t)((count + TILES) * rows.stride));
    rows.step = scratch(STEPS, (size_t)count * sizeof(float));
    rows.zero = scratch(ZEROS, (size_t)count * sizeof(int32_t));
    return rows;
}

void quantize_row(const Linear *linear, const float *x, Rows to, int64_t row) {
    const int64_t n = linear->inputs, padded = padded_inputs(linear);
    if (n % LANES) {
        x = memcpy(memset(scratch(INPUTS, (size_t)padded * sizeof(float)), 0, (size_t)padded * sizeof(float)), x,
                   (size_t)n * sizeof(float));
    }
    floats least = {0}, most = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        floats v = load(x + i);
        least = smallest(least, v);
        most = largest(most, v);
    }
    const float low = -max_lanes(-least), high = max_lanes(most);
    uint8_t *q = to.values + row * to.stride;
    for (uint8_t *plane = q; plane < q + to.stride; plane += padded)  // padding has no weight, but must be defined
        memset(plane + n / LANES * LANES, 0, (size_t)(padded - n / LANES * LANES));
    if (linear->bits == 16) {
        const float peak = high > -low ? high : -low, scale = peak > 0 ? (float)linear->limit / peak : 0;
        to.step[row] = peak / (float)linear->limit;
        to.zero[row] = 1 << 15;
        for (int64_t i = 0; i < n; i += LANES) {
            ints v = rounded(load(x + i) * scale) + (1 << 15);
            store_bytes(q + i, v);
            store_bytes(q + padded + i, v >> 8);
        }
    } else {
        const float range = high - low, scale = range > 0 ? 255.0f / range : 0;
        const int32_t zero = (int32_t)lrintf(-low * scale);
        to.step[row] = range / 255.0f;
        to.zero[row] = zero;
        for (int64_t i = 0; i < n; i += LANES) {
            __m512i v = _mm512_max_epi32((__m512i)(rounded(load(x + i) * scale) + zero), _mm512_setzero_si512());
            _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtusepi32_epi8(v));
        }
    }
}

#define SUMS 2       // vectors of 16 outputs in a block of outputs
#define MAX_TILE 12  // byte rows that share a pass over a block of weights: 24 sums in 32 registers

// `count` byte rows times one block of outputs. `chains`: independent sums per output, enough to keep the CPU busy.
INLINE void vectors(const int8_t *weight, int64_t inputs, const uint8_t *x, int32_t *out, const int count,
                    const int chains) {
    __m512i total[MAX_TILE][SUMS][4];
    UNROLL
    for (int r = 0; r < count; r++)
        UNROLL
        for (int s = 0; s < SUMS; s++)
            UNROLL
            for (int c = 0; c < chains; c++) total[r][s][c] = _mm512_setzero_si512();
    for (int64_t i = 0; i < inputs; i += 4 * chains)
        UNROLL
        for (int c = 0; c < chains; c++) {
            __m512i w[SUMS];
            UNROLL
            for (int s = 0; s < SUMS; s++)
                w[s] = _mm512_load_si512(weight + (i + 4 * c) * OUTPUT_BLOCK + s * 4 * LANES);
            UNROLL
            for (int r = 0; r < count; r++) {
                int32_t group;
                memcpy(&group, x + r * inputs + i + 4 * c, sizeof group);
                __m512i all = _mm512_set1_epi32(group);
                UNROLL
                for (int s = 0; s < SUMS; s++) total[r][s][c] = _mm512_dpbusd_epi32(total[r][s][c], all, w[s]);
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

static void vector_sums(const int8_t *weight, int64_t inputs, const uint8_t *x, int32_t *out, int count) {
#define CASE(n, chains) \
    case n: \
        vectors(weight, inputs, x, out, n, chains); \
        break;
    switch (count) {
        CASE(1, 4) CASE(2, 2) CASE(3, 2) CASE(4, 1) CASE(5, 1) CASE(6, 1)
        CASE(7, 1) CASE(8, 1) CASE(9, 1) CASE(10, 1) CASE(11, 1) CASE(12, 1)
    }
#undef CASE
}

// The same sums by the CPU's matrix tiles (AMX, Intel since Sapphire Rapids), of two tiles of `rows` byte rows each.
TILED static void tile_sums(const int8_t *weight, int64_t inputs, const uint8_t *x, int32_t *out, int64_t rows) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < inputs; i += TILE_BYTES) {
        _tile_loadd(4, x + i, inputs);
        _tile_loadd(5, x + rows * inputs + i, inputs);
        _tile_loadd(6, weight + i * OUTPUT_BLOCK, 4 * OUTPUT_BLOCK);
        _tile_loadd(7, weight + i * OUTPUT_BLOCK + TILE_BYTES, 4 * OUTPUT_BLOCK);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_stored(0, out, 4 * OUTPUT_BLOCK);
    _tile_stored(1, out + LANES, 4 * OUTPUT_BLOCK);
    _tile_stored(2, out + rows * OUTPUT_BLOCK, 4 * OUTPUT_BLOCK);
    _tile_stored(3, out + rows * OUTPUT_BLOCK + LANES, 4 * OUTPUT_BLOCK);
}

TILED static void begin_tiles(int64_t rows) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        shape.bytes[t] = TILE_BYTES;
        shape.rows[t] = t < 6 ? (uint8_t)rows : 16;
    }
    // GCC 12 does not know that tile instructions read all of this, and rows: have both written before
    __asm__ volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
}

TILED static void end_tiles(void) { _tile_release(); }

static int has_tiles;

// Linux saves a process's tiles only once it has asked for that.
__attribute__((constructor)) static void ask_for_tiles(void) {
    const unsigned tile_and_int8 = 3u << 24;
    unsigned a, b, c, d;
    has_tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tile_and_int8) == tile_and_int8 &&
                syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) == 0;
}

// One block of outputs [width] of one row from its sums [planes][OUTPUT_BLOCK].
INLINE void rescale(const Linear *linear, int64_t o, const int32_t *sums, int32_t zero, float step, float *to,
                    int64_t width, int add) {
    float made[OUTPUT_BLOCK], *into = width == OUTPUT_BLOCK ? to : made;
    if (width < OUTPUT_BLOCK && add) memcpy(made, to, (size_t)width * sizeof(float));
    UNROLL
    for (int s = 0; s < SUMS; s++) {
        unsigned_ints sum = load_ints(sums + s * LANES) - load_ints(linear->sums + o + s * LANES) * (uint32_t)zero;
        if (linear->bits == 16) sum += load_ints(sums + OUTPUT_BLOCK + s * LANES) << 8;
        floats whole = __builtin_convertvector((ints)sum, floats), scale = load(linear->scale + o + s * LANES) * step;
        store(into + s * LANES, add ? (floats)_mm512_fmadd_ps((__m512)whole, (__m512)scale, (__m512)load(into + s * LANES)) : whole * scale);
    }
    if (width < OUTPUT_BLOCK) memcpy(to, made, (size_t)width * sizeof(float));
}

// rows first..first + count - 1 of `rows`, times `linear`, into (or added to) out [count, outputs]
void multiply(const Linear *linear, Rows rows, int64_t first, int64_t count, float *out, int64_t out_stride, int add) {
    const int64_t inputs = padded_inputs(linear), planes = linear->bits / 8;
    const int tiled = has_tiles && count * planes > 2;  // for a single row vectors are as fast
    const int64_t most = (tiled ? TILES : MAX_TILE) / planes, passes = (count + most - 1) / most;
    const int64_t size = (count + passes - 1) / passes;  // rows of a pass; the last may go beyond the end
    int32_t totals[TILES * OUTPUT_BLOCK] __attribute__((aligned(64)));
    if (tiled) begin_tiles((size * planes + 1) / 2);
    for (int64_t o = 0; o < linear->outputs; o += OUTPUT_BLOCK) {
        const int8_t *weight = linear->weight + o * inputs;
        const int64_t width = linear->outputs - o < OUTPUT_BLOCK ? linear->outputs - o : OUTPUT_BLOCK;
        for (int64_t r = 0; r < count; r += size) {
            const uint8_t *x = rows.values + (first + r) * rows.stride;
            if (tiled) tile_sums(weight, inputs, x, totals, (size * planes + 1) / 2);
            else vector_sums(weight, inputs, x, totals, (int)(size * planes));
            for (int64_t i = 0; i < size && r + i < count; i++)
                rescale(linear, o, totals + i * planes * OUTPUT_BLOCK, rows.zero[first + r + i],
                        rows.step[first + r + i], out + (r + i) * out_stride + o, width, add);
        }
    }
    if (tiled) end_tiles();
}

// x [count, inputs] times the transposed weights, into (or added to) out [count, outputs]
EXPORT void linear_rows(const Linear *linear, const float *x, int64_t count, float *out, int add) {
    Rows rows = rows_for(linear, count);
    for (int64_t r = 0; r < count; r++) quantize_row(linear, x + r * linear->inputs, rows, r);
    multiply(linear, rows, 0, count, out, linear->outputs, add);
}
