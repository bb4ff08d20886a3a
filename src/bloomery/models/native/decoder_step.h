// What Python and the parts of the native step say to each other.
//
// Plain structures, the same in `library.py`. Rows are tokens of a step; all numbers are float32 unless a name says
// otherwise. Memory that a pointer shows belongs to the caller and outlives the call, or the model where a model holds
// it; a Matrix owns its weights.

#pragma once

#include <cstddef>
#include <cstdint>

namespace bloomery {

enum Format : int32_t { FLOAT32 = 0, FLOAT16 = 1, INT8 = 2, INT4 = 3, BFLOAT16 = 4 };
enum Activation : int32_t { SILU = 0, GELU = 1, GELU_TANH = 2, QUICK_GELU = 3, RELU = 4, RELU_SQUARED = 5, TANH = 6 };
enum NormKind : int32_t { NO_NORM = 0, RMS_NORM = 1, LAYER_NORM = 2 };

constexpr int64_t BITS[] = {32, 16, 8, 4, 16};  // of a weight in each format
constexpr int64_t PANEL = 16;  // outputs that lie together: input by input, so that a register holds eight of them
constexpr int64_t GROUP = 32;  // inputs that share a scale in INT4
constexpr int QUERIES = 16;    // rows that attention reads keys for at once,
constexpr int64_t KEYS = 64;   // and how many keys it has at hand as floats
constexpr int64_t PARTS = 16;  // that a row's positions are cut into at most,
constexpr int64_t SPAN = 32;   // and how many there are in one at least

// A linear layer (outputs, inputs). FLOAT32: [panel][input][16]. Floats of 16 bits: [two panels][input][32], for whole
// lines of memory are read faster. INT8: [panel][pair of inputs][16][2]. INT4: [panel][group of 32][4 inputs][8 outputs
// x 4 inputs], the first eight outputs of a panel in the low halves of the bytes and the others in the high ones, each 8
// more than the weight. Outputs are filled up to whole panels, inputs to whole pairs, with zeros.
struct Matrix {
    int32_t format, scale_bytes;              // 4: float32, 2: bfloat16
    int64_t outputs, inputs, panels, groups;  // INT8: 1, or of an even number of inputs up to 512; floats: 0
    void *weights;
    void *scales;  // [panel][group][16]
    float *bias;  // (panels x 16), or null
    size_t bytes;
};

// Rows of activations as a matrix of a format reads them; see `Kernels::prepare`.
struct Input {
    char *data;
    int64_t stride;  // bytes from row to row
    float *scales;   // INT8: one a row; INT4: one a group
    int32_t *sums;   // INT4: of each group
    int64_t groups;  // of a row, in `scales` and `sums`
};

// The rows from one on. Static, for no linker is to choose among copies for several sets of instructions.
static inline Input from_row(Input x, int64_t row) {
    return {x.data + row * x.stride, x.stride, x.scales + row * x.groups, x.sums + row * x.groups, x.groups};
}

struct Norm {
    int32_t kind;
    int32_t size;
    float eps;
    int32_t unused;
    const float *weight, *bias;  // null: none
};

struct Layer {
    Norm attention_in, attention_out, feed_in, feed_out, query, key;
    const Matrix *qkv, *output, *up, *down;  // `up` holds the gate first, where there is one
    const float *token_values, *value_gates; // null, or what each token adds to its values (vocabulary, H_kv D), and by
                                             // how much: 2 sigmoid of these (H_kv, gate_inputs) times what qkv reads
    int32_t window;                          // positions that a query sees, its own included; 0: all
    int32_t table;                           // which rotary table; -1: none
    float stream_share, begun_share;         // `mixes`: of the stream before it, and of that before all layers
};

struct Model {
    int32_t layers, hidden, heads, kv_heads, head_dim, rotary_dim, intermediate, vocabulary;
    int32_t activation, gated, parallel, tables, mixes, gate_inputs, smear_inputs, bigram_rows;
    float embedding_scale, attention_scale, attention_cap, logit_cap;  // a cap of 0 is none
    const float *embedding, *positions, *slopes;                       // all but the first may be null
    const float *smear, *bigrams;  // how much of the token before is added: weights of its gate, then a factor; of pairs
    const Layer *layer;
    const Matrix *head;
    Norm embedding_norm, last_norm;
};

// One step. Row r is token[r] at position[r] of text[r], whose keys lie in the stretches run[2 i], run[2 i + 1] (first,
// length) for i from runs[text[r]] to runs[text[r] + 1] - 1: they hold its positions in order, the new ones included.
// A text's rows follow one another. Layers first_layer .. last_layer - 1 are computed: where these are not all, `stream`
// (rows, hidden), twice that where a model mixes, carries what is between them, else it is null. `in_blocks` says how
// attention reads: several rows of a text at once, or one; the two differ in the order of sums, and within each a row's
// result depends on no other row. `cache` is the format of keys and values: FLOAT32, FLOAT16 or INT8.
struct Step {
    int32_t rows, skipped, in_blocks, cache;          // of the first `skipped` rows keys and values alone are wanted
    int32_t first_layer, last_layer;
    const int32_t *token, *position, *text;
    const int64_t *runs, *run;
    int64_t *ids;                                     // null, or the token at each place, for a model that looks back
    void *const *keys, *const *values;                // of each layer: (P, H_kv, D)
    float *const *key_scales, *const *value_scales;   // int8: (P, H_kv)
    const float *const *cosines, *const *sines;       // [table][row]: the row of the table that its position has
    float *stream, *logits;                           // (rows, hidden), (rows - skipped, vocabulary)
    double *logs;                                     // null, or of each row of logits, ln of the sum of exponentials,
    int64_t *best;                                    // and the first that is largest
    float *states;                                    // null, or what the head reads: (rows - skipped, hidden)
};

// What is compiled once for each set of instructions.
struct Kernels {
    const char *name;
    // x (inputs) as row `row` of `input`, rounded as `m` reads it. For INT8 and INT4: the others read floats.
    void (*prepare)(const Matrix &m, const float *x, int64_t row, const Input &input);
    // y (rows, y_stride): panels first .. last - 1 of the product, bias added.
    void (*multiply)(const Matrix &m, const Input &x, int rows, float *y, int64_t y_stride, int64_t first, int64_t last);
    void (*normalise)(const Norm &norm, const float *x, float *y, int64_t size);
    void (*rotate)(float *head, const float *cosine, const float *sine, int rotary_dim);
    void (*store)(const Step &step, int layer, int64_t slot, const Model &model, const float *key, const float *value);
    // All heads of one row over positions first .. last, a part of what it sees; `scores` has room for `part_room` of
    // them. `out`, as long as `part_size` says: each head's sum, then the highest scores, then what the weights sum to.
    void (*attend[3])(const Model &model, const Step &step, int layer, int row, int64_t first, int64_t last,
                      const float *query, float *scores, float *out);
    // Up to PARTS such parts, one after the other, are joined: out (H, D).
    void (*join)(const Model &model, const float *parts, int64_t count, float *out);
    // One head of up to QUERIES rows of a text, `stride` floats from row to row; `room` as `block_room` says.
    void (*attend_block[3])(const Model &model, const Step &step, int layer, int row, int count, int head,
                            const float *query, int64_t query_stride, float *room, float *out, int64_t out_stride);
    // act(gate) * up, or act(up); `gate` and `out` may be the same.
    void (*activate)(int kind, const float *gate, const float *up, float *out, int64_t size);
    void (*mix)(float *x, float a, const float *y, float b, int64_t size);  // x = a x + b y
    void (*cap)(float *x, float bound, int64_t size);
    // The logarithm of the sum of e^x, no number where x is none or infinite; and where x is first largest.
    void (*sum_up)(const float *x, int64_t size, double *log, int64_t *best);
};

extern const Kernels kernels_portable, kernels_avx2, kernels_vnni;

inline int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
inline int64_t width(const Matrix &m) { return BITS[m.format] == 16 ? 2 * PANEL : PANEL; }  // outputs that lie together
inline int64_t row_bytes(const Matrix &m) { return padded(m.inputs, m.format == INT8 ? 2 : 1) * BITS[m.format] / 8; }
inline int64_t block_room(const Model &m, int64_t positions) { return (QUERIES + KEYS) * m.head_dim + QUERIES * positions; }
inline int64_t span_of(int64_t positions) { return padded((positions + PARTS - 1) / PARTS, SPAN); }
inline int64_t part_room(const Model &m, int64_t span) { return m.heads * padded(span, 16); }
inline int64_t part_size(const Model &m) { return int64_t(m.heads) * (m.head_dim + 2); }

}  // namespace bloomery
