// Drawing ids from logits: `model.sampling` in one pass per row, without a sort.
//
// The k-th largest weight, and the least weight within top-p, are found by bisecting the bits of a float: positive
// floats are ordered as their bits are, so 31 counts settle it.
#include "native.h"

typedef double doubles __attribute__((vector_size(64)));
typedef float eight_floats __attribute__((vector_size(32)));

static uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

static double noise_of(int64_t key, int64_t step, int64_t codebook) {
    uint32_t row = mix((uint32_t)key + (uint32_t)step * 0x85EBCA77u);
    return mix(row ^ (uint32_t)(codebook + 1) * 0x27D4EB2Fu) / 4294967296.0;
}

static double sum_exactly(const float *x) {  // of 16 floats
    eight_floats low, high;
    memcpy(&low, x, sizeof low);
    memcpy(&high, x + 8, sizeof high);
    doubles v = __builtin_convertvector(low, doubles) + __builtin_convertvector(high, doubles);
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

static float of_bits(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// the largest float that at least `k` of weights [n] are not below
static float kth_largest(const float *weights, int64_t n, int64_t k) {
    int32_t low = 0, high = 0x7f800000;
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        ints count = {0};
        for (int64_t i = 0; i < n; i += LANES) count -= load(weights + i) >= splat(of_bits(middle));
        int64_t total = 0;
        for (int l = 0; l < LANES; l++) total += count[l];
        if (total >= k) low = middle;
        else high = middle;
    }
    return of_bits(low);
}

// the least float above which the weights from `least` on sum to less than `mass`
static float least_within(const float *weights, int64_t n, float least, double mass) {
    int32_t low = -1, high = 0x7f800000;
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        floats total = {0};
        for (int64_t i = 0; i < n; i += LANES) {
            floats w = load(weights + i);
            total += choose((w > splat(of_bits(middle))) & (w >= splat(least)), w, (floats){0});
        }
        if ((double)sum_lanes(total) < mass) high = middle;
        else low = middle;
    }
    return of_bits(high);
}

static int64_t likeliest(const float *logits, int64_t vocab) {
    int64_t best = 0;
    for (int64_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static int64_t draw(const float *logits, int64_t vocab, float temperature, int64_t top_k, float top_p, double noise) {
    if (!(temperature > 0)) return likeliest(logits, vocab);
    int64_t padded = (vocab + LANES - 1) / LANES * LANES;
    float *weights = scratch(WEIGHTS, (size_t)padded * sizeof(float));
    memcpy(weights, logits, (size_t)vocab * sizeof(float));
    for (int64_t i = vocab; i < padded; i++) weights[i] = -INFINITY;
    floats peaks = splat(-INFINITY);
    for (int64_t i = 0; i < padded; i += LANES) peaks = largest(peaks, load(weights + i));
    float peak = max_lanes(peaks), scale = 1.0f / (temperature > 1e-4f ? temperature : 1e-4f);
    for (int64_t i = 0; i < padded; i += LANES)
        store(weights + i, exponential((load(weights + i) - peak) * scale));
    float least = 0;
    if (top_k > 0 && top_k < vocab) least = kth_largest(weights, padded, top_k);
    if (top_p < 1) {
        floats kept = {0};
        for (int64_t i = 0; i < padded; i += LANES) {
            floats w = load(weights + i);
            kept += choose(w >= splat(least), w, (floats){0});
        }
        float narrow = least_within(weights, padded, least, (double)top_p * (double)sum_lanes(kept));
        least = narrow > least ? narrow : least;
    }
    double total = 0;
    for (int64_t i = 0; i < padded; i += LANES) {
        floats w = load(weights + i);
        store(weights + i, choose(w >= splat(least), w, (floats){0}));
        total += sum_exactly(weights + i);
    }
    double target = noise * total, before = 0;
    int64_t last = 0;  // with any weight, should rounding leave the target beyond every sum
    for (int64_t i = 0; i < padded; i += LANES) {
        double after = before + sum_exactly(weights + i);
        if (after > target || i + LANES >= padded)
            for (int64_t j = i; j < i + LANES; j++) {
                before += weights[j];
                if (before > target) return j;
            }
        for (int64_t j = i; j < i + LANES; j++)
            if (weights[j] > 0) last = j;
        before = after;
    }
    return last;
}

// ids [rows, codebooks] from logits [rows, codebooks, vocab] at steps [rows], or with noise [rows, codebooks] given
EXPORT void draw_rows(const float *logits, int64_t rows, int64_t codebooks, int64_t vocab, const Sampling *sampling,
                      const int64_t *steps, const double *noise, int64_t *ids) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < codebooks; k++) {
            int64_t at = r * codebooks + k;
            double chance = noise ? noise[at] : noise_of(sampling->keys[r], steps[r], k);
            const float *temperature = sampling->temperature + r * sampling->temperatures;
            ids[at] = draw(logits + at * vocab, vocab, temperature[sampling->temperatures > 1 ? k : 0],
                           sampling->top_k ? sampling->top_k[r] : 0, sampling->top_p ? sampling->top_p[r] : 1.0f, chance);
        }
}
