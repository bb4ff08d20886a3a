// Softmax attention and its gradients, float32, compiled once for each set of instructions (see `build.py`).
//
// A task is a key head of a text with the query heads that share it: nobody else adds to its sums, so that results do
// not depend on how many threads there are. Scores are made in blocks of QUERIES by KEYS and never whole; the backward
// makes them again (Dao, arXiv 2307.08691). All products are one kernel of up to six rows by two registers, whose right
// side lies in panels of PANEL columns. As in kernels.cpp, nothing but the C library's mathematics may be called from here.

#include "vectors.h"

#include <stdlib.h>

namespace bloomery {

struct Heads {  // (batch, heads, rows, dim): numbers of a row lie side by side, these are steps of the others, in floats
    float *data;
    int64_t batch, head, row;
};

struct Attention {
    int64_t batch, heads, kv_heads, queries, keys, dim;
    float scale;
    int32_t causal;
    Heads query, key, value, out, grad_out, grad_query, grad_key, grad_value;
    float *logs;  // (batch, heads, queries): logarithm of the sum of a row's exponentials
    float *room;  // `bloomery_attention_room` for each thread
};

void attention_avx2(const Attention &a, int64_t task, bool back, float *room);

namespace {

constexpr int64_t PANEL = 16, QUERIES = 64, KEYS = 256;  // a block of keys begins where one of queries does
constexpr int64_t ACROSS = KEYS + PANEL;  // from row to row of scores: no power of two, which would share cache lines

INLINE int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// ---- products -------------------------------------------------------------------------------------------------------

// c (R, H registers) = or += x W: x[r * across + i * along], W (depth, PANEL).
template <int R, int H, bool ADD>
void tile(const float *x, int64_t across, int64_t along, const float *w, int64_t depth, float *c, int64_t c_across) {
    const float *rows[R];
    for (int r = 0; r < R; r++) rows[r] = x + r * across;
    Floats sums[R][H];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int h = 0; h < H; h++) sums[r][h] = all(0.0f);
    for (int64_t i = 0, at = 0; i < depth; i++, at += along, w += PANEL) {
        Floats here[H];
        UNROLL for (int h = 0; h < H; h++) here[h] = load(w + h * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            const Floats a = all(rows[r][at]);
            UNROLL for (int h = 0; h < H; h++) sums[r][h] = multiply_add(here[h], a, sums[r][h]);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int h = 0; h < H; h++) {  // added last: a long sum of short ones rounds less
            float *to = c + r * c_across + h * LANES;
            store(to, ADD ? load(to) + sums[r][h] : sums[r][h]);
        }
}

typedef void (*Tile)(const float *, int64_t, int64_t, const float *, int64_t, float *, int64_t);

template <bool ADD>
INLINE Tile tile_of(int64_t height, int64_t columns) {
    static const Tile tiles[2][6] = {
        {tile<1, 1, ADD>, tile<2, 1, ADD>, tile<3, 1, ADD>, tile<4, 1, ADD>, tile<5, 1, ADD>, tile<6, 1, ADD>},
        {tile<1, 2, ADD>, tile<2, 2, ADD>, tile<3, 2, ADD>, tile<4, 2, ADD>, tile<5, 2, ADD>, tile<6, 2, ADD>}};
    return tiles[columns > LANES][height - 1];
}

// Rows in tiles of about the same height: low ones leave the processor waiting for their few sums.
INLINE int64_t height_of(int64_t left) {
    const int64_t count = (left + 5) / 6;
    return (left + count - 1) / count;
}

// Rows (count, dim) as panels (dim / PANEL, count, PANEL), zeros where dim ends.
void pack(const float *from, int64_t across, int64_t count, int64_t dim, float *to) {
    for (int64_t d = 0; d < dim; d += PANEL) {
        const int64_t some = lesser(PANEL, dim - d);
        for (int64_t i = 0; i < count; i++, to += PANEL) {
            const float *row = from + i * across + d;
            if (some == PANEL) store(to, load(row)), store(to + LANES, load(row + LANES));
            else for (int64_t j = 0; j < PANEL; j++) to[j] = j < some ? row[j] : 0.0f;
        }
    }
}

// Eight rows of eight numbers, times a number, as columns.
INLINE void turn_square(const float *from, int64_t across, float scale, float *to, int64_t to_across) {
#if BLOOMERY_AVX2
    __m256 rows[8], pairs[8];
    UNROLL for (int i = 0; i < 8; i++) rows[i] = _mm256_mul_ps(_mm256_loadu_ps(from + i * across), _mm256_set1_ps(scale));
    UNROLL for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4) {
        UNROLL for (int j = 0; j < 2; j++) {
            rows[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
            rows[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
        }
    }
    UNROLL for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_across, _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_across, _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x31));
    }
#else
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) to[j * to_across + i] = from[i * across + j] * scale;
#endif
}

// Rows (count, dim), times a number, turned: panels (count / PANEL, dim, PANEL), zeros where rows end.
void turn(const float *from, int64_t across, int64_t count, int64_t dim, float scale, float *to) {
    for (int64_t i = 0; i < padded(count, PANEL); i += LANES) {
        float *panel = to + i / PANEL * dim * PANEL + i % PANEL;
        const int64_t some = lesser(LANES, count - i);
        int64_t d = 0;
        for (; some == LANES && d + LANES <= dim; d += LANES)
            turn_square(from + i * across + d, across, scale, panel + d * PANEL, PANEL);
        for (; d < dim; d++)
            for (int64_t j = 0; j < LANES; j++) panel[d * PANEL + j] = j < some ? from[(i + j) * across + d] * scale : 0.0f;
    }
}

// ---- a block of queries by a block of keys --------------------------------------------------------------------------

struct Block {
    int64_t start, rows, first, keys, dim, wide;  // queries from `start`, keys from `first`; sums lie `wide` floats apart
    bool causal;
};

// How many of a block's keys a row sees: at least one, for blocks that a row sees nothing of are seen by none.
INLINE int64_t seen(const Block &b, int64_t row) { return b.causal ? lesser(b.keys, b.start + row + 1 - b.first) : b.keys; }

// to (rows, ACROSS) = x (rows, dim) W; of a row what it sees, and more to the end of a panel.
void score(const Block &b, const float *x, int64_t across, const float *w, float *to) {
    for (int64_t k = 0; k < b.keys; k += PANEL, w += b.dim * PANEL) {
        for (int64_t r = 0, height; r < b.rows; r += height) {
            height = height_of(b.rows - r);
            if (seen(b, r + height - 1) > k)
                tile_of<false>(height, b.keys - k)(x + r * across, across, 1, w, b.dim, to + r * ACROSS + k, ACROSS);
        }
    }
}

// sums (rows, wide) += weights (rows, ACROSS) W; its panels are of `count` rows.
void weigh(const Block &b, const float *weights, const float *w, int64_t count, float *sums) {
    for (int64_t d = 0; d < b.dim; d += PANEL, w += count * PANEL) {
        for (int64_t r = 0, height; r < b.rows; r += height) {
            height = height_of(b.rows - r);
            const Tile tile = (b.first ? tile_of<true> : tile_of<false>)(height, b.dim - d);
            tile(weights + r * ACROSS, ACROSS, 1, w, seen(b, r + height - 1), sums + r * b.wide + d, b.wide);
        }
    }
}

// sums (keys, wide) += weights (rows, ACROSS) turned by W, whose panels are of `rows` rows.
void weigh_turned(const Block &b, const float *weights, const float *w, float *sums) {
    for (int64_t k = 0, height; k < b.keys; k += height) {
        height = height_of(b.keys - k);
        const int64_t begin = b.causal && b.first + k > b.start ? b.first + k - b.start : 0, count = b.rows - begin;
        if (count <= 0) return;
        const float *x = weights + begin * ACROSS + k;
        for (int64_t d = 0; d < b.dim; d += PANEL)
            tile_of<true>(height, b.dim - d)(x, 1, ACROSS, w + d * b.rows + begin * PANEL, count, sums + k * b.wide + d, b.wide);
    }
}

// Rows (count, dim) from sums, times a number.
INLINE void write(const float *sums, float factor, int64_t dim, float *to) {
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES) store(to + i, load(sums + i) * all(factor));
    for (; i < dim; i++) to[i] = sums[i] * factor;
}

INLINE float dot(const float *x, const float *y, int64_t dim) {
    Floats total = all(0.0f);
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES) total = multiply_add(load(x + i), load(y + i), total);
    float found = sum(total);
    for (; i < dim; i++) found += x[i] * y[i];
    return found;
}

// Scores to exponentials, less the largest so far; what was added up before shrinks as the largest grows.
void exponentials(const Block &b, float *scores, float *most, float *total, float *sums) {
    for (int64_t r = 0; r < b.rows; r++, scores += ACROSS, sums += b.wide) {
        const int64_t count = seen(b, r);
        store(scores + count, all(-INFINITY));
        Floats high = load(scores);
        for (int64_t k = LANES; k < count; k += LANES) high = larger(high, load(scores + k));
        const float found = largest(high), shift = b.first && most[r] > found ? most[r] : found;
        if (b.first && shift != most[r]) {
            const Floats factor = exponential(all(most[r] - shift));
            total[r] *= factor[0];
            for (int64_t d = 0; d < b.dim; d += LANES) store(sums + d, load(sums + d) * factor);
        }
        Floats whole = all(0.0f);
        for (int64_t k = 0; k < count; k += LANES) {
            const Floats e = exponential(load(scores + k) - all(shift));
            whole += e;
            store(scores + k, e);
        }
        store(scores + count, all(0.0f));  // a tile reads up to five more
        most[r] = shift;
        total[r] = (b.first ? total[r] : 0.0f) + sum(whole);
    }
}

// Scores to weights p, and gradients of weights to those of scores, p (gradient - mean).
void gradients(const Block &b, float *scores, float *grads, const float *logs, const float *means) {
    for (int64_t r = 0; r < b.rows; r++, scores += ACROSS, grads += ACROSS) {
        const int64_t count = seen(b, r);
        for (int64_t k = 0; k < count; k += LANES) {
            const Floats p = exponential(load(scores + k) - all(logs[r]));
            store(scores + k, p);
            store(grads + k, p * (load(grads + k) - all(means[r])));
        }
        store(scores + count, all(0.0f));
        store(grads + count, all(0.0f));
    }
}

// ---- tasks ----------------------------------------------------------------------------------------------------------

INLINE float *rows_of(const Heads &x, int64_t batch, int64_t head) { return x.data + batch * x.batch + head * x.head; }

// Calls f(block) for the blocks of keys that queries from `start` see.
template <class F>
INLINE void blocks(const Attention &a, int64_t start, F f) {
    const int64_t rows = lesser(QUERIES, a.queries - start), end = a.causal ? start + rows : a.keys;
    for (int64_t first = 0; first < end; first += KEYS)
        f(Block{start, rows, first, lesser(KEYS, a.keys - first), a.dim, padded(a.dim, PANEL), a.causal != 0});
}

void forward(const Attention &a, int64_t batch, int64_t kv_head, float *room) {
    const int64_t wide = padded(a.dim, PANEL), group = a.heads / a.kv_heads;
    float *turned = room, *values = turned + padded(a.keys, PANEL) * a.dim, *scores = values + a.keys * wide;
    float *sums = scores + QUERIES * ACROSS, most[QUERIES], total[QUERIES];
    turn(rows_of(a.key, batch, kv_head), a.key.row, a.keys, a.dim, a.scale, turned);
    pack(rows_of(a.value, batch, kv_head), a.value.row, a.keys, a.dim, values);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const float *query = rows_of(a.query, batch, head);
        float *out = rows_of(a.out, batch, head), *logs = a.logs + (batch * a.heads + head) * a.queries;
        for (int64_t start = 0; start < a.queries; start += QUERIES) {
            blocks(a, start, [&](const Block &b) {
                score(b, query + start * a.query.row, a.query.row, turned + b.first * a.dim, scores);
                exponentials(b, scores, most, total, sums);
                weigh(b, scores, values + b.first * PANEL, a.keys, sums);
            });
            for (int64_t r = 0; r < lesser(QUERIES, a.queries - start); r++) {
                write(sums + r * wide, 1.0f / total[r], a.dim, out + (start + r) * a.out.row);
                logs[start + r] = most[r] + logf(total[r]);
            }
        }
    }
}

void backward(const Attention &a, int64_t batch, int64_t kv_head, float *room) {
    const int64_t wide = padded(a.dim, PANEL), group = a.heads / a.kv_heads, turned_size = padded(a.keys, PANEL) * a.dim;
    float *turned = room, *turned_values = turned + turned_size, *keys = turned_values + turned_size;
    float *key_sums = keys + a.keys * wide, *value_sums = key_sums + a.keys * wide, *scores = value_sums + a.keys * wide;
    float *grads = scores + QUERIES * ACROSS, *queries = grads + QUERIES * ACROSS, *outs = queries + QUERIES * wide;
    float *sums = outs + QUERIES * wide, means[QUERIES];
    const float *key = rows_of(a.key, batch, kv_head);
    turn(key, a.key.row, a.keys, a.dim, a.scale, turned);
    turn(rows_of(a.value, batch, kv_head), a.value.row, a.keys, a.dim, 1.0f, turned_values);
    pack(key, a.key.row, a.keys, a.dim, keys);
    memset(key_sums, 0, sizeof(float) * (size_t)(2 * a.keys * wide));
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        float *grad_query = rows_of(a.grad_query, batch, head);
        const float *logs = a.logs + (batch * a.heads + head) * a.queries;
        for (int64_t start = 0; start < a.queries; start += QUERIES) {
            const int64_t rows = lesser(QUERIES, a.queries - start);
            const float *query = rows_of(a.query, batch, head) + start * a.query.row;
            const float *out = rows_of(a.out, batch, head) + start * a.out.row;
            const float *grad = rows_of(a.grad_out, batch, head) + start * a.grad_out.row;
            pack(query, a.query.row, rows, a.dim, queries);
            pack(grad, a.grad_out.row, rows, a.dim, outs);
            for (int64_t r = 0; r < rows; r++) means[r] = dot(out + r * a.out.row, grad + r * a.grad_out.row, a.dim);
            blocks(a, start, [&](const Block &b) {
                score(b, query, a.query.row, turned + b.first * a.dim, scores);
                score(b, grad, a.grad_out.row, turned_values + b.first * a.dim, grads);
                gradients(b, scores, grads, logs + start, means);
                weigh_turned(b, scores, outs, value_sums + b.first * wide);
                weigh_turned(b, grads, queries, key_sums + b.first * wide);
                weigh(b, grads, keys + b.first * PANEL, a.keys, sums);
            });
            for (int64_t r = 0; r < rows; r++)
                write(sums + r * wide, a.scale, a.dim, grad_query + (start + r) * a.grad_query.row);
        }
    }
    float *grad_key = rows_of(a.grad_key, batch, kv_head), *grad_value = rows_of(a.grad_value, batch, kv_head);
    for (int64_t k = 0; k < a.keys; k++) {
        write(key_sums + k * wide, a.scale, a.dim, grad_key + k * a.grad_key.row);
        write(value_sums + k * wide, 1.0f, a.dim, grad_value + k * a.grad_value.row);
    }
}

INLINE void work(const Attention &a, int64_t task, bool back, float *room) {
    (back ? backward : forward)(a, task / a.kv_heads, task % a.kv_heads, room);
}

}  // namespace

#if BLOOMERY_AVX2
void attention_avx2(const Attention &a, int64_t task, bool back, float *room) { work(a, task, back, room); }
}  // namespace bloomery
#else

// ---- what Python calls ----------------------------------------------------------------------------------------------

namespace {

void attention_portable(const Attention &a, int64_t task, bool back, float *room) { work(a, task, back, room); }

struct Job {
    const Attention &a;
    void (*work)(const Attention &, int64_t, bool, float *);
    bool back;
    int64_t room, task, threads;  // the next that nobody has begun
};

// What each thread does.
void take_part(void *given) {
    Job &job = *(Job *)given;
    float *room = job.a.room + job.room * __atomic_fetch_add(&job.threads, 1, __ATOMIC_RELAXED);
    int64_t task;
    while ((task = __atomic_fetch_add(&job.task, 1, __ATOMIC_RELAXED)) < job.a.batch * job.a.kv_heads)
        job.work(job.a, task, job.back, room);
}

bool has_avx2() {
#if defined(BLOOMERY_WITH_AVX2)
    const char *asked = getenv("BLOOMERY_NATIVE_KERNELS");
    return !(asked && !strcmp(asked, "portable")) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

const bool with_avx2 = has_avx2();

}  // namespace
}  // namespace bloomery

using namespace bloomery;

#define BLOOMERY_API extern "C" __attribute__((visibility("default")))

// Whether it is for more than tests: without AVX2 it is about as fast as PyTorch on x86; elsewhere nobody has measured.
BLOOMERY_API int32_t bloomery_attention_is_fast() { return with_avx2; }

// Bytes of Heads and Attention, for who describes them in another language.
BLOOMERY_API void bloomery_attention_sizes(int64_t *sizes) { sizes[0] = sizeof(Heads), sizes[1] = sizeof(Attention); }

// Floats that a thread needs for itself.
BLOOMERY_API int64_t bloomery_attention_room(int64_t keys, int64_t dim) {
    const int64_t wide = padded(dim, PANEL);
    return 2 * padded(keys, PANEL) * dim + 3 * keys * wide + 2 * QUERIES * ACROSS + 3 * QUERIES * wide;
}

// Forward or backward by so many threads of `parallel`, which is called as OpenMP's GOMP_parallel, or by one if it is
// null. It asks for no memory: there is nothing that can fail.
BLOOMERY_API void bloomery_attention(const Attention *a, int32_t back, int32_t threads,
                                     void (*parallel)(void (*)(void *), void *, unsigned, unsigned)) {
    Job job{*a, attention_portable, back != 0, bloomery_attention_room(a->keys, a->dim), 0, 0};
#if defined(BLOOMERY_WITH_AVX2)
    if (with_avx2) job.work = attention_avx2;
#endif
    if (parallel && threads > 1) parallel(take_part, &job, (unsigned)threads, 0);
    else take_part(&job);
}

#endif
