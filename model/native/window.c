// Attention within a window whose positions all see each other: two matrix products per head, like those of the layers.
//
// Keys are int8 with a scale per position, values with one per channel; queries and what they give values have 16 bits.
// Sums are exact, by vectors and by tiles.
#include "native.h"

INLINE floats magnitude(floats x) { return (floats)((ints)x & 0x7fffffff); }

// A matrix of zeros to be filled, in the memory of `use`.
static Linear room_for(int use, int64_t inputs, int64_t outputs) {
    int64_t columns = (inputs + INPUT_STEP - 1) / INPUT_STEP * INPUT_STEP;
    int64_t rows = (outputs + OUTPUT_BLOCK - 1) / OUTPUT_BLOCK * OUTPUT_BLOCK;
    size_t size = (size_t)(rows * columns + rows * 8);
    char *room = memset(scratch(use, size), 0, size);
    double limit = 2147483647.0 / (127.0 * (double)inputs);
    return (Linear){.weight = (int8_t *)room, .scale = (float *)(room + rows * columns),
                    .sums = (int32_t *)(room + rows * columns + rows * 4), .inputs = inputs, .outputs = outputs,
                    .bits = 16, .limit = limit < 32767 ? limit : 32767};
}

// Where four inputs from `input` on of an output lie.
INLINE int8_t *place(const Linear *linear, int64_t output, int64_t input) {
    int64_t columns = (linear->inputs + INPUT_STEP - 1) / INPUT_STEP * INPUT_STEP, in_block = output % OUTPUT_BLOCK;
    return (int8_t *)linear->weight + (output - in_block) * columns + input * OUTPUT_BLOCK + in_block * 4;
}

// One output: a key [dim].
static void put_key(const Linear *keys, int64_t output, const float *key) {
    floats peaks = {0};
    for (int64_t d = 0; d < keys->inputs; d += LANES) peaks = largest(peaks, magnitude(load(key + d)));
    float peak = max_lanes(peaks), up = peak > 0 ? 127 / peak : 0;
    int32_t sum = 0;
    for (int64_t d = 0; d < keys->inputs; d += LANES) {
        typedef int8_t bytes __attribute__((vector_size(LANES)));
        ints whole = rounded(load(key + d) * up);
        bytes small = __builtin_convertvector(whole, bytes);
        for (int i = 0; i < LANES; i += 4) memcpy(place(keys, output, d + i), (char *)&small + i, 4);
        sum += _mm512_reduce_add_epi32((__m512i)whole);
    }
    ((float *)keys->scale)[output] = peak / 127;
    ((int32_t *)keys->sums)[output] = sum;
}

// Sixteen outputs from `output` on: channels of the values at `from`, [inputs] with `stride` between them.
static void put_values(const Linear *values, int64_t output, const float *from, int64_t stride) {
    floats peaks = {0};
    for (int64_t i = 0; i < values->inputs; i++) peaks = largest(peaks, magnitude(load(from + i * stride)));
    floats up = choose(peaks > 0, 127 / peaks, (floats){0});
    ints sum = {0};
    for (int64_t i = 0; i < values->inputs; i += 4) {
        ints four = {0};
        for (int64_t j = 0; j < 4 && i + j < values->inputs; j++) {
            ints whole = rounded(load(from + (i + j) * stride) * up);
            sum += whole;
            four |= (whole & 255) << (int32_t)(8 * j);
        }
        memcpy(place(values, output, i), &four, sizeof four);
    }
    store((float *)values->scale + output, peaks / 127);
    memcpy((int32_t *)values->sums + output, &sum, sizeof sum);
}

// Row `row` of what values are weighted with, from scores [inputs], behind which is room for a whole vector.
static void soften(const Linear *values, float *scores, Rows to, int64_t row) {
    const int64_t n = values->inputs;
    const float limit = (float)values->limit;
    floats peaks = splat(-INFINITY), sums = {0};
    for (int64_t i = n; i % LANES; i++) scores[i] = -INFINITY;
    for (int64_t i = 0; i < n; i += LANES) peaks = largest(peaks, load(scores + i));
    const float peak = max_lanes(peaks);
    uint8_t *lower = to.values + row * to.stride, *upper = lower + to.stride / 2;
    for (int64_t i = 0; i < n; i += LANES) {
        floats v = exponential(load(scores + i) - peak);
        ints whole = rounded(v * limit);
        store_bytes(lower + i, whole);
        store_bytes(upper + i, whole >> 8);
        sums += v;
    }
    to.step[row] = 1 / (limit * sum_lanes(sums));
    to.zero[row] = 0;
}

// mixed [rows][heads * dim] holds queries, keys, values, whose dim is a multiple of 16; out [rows][n_embd] of the rows
// from `first` on.
void attend_window(const Transformer *t, const float *mixed, int64_t first, int64_t rows, float *out) {
    const int64_t dim = t->head_dim, per_head = t->n_head / t->n_kv_head, count = rows - first;
    const int64_t width = (t->n_head + 2 * t->n_kv_head) * dim, stride = (rows + OUTPUT_BLOCK - 1) / OUTPUT_BLOCK * OUTPUT_BLOCK;
    const float scale = 1.0f / sqrtf((float)dim);
    float *turned = scratch(QUERIES, (size_t)dim * sizeof(float));
    float *scores = scratch(SCORES, (size_t)(count * stride) * sizeof(float));
    for (int64_t head = 0; head < t->n_kv_head; head++) {
        const float *own = mixed + (t->n_head + head) * dim;
        Linear keys = room_for(KEYS, dim, stride), values = room_for(VALUES, rows, dim);
        for (int64_t r = 0; r < rows; r++) {
            rotate(own + r * width, t->cosine + r * dim, t->sine + r * dim, dim, 1, turned);
            put_key(&keys, r, turned);
        }
        for (int64_t d = 0; d < dim; d += LANES) put_values(&values, d, own + t->n_kv_head * dim + d, width);
        for (int64_t q = head * per_head; q < (head + 1) * per_head; q++) {
            Rows in = rows_for(&keys, count);
            for (int64_t r = 0; r < count; r++) {
                int64_t at = first + r;
                rotate(mixed + at * width + q * dim, t->cosine + at * dim, t->sine + at * dim, dim, scale, turned);
                quantize_row(&keys, turned, in, r);
            }
            multiply(&keys, in, 0, count, scores, stride, 0);
            in = rows_for(&values, count);
            for (int64_t r = 0; r < count; r++) soften(&values, scores + r * stride, in, r);
            multiply(&values, in, 0, count, out + first * t->n_embd + q * dim, t->n_embd, 0);
        }
    }
}
