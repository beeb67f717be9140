// Every layer of the transformer for a set of rows in one call: steps of many sequences, or the positions of one.
//
// A row is one position of one sequence: it writes its keys and values, then attends to what is visible of its
// sequence. Rows that share a sequence are attended to in groups, which shares loads and changes no sum's order.
#include "native.h"

#define GROUP 4   // queries that share a pass over keys and values
#define CHUNK 64  // rows that go through a layer's MLP together: what they widen to stays in the cache beside its weights

static void normalize(const float *x, const float *weight, int64_t n, float *out) {
    floats total = {0}, squares = {0};
    int64_t i = 0;
    float rest = 0;
    for (; i + LANES <= n; i += LANES) total += load(x + i);
    for (; i < n; i++) rest += x[i];
    float mean = (sum_lanes(total) + rest) / (float)n;
    rest = 0;
    for (i = 0; i + LANES <= n; i += LANES) {
        floats off = load(x + i) - mean;
        squares += off * off;
    }
    for (; i < n; i++) rest += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf((sum_lanes(squares) + rest) / (float)n + 1e-5f);
    for (i = 0; i + LANES <= n; i += LANES) store(out + i, (load(x + i) - mean) * scale * load(weight + i));
    for (; i < n; i++) out[i] = (x[i] - mean) * scale * weight[i];
}

static void gelu(float *x, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        floats v = load(x + i);
        floats inner = (v + 0.044715f * v * v * v) * 0.7978845608f;
        store(x + i, v / (1.0f + exponential(-2.0f * inner)));
    }
    for (; i < n; i++) {
        float inner = (x[i] + 0.044715f * x[i] * x[i] * x[i]) * 0.7978845608f;
        x[i] = 0.5f * x[i] * (1 + tanhf(inner));
    }
}

static void narrow(const float *x, int64_t n, half *to, int64_t to_step) {
    for (int64_t i = 0; i < n; i += LANES) {
        half packed[LANES];
        store_halves(packed, load_first(x + i, n - i));
        for (int64_t j = 0; j < LANES && i + j < n; j++) to[(i + j) * to_step] = packed[j];
    }
}

static float widened(half x) {
    half packed[LANES] = {x};
    return load_halves(packed)[0];
}

// scores [count][stride]: of queries [count][dim] with the keys of `blocks` blocks from `block` on
INLINE void score(const float *queries, const half *keys, int64_t block, const int blocks, const int count,
                  const int64_t dim, float *scores, int64_t stride) {
    floats total[GROUP][4];
    UNROLL
    for (int q = 0; q < count; q++)
        UNROLL
        for (int b = 0; b < blocks; b++) total[q][b] = (floats){0};
    for (int64_t d = 0; d < dim; d++)
        UNROLL
        for (int b = 0; b < blocks; b++) {
            floats k = load_halves(keys + ((block + b) * dim + d) * LANES);
            UNROLL
            for (int q = 0; q < count; q++) total[q][b] += queries[q * dim + d] * k;
        }
    UNROLL
    for (int q = 0; q < count; q++)
        UNROLL
        for (int b = 0; b < blocks; b++) store(scores + q * stride + (block + b) * LANES, total[q][b]);
}

// What `count` queries [dim] that share keys and values see of the first visible[q] positions, into outs[q] [dim].
INLINE void attend_group(const float *queries, const int64_t *visible, const half *keys, const half *values,
                         float *const *outs, const int count, const int64_t dim, float *scores, int64_t stride) {
    int64_t longest = 0;
    UNROLL
    for (int q = 0; q < count; q++) longest = visible[q] > longest ? visible[q] : longest;
    int64_t blocks = (longest + LANES - 1) / LANES, block = 0;
    for (; block + 4 <= blocks; block += 4) score(queries, keys, block, 4, count, dim, scores, stride);
    for (; block < blocks; block++) score(queries, keys, block, 1, count, dim, scores, stride);
    const ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    float total[GROUP];
    UNROLL
    for (int q = 0; q < count; q++) {
        float *own = scores + q * stride;
        floats peaks = splat(-INFINITY), sums = {0};
        for (int64_t b = 0; b < blocks; b++) {
            ints beyond = lane + (int32_t)(b * LANES) >= (int32_t)visible[q] - (ints){0};
            floats v = choose(beyond, splat(-INFINITY), load(own + b * LANES));
            store(own + b * LANES, v);
            peaks = largest(peaks, v);
        }
        float peak = max_lanes(peaks);
        for (int64_t b = 0; b < blocks; b++) {
            floats v = exponential(load(own + b * LANES) - peak);
            store(own + b * LANES, v);
            sums += v;
        }
        total[q] = sum_lanes(sums);
    }
    if (dim % LANES == 0 && dim <= 4 * LANES) {
        floats seen[GROUP][4];
        const int vectors = (int)(dim / LANES);
        UNROLL
        for (int q = 0; q < count; q++)
            UNROLL
            for (int v = 0; v < vectors; v++) seen[q][v] = (floats){0};
        for (int64_t p = 0; p < longest; p++)
            UNROLL
            for (int v = 0; v < vectors; v++) {
                floats value = load_halves(values + p * dim + v * LANES);
                UNROLL
                for (int q = 0; q < count; q++) seen[q][v] += scores[q * stride + p] * value;
            }
        UNROLL
        for (int q = 0; q < count; q++)
            UNROLL
            for (int v = 0; v < vectors; v++) store(outs[q] + v * LANES, seen[q][v] / total[q]);
    } else {
        UNROLL
        for (int q = 0; q < count; q++)
            for (int64_t d = 0; d < dim; d++) {
                float seen = 0;
                for (int64_t p = 0; p < longest; p++) seen += scores[q * stride + p] * widened(values[p * dim + d]);
                outs[q][d] = seen / total[q];
            }
    }
}

static void attend(const float *queries, const int64_t *visible, const half *keys, const half *values,
                   float *const *outs, int count, int64_t dim, float *scores, int64_t stride) {
#define CASE(n) \
    case n: \
        if (dim == 64) attend_group(queries, visible, keys, values, outs, n, 64, scores, stride); \
        else attend_group(queries, visible, keys, values, outs, n, dim, scores, stride); \
        break;
    switch (count) { CASE(1) CASE(2) CASE(3) CASE(4) }
#undef CASE
}

// Attention of the rows from `first` on: mixed [rows][heads * dim] holds queries, keys, values; out [rows][n_embd].
static void attend_rows(const Transformer *t, const Cache *cache, int64_t layer, const float *mixed, int64_t first,
                        int64_t rows, const int64_t *slots, const int64_t *positions, const int64_t *visible,
                        float *out) {
    int64_t dim = t->head_dim, per_head = t->n_head / t->n_kv_head;
    int64_t width = (t->n_head + 2 * t->n_kv_head) * dim;
    float scale = 1.0f / sqrtf((float)dim);
    float *queries = scratch(QUERIES, (size_t)(GROUP * dim) * sizeof(float)), *turned = queries;
    for (int64_t r = 0; r < rows; r++) {
        const float *cosine = t->cosine + positions[r] * dim, *sine = t->sine + positions[r] * dim;
        int64_t at = layer * cache->layer_stride + slots[r] * cache->slot_stride, p = positions[r];
        for (int64_t h = 0; h < t->n_kv_head; h++, at += cache->head_stride) {
            const float *key = mixed + r * width + (t->n_head + h) * dim;
            rotate(key, cosine, sine, dim, 1, turned);
            narrow(turned, dim, cache->keys + at + p / LANES * LANES * dim + p % LANES, LANES);
            narrow(key + t->n_kv_head * dim, dim, cache->values + at + p * dim, 1);
        }
    }
    int64_t longest = 0;
    for (int64_t r = first; r < rows; r++) longest = visible[r] > longest ? visible[r] : longest;
    int64_t stride = (longest + LANES - 1) / LANES * LANES;
    float *scores = scratch(SCORES, (size_t)(GROUP * stride) * sizeof(float));
    float *outs[GROUP];
    int64_t seen[GROUP];
    for (int64_t r = first, run; r < rows; r += run) {
        for (run = 1; r + run < rows && slots[r + run] == slots[r];) run++;
        int64_t at = layer * cache->layer_stride + slots[r] * cache->slot_stride;
        for (int64_t h = 0; h < t->n_kv_head; h++, at += cache->head_stride)
            for (int64_t begin = 0, count; begin < run * per_head; begin += count) {
                count = run * per_head - begin < GROUP ? run * per_head - begin : GROUP;
                for (int64_t q = 0; q < count; q++) {
                    int64_t row = r + (begin + q) / per_head, head = h * per_head + (begin + q) % per_head;
                    rotate(mixed + row * width + head * dim, t->cosine + positions[row] * dim,
                           t->sine + positions[row] * dim, dim, scale, queries + q * dim);
                    outs[q] = out + row * t->n_embd + head * dim;
                    seen[q] = visible[row];
                }
                attend(queries, seen, cache->keys + at, cache->values + at, outs, (int)count, dim, scores, stride);
            }
    }
}

// What follows attention: x [count][n_embd] and its residuals.
static void finish_layer(const Transformer *t, const Layer *layer, const float *attended, int64_t count, float *normed,
                         float *x) {
    const int64_t c = t->n_embd;
    float *hidden = scratch(HIDDEN, (size_t)(count * t->n_ff) * sizeof(float));
    Rows in = rows_for(&layer->projection, count);
    for (int64_t r = 0; r < count; r++) quantize_row(&layer->projection, attended + r * c, in, r);
    multiply(&layer->projection, in, 0, count, x, c, 1);
    in = rows_for(&layer->up, count);
    for (int64_t r = 0; r < count; r++) {
        normalize(x + r * c, layer->mlp_norm, c, normed);
        quantize_row(&layer->up, normed, in, r);
    }
    multiply(&layer->up, in, 0, count, hidden, t->n_ff, 0);
    in = rows_for(&layer->down, count);
    for (int64_t r = 0; r < count; r++) {
        gelu(hidden + r * t->n_ff, t->n_ff);
        quantize_row(&layer->down, hidden + r * t->n_ff, in, r);
    }
    multiply(&layer->down, in, 0, count, x, c, 1);
}

// Embeddings x [rows, n_embd] become hidden states, after the final norm; of the rows before `first` only keys and
// values are computed in the last layer, and their x is left undefined. Without a cache the rows are the positions of
// one window that all see each other, and slots, positions and visible are not looked at.
EXPORT void transformer_rows(const Transformer *t, const Cache *cache, float *x, int64_t rows, int64_t first,
                             const int64_t *slots, const int64_t *positions, const int64_t *visible) {
    int64_t width = (t->n_head + 2 * t->n_kv_head) * t->head_dim, c = t->n_embd;
    float *normed = scratch(NORMED, (size_t)c * sizeof(float));
    float *mixed = scratch(MIXED, (size_t)(rows * width) * sizeof(float));
    float *attended = scratch(ATTENDED, (size_t)(rows * c) * sizeof(float));
    for (int64_t l = 0; l < t->n_layer; l++) {
        const Layer *layer = t->layers + l;
        int64_t from = l + 1 == t->n_layer ? first : 0;
        Rows in = rows_for(&layer->qkv, rows);
        for (int64_t r = 0; r < rows; r++) {
            normalize(x + r * c, layer->attention_norm, c, normed);
            quantize_row(&layer->qkv, normed, in, r);
        }
        multiply(&layer->qkv, in, 0, rows, mixed, width, 0);
        if (cache) attend_rows(t, cache, l, mixed, from, rows, slots, positions, visible, attended);
        else attend_window(t, mixed, from, rows, attended);
        for (int64_t r = from; r < rows; r += CHUNK)
            finish_layer(t, layer, attended + r * c, rows - r < CHUNK ? rows - r : CHUNK, normed, x + r * c);
    }
    for (int64_t r = first; r < rows; r++) normalize(x + r * c, t->norm, c, x + r * c);
}
