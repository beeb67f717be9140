// Phases that make overlapping windows agree: the iterations of model/phase.py, sixteen windows at a time.
//
// A lane is a window. Sound is kept transposed, [hop][columns]: what sixteen windows in a row have at one place of
// theirs lies side by side, so that cutting windows out and adding them up moves no lane. A window goes to its
// spectrum, gets its magnitudes and comes back while it is in the cache. A transform of `length` real values is one of
// half as many complex ones: forward by decimation in frequency, which leaves frequencies in the order of `place`, and
// back by decimation in time, which takes them so.
#include "native.h"

typedef struct {
    floats re, im;
} complexes;

// `groups` times 16 windows of `length` values every `hop` samples; half = length / 2, bins = half + 1
typedef struct {
    const float *magnitudes;         // [groups][bins][16], 0 in windows that do not exist
    const float *window;             // [length]
    const float *share;              // [hop][columns]: one over the sum of the squared windows
    const float *past;               // [known] samples that stay as they are
    const float *turns;              // [length][2]: cosine and sine of 2 pi i / length
    const int64_t *place, *radices;  // [half]; [stages], each 2, 4 or 5, their product is `half`
    int64_t stages, length, hop, groups, columns, known, iterations;
    double lead;
} Phases;

INLINE complexes plus(complexes a, complexes b) { return (complexes){a.re + b.re, a.im + b.im}; }
INLINE complexes minus(complexes a, complexes b) { return (complexes){a.re - b.re, a.im - b.im}; }
INLINE complexes conjugate(complexes a) { return (complexes){a.re, -a.im}; }
INLINE complexes scaled(complexes a, float by) { return (complexes){a.re * by, a.im * by}; }
// by e^(i direction angle) whose cosine and sine are `turn`; by a quarter of a circle
INLINE complexes turned(complexes a, const float *turn, float direction) {
    float c = turn[0], s = turn[1] * direction;
    return (complexes){a.re * c - a.im * s, a.re * s + a.im * c};
}
INLINE complexes quarter(complexes a, float direction) { return (complexes){-a.im * direction, a.re * direction}; }

// a[q] = sum over i of a[i] e^(direction 2 pi i q i / radix)
INLINE void small_transform(complexes *a, const int radix, float direction) {
    if (radix == 2) {
        complexes first = a[0];
        a[0] = plus(first, a[1]);
        a[1] = minus(first, a[1]);
    } else if (radix == 4) {
        complexes even = plus(a[0], a[2]), odd = plus(a[1], a[3]), less = minus(a[0], a[2]);
        complexes side = quarter(minus(a[1], a[3]), direction);
        a[0] = plus(even, odd);
        a[1] = plus(less, side);
        a[2] = minus(even, odd);
        a[3] = minus(less, side);
    } else {
        const float c1 = 0.30901699437494745f, c2 = -0.8090169943749475f;
        const float s1 = 0.9510565162951535f, s2 = 0.5877852522924731f;
        complexes sum1 = plus(a[1], a[4]), sum2 = plus(a[2], a[3]), off1 = minus(a[1], a[4]), off2 = minus(a[2], a[3]);
        complexes near = plus(a[0], plus(scaled(sum1, c1), scaled(sum2, c2)));
        complexes far = plus(a[0], plus(scaled(sum1, c2), scaled(sum2, c1)));
        complexes side1 = quarter(plus(scaled(off1, s1), scaled(off2, s2)), direction);
        complexes side2 = quarter(minus(scaled(off1, s2), scaled(off2, s1)), direction);
        a[0] = plus(a[0], plus(sum1, sum2));
        a[1] = plus(near, side1);
        a[2] = plus(far, side2);
        a[3] = minus(far, side2);
        a[4] = minus(near, side1);
    }
}

// One stage of the transforms of blocks of `size` values.
INLINE void stage(const Phases *p, complexes *x, int64_t size, const int radix, float direction) {
    const int64_t part = size / radix, stride = p->length / size;
    for (int64_t block = 0; block < p->length / 2; block += size)
        for (int64_t j = 0; j < part; j++) {
            complexes a[5], *at = x + block + j;
            UNROLL
            for (int i = 0; i < radix; i++) a[i] = at[i * part];
            if (direction > 0 && j) {
                UNROLL
                for (int i = 1; i < radix; i++) a[i] = turned(a[i], p->turns + 2 * i * j * stride, direction);
            }
            small_transform(a, radix, direction);
            if (direction < 0 && j) {
                UNROLL
                for (int i = 1; i < radix; i++) a[i] = turned(a[i], p->turns + 2 * i * j * stride, direction);
            }
            UNROLL
            for (int i = 0; i < radix; i++) at[i * part] = a[i];
        }
}

static void forward(const Phases *p, complexes *x) {
    for (int64_t s = 0, size = p->length / 2; s < p->stages; size /= p->radices[s++]) switch (p->radices[s]) {
        case 2: stage(p, x, size, 2, -1); break;
        case 4: stage(p, x, size, 4, -1); break;
        case 5: stage(p, x, size, 5, -1); break;
        }
}

static void backward(const Phases *p, complexes *x) {
    for (int64_t s = p->stages - 1, size = 1; s >= 0; s--) switch (size *= p->radices[s], p->radices[s]) {
        case 2: stage(p, x, size, 2, 1); break;
        case 4: stage(p, x, size, 4, 1); break;
        case 5: stage(p, x, size, 5, 1); break;
        }
}

// A bin after one iteration: its phase, led on by the last one's, with the magnitude asked for.
INLINE complexes better(complexes now, complexes *last, const float *magnitude, float lead) {
    complexes ahead = minus(now, scaled(*last, lead));
    *last = now;
    floats size = (floats)_mm512_sqrt_ps((__m512)(ahead.re * ahead.re + ahead.im * ahead.im));
    floats scale = load(magnitude) / (size + 1e-8f);
    return (complexes){ahead.re * scale, ahead.im * scale};
}

// Bins k and half - k of the real windows become, times two, those of the complex transform.
INLINE void fold(const Phases *p, complexes *x, int64_t k, complexes bin, complexes mirror) {
    complexes even = plus(bin, conjugate(mirror));
    complexes odd = quarter(turned(minus(bin, conjugate(mirror)), p->turns + 2 * k, 1), 1);
    x[p->place[k]] = plus(even, odd);
    if (k) x[p->place[p->length / 2 - k]] = conjugate(minus(even, odd));
}

// Spectra [bins] to begin with.
static void begin(const Phases *p, complexes *x, complexes *spectra) {
    const int64_t half = p->length / 2;
    spectra[0].im = spectra[half].im = (floats){0};
    for (int64_t k = 0; k <= half / 2; k++) fold(p, x, k, spectra[k], spectra[half - k]);
}

// What `forward` made of x becomes better spectra; `last` [bins]: the spectra of the iteration before.
static void improve(const Phases *p, complexes *x, complexes *last, const float *magnitudes, float lead) {
    const int64_t half = p->length / 2;
    for (int64_t k = 0; k <= half / 2; k++) {
        complexes a = x[p->place[k]], b = conjugate(x[p->place[k ? half - k : 0]]);
        complexes even = scaled(plus(a, b), 0.5f);
        complexes odd = turned(quarter(scaled(minus(a, b), 0.5f), -1), p->turns + 2 * k, -1);
        complexes bin = better(plus(even, odd), last + k, magnitudes + k * LANES, lead), mirror = bin;
        if (2 * k != half)
            mirror = better(conjugate(minus(even, odd)), last + half - k, magnitudes + (half - k) * LANES, lead);
        fold(p, x, k, bin, mirror);
    }
}

// Sound [hop][columns] <-> sixteen of its windows, two values to a complex one.
static void cut(const Phases *p, const float *sound, int64_t group, complexes *x) {
    const float *window = p->window;
    for (int64_t column = group * LANES; column < group * LANES + p->length / p->hop; column++)
        for (int64_t i = 0; i < p->hop; i += 2, window += 2) {
            const float *at = sound + i * p->columns + column;
            *x++ = (complexes){load(at) * window[0], load(at + p->columns) * window[1]};
        }
}

static void add(const Phases *p, const complexes *x, int64_t group, float *sound) {
    const float *window = p->window, scale = 1.0f / (float)p->length;
    for (int64_t column = group * LANES; column < group * LANES + p->length / p->hop; column++)
        for (int64_t i = 0; i < p->hop; i += 2, window += 2, x++) {
            float *at = sound + i * p->columns + column;
            store(at, load(at) + x->re * (window[0] * scale));
            store(at + p->columns, load(at + p->columns) + x->im * (window[1] * scale));
        }
}

// sound [hop][columns] of `spectra` [groups][bins], which are worked on.
EXPORT void improve_phases(const Phases *p, complexes *spectra, float *sound) {
    const int64_t bins = p->length / 2 + 1, size = p->hop * p->columns;
    complexes *x = scratch(TRANSFORM, (size_t)(bins - 1) * sizeof(complexes));
    float *now = scratch(SOUND, (size_t)size * sizeof(float));
    for (int64_t done = 0; done <= p->iterations; done++) {
        const float lead = done > 1 ? (float)p->lead : 0;
        memcpy(now, sound, (size_t)size * sizeof(float));
        memset(sound, 0, (size_t)size * sizeof(float));
        for (int64_t i = 0; i < p->known; i++) now[i % p->hop * p->columns + i / p->hop] = p->past[i];
        for (int64_t g = 0; g < p->groups; g++) {
            if (done) {
                cut(p, now, g, x);
                forward(p, x);
                improve(p, x, spectra + g * bins, p->magnitudes + g * bins * LANES, lead);
            } else {
                begin(p, x, spectra + g * bins);
            }
            backward(p, x);
            add(p, x, g, sound);
        }
        for (int64_t i = 0; i < size; i++) sound[i] *= p->share[i];
    }
}
