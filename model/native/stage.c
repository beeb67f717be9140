// Steps of an autoregressive stage from ids to ids: embed, transform, draw, write, and on to the next position.
#include "native.h"

// Where rows are (model/positions.py): one array of `rows` values per field.
enum { SLOT, START, KNOWN, STEP, ORIGIN, ADVANCE };

typedef struct {
    const Transformer *transformer;
    const Linear *head;
    const float *table;                                 // [table rows, n_embd]
    int64_t vocab, codebooks, none_row;                 // rows of codes, level by level, then the row of "none"
    int64_t conditioning_rows, lookahead, rate;         // conditioning_rows 0: none
    int64_t *tokens, token_slot_stride, token_stride;   // [slot][codebook][frame], read and written
    const int64_t *semantic;                            // [slot][token]
    int64_t semantic_stride;
    const float *styles;                                // [slot][n_embd], NULL: none
    int64_t passes;                                     // 2: each step with the prompt and without (model/guidance.py)
    float guidance, music_guidance;                     // 0: the second pass is left out
    int64_t semantic_guidance;                          // 1: in music, the second pass goes without semantic tokens
    const uint8_t *music;                               // [slot]: whether the prompt is music
    const uint8_t *struck;                              // [id]: whether it begins a note; NULL: steps are not told
    int64_t intervals, longest, shares;                 // as in model/pulse.py
} Stage;

static void add(const Stage *stage, const float *from, float *x) {
    int64_t n = stage->transformer->n_embd;
    for (int64_t i = 0; i < n; i++) x[i] += from[i];
}

static void add_row(const Stage *stage, int64_t row, float *x) {
    add(stage, stage->table + row * stage->transformer->n_embd, x);
}

// Adds to x [n_embd] what the strokes among a window's first `step` tokens say: as model/pulse.py.
static void add_pulse(const Stage *stage, const int64_t *tokens, int64_t step, float *x) {
    int64_t interval[64]; // room for more than model/pulse.py asks for
    int64_t known = 0, last = -1, later = -1, row = stage->none_row + 1;
    for (int64_t frame = step - 1; frame >= 0 && known < stage->intervals; frame--) {
        if (!stage->struck[tokens[frame]]) continue;
        if (last < 0) last = frame;
        else interval[known++] = later - frame;
        later = frame;
    }
    int64_t since = step - last;
    add_row(stage, row + (last < 0 ? 0 : since < stage->longest ? since : stage->longest), x);
    row += 1 + stage->longest;
    for (int64_t shift = -1; shift <= 1; shift++, row += stage->shares + 3) {
        int64_t same = 0, least = 0;
        for (int64_t i = 0; i < known; i++) {
            same += interval[i] == since + shift;
            least += interval[i] >= since + shift;
        }
        add_row(stage, row + (!known ? 0 : !least ? 1 : 2 + stage->shares * same / least), x);
    }
}

// The embedding x [n_embd] of one row's next step: of the previous column of the delayed codes, plus what is added
// to it: `around` [n_embd], summed apart and in the order of model/stages.py, since sums of floats depend on order.
// `told`: with semantic tokens.
static void embed(const Stage *stage, int64_t slot, int64_t start, int64_t step, const float *style, int told,
                  float *x, float *around) {
    int64_t n = stage->transformer->n_embd;
    memset(x, 0, (size_t)n * sizeof(float));
    memset(around, 0, (size_t)n * sizeof(float));
    const int64_t *tokens = stage->tokens + slot * stage->token_slot_stride;
    for (int64_t k = 0; k < stage->codebooks; k++) {
        int64_t frame = step - 1 - k;
        int64_t code = frame < 0 ? stage->vocab : tokens[k * stage->token_stride + start + frame];
        add_row(stage, code == stage->vocab ? stage->none_row : k * stage->vocab + code, x);
    }
    if (stage->struck) {
        add_pulse(stage, tokens + start, step, around);
        add(stage, around, x);
        memset(around, 0, (size_t)n * sizeof(float));
    }
    if (stage->conditioning_rows) {
        const int64_t *ahead = stage->semantic + slot * stage->semantic_stride + (start + step) / stage->rate;
        int64_t row = stage->none_row + 1;
        for (int64_t i = 0; i <= stage->lookahead; i++, row += stage->conditioning_rows)
            add_row(stage, row + (told ? ahead[i] : stage->conditioning_rows - 1), around);
        add_row(stage, row + step % stage->rate, around);
    }
    if (style) add(stage, style, around);
    add(stage, around, x);
}

// How far the prompt in `slot` moves logits, and how many passes that takes.
static float strength_of(const Stage *stage, int64_t slot) {
    return stage->music[slot] ? stage->music_guidance : stage->guidance;
}

static int64_t passes_of(const Stage *stage, int64_t slot) {
    return stage->passes == 2 && strength_of(stage, slot) == 0 ? 1 : stage->passes;
}

// Logits [2][n] with the prompt and without -> guided ones, [n]. As model/guidance.py rounds: no fused product and sum.
__attribute__((optimize("fp-contract=off"))) static void guide(const float *logits, int64_t n, float guidance,
                                                               float *out) {
    for (int64_t i = 0; i < n; i++) {
        float moved = guidance * (logits[i] - logits[n + i]);
        out[i] = logits[i] + moved;
    }
}

// `steps` steps of `rows` rows at positions [fields][rows], which move on. Row i continues the slots of the cache from
// i * passes on.
EXPORT void stage_steps(const Stage *stage, const Cache *cache, int64_t *positions, int64_t rows, int64_t steps,
                        const Sampling *sampling) {
    const Transformer *t = stage->transformer;
    int64_t n = t->n_embd, outputs = stage->head->outputs, passes = stage->passes, all = rows * passes;
    float *x = scratch(EMBEDDED, (size_t)((all + 1) * n) * sizeof(float));
    float *logits = scratch(LOGITS, (size_t)(all * outputs) * sizeof(float));
    int64_t *kept = scratch(DRAWN, (size_t)(3 * all + rows * (stage->codebooks + 1)) * sizeof(int64_t));
    int64_t *own = kept, *at = own + all, *visible = at + all, *drawn_at = visible + all, *ids = drawn_at + rows;
    const int64_t *field[] = {positions, positions + rows, positions + 2 * rows, NULL, positions + 4 * rows,
                              positions + 5 * rows};
    int64_t *step = positions + STEP * rows;
    for (; steps > 0; steps--) {
        int64_t row = 0;
        for (int64_t r = 0; r < rows; r++) {
            int64_t slot = field[SLOT][r], start = field[START][r], prompt = field[ORIGIN][r] - start;
            for (int64_t pass = 0; pass < passes_of(stage, slot); pass++, row++) {
                int64_t left_out = pass && prompt > 0 ? prompt : 0;
                const float *style = pass || !stage->styles ? NULL : stage->styles + slot * n;
                int told = !pass || !stage->semantic_guidance || !stage->music[slot];
                embed(stage, slot, start + left_out, step[r] - left_out, style, told, x + row * n, x + all * n);
                own[row] = r * passes + pass;
                at[row] = step[r] - left_out;
                visible[row] = at[row] + 1;
            }
            drawn_at[r] = start + step[r] - field[ORIGIN][r];
        }
        transformer_rows(t, cache, x, row, 0, own, at, visible);
        linear_rows(stage->head, x, row, logits, 0);
        row = 0;
        for (int64_t r = 0; passes == 2 && r < rows; r++) {
            int64_t slot = field[SLOT][r];
            float *from = logits + row * outputs, *to = logits + r * outputs; // never behind what is still to be read
            if (passes_of(stage, slot) == 2) guide(from, outputs, strength_of(stage, slot), to);
            else memmove(to, from, (size_t)outputs * sizeof(float));
            row += passes_of(stage, slot);
        }
        draw_rows(logits, rows, stage->codebooks, stage->vocab, sampling, drawn_at, NULL, ids);
        for (int64_t r = 0; r < rows; r++) {
            int64_t *tokens = stage->tokens + field[SLOT][r] * stage->token_slot_stride + field[START][r];
            for (int64_t k = 0; k < stage->codebooks; k++) {
                int64_t frame = step[r] - k;
                if (frame >= field[KNOWN][r]) tokens[k * stage->token_stride + frame] = ids[r * stage->codebooks + k];
            }
            step[r] += field[ADVANCE][r];
        }
    }
}
