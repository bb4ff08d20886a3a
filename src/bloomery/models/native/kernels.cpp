// The arithmetic of a step, compiled once for each set of instructions (see `build.py`).
//
// Only what is in this file and in vectors.h may be called from it, mathematics of the C library aside: a template that
// the linker shares with other files could otherwise bring instructions there that a machine lacks. A row's result never
// depends on the other rows: a tile of several rows does for each, in the same order, what a tile of one does.

#include "decoder_step.h"
#include "vectors.h"

#if BLOOMERY_AVX2 && defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define BLOOMERY_VNNI 1
#define REGISTERS 32
#define BLOOMERY_TABLE kernels_vnni
#define BLOOMERY_NAME "AVX-512 VNNI"
#elif BLOOMERY_AVX2
#define REGISTERS 16
#define BLOOMERY_TABLE kernels_avx2
#define BLOOMERY_NAME "AVX2"
#else
#define REGISTERS 16
#define BLOOMERY_TABLE kernels_portable
#define BLOOMERY_NAME "portable"
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bloomery {
namespace {

INLINE Floats floats(Ints v) { return __builtin_convertvector(v, Floats); }

// Written out, for this becomes one instruction where there is one, and a conversion of vectors does not.
template <class Narrow>
INLINE Ints widened(const Narrow *p) {
    return Ints{p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]};
}

enum BFloat16 : uint16_t {};  // the upper bits of a float32

INLINE Floats load(const BFloat16 *p) { return (Floats)(widened((const uint16_t *)p) << 16); }
INLINE Floats load(const int8_t *p) { return floats(widened(p)); }

INLINE Floats load(const uint16_t *p) {  // float16
#if BLOOMERY_AVX2
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(__aarch64__)
    const float16x8_t half = vreinterpretq_f16_u16(vld1q_u16(p));
    const float32x4_t parts[2] = {vcvt_f32_f16(vget_low_f16(half)), vcvt_high_f32_f16(half)};
    Floats v;
    memcpy(&v, parts, sizeof v);
    return v;
#else
    const Ints half = widened(p), sign = (half & 0x8000) << 16, rest = (half & 0x7fff) << 13;
    const Ints subnormal = (Ints)((Floats)(rest + (113 << 23)) - all(0x1p-14f));
    const Ints normal = rest < 0x0f800000 ? rest + (112 << 23) : rest | 0x7f800000;  // or infinite, or no number
    return (Floats)(sign | (rest < 0x00800000 ? subnormal : normal));
#endif
}

INLINE void store(uint16_t *p, Floats v) {  // to the nearest float16, of two the even one
#if BLOOMERY_AVX2
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
    const Ints bits = (Ints)v, sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    const Ints normal = (rest - (112 << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
    const Ints subnormal = (Ints)((Floats)rest + all(0.5f)) - 0x3f000000;  // the addition rounds the lowest bits
    const Ints endless = rest > 0x7f800000 ? all_ints(0x7e00) : all_ints(0x7c00);
    const Ints half = sign | (rest < 0x38800000 ? subnormal : rest < 0x477ff000 ? normal : endless);
    for (int i = 0; i < LANES; i++) p[i] = (uint16_t)half[i];
#endif
}

// A register of a row that has `count` numbers left, filled up with `rest` if they are few.
template <class Number>
INLINE Floats load_some(const Number *p, int64_t count, Number rest = 0) {
    if (count >= LANES) return load(p);
    Number lanes[LANES];
    for (int64_t i = 0; i < LANES; i++) lanes[i] = i < count ? p[i] : rest;
    return load(lanes);
}

template <class Number>
INLINE void store_some(Number *p, Floats v, int64_t count) {
    if (count >= LANES) return store(p, v);
    Number lanes[LANES];
    store(lanes, v);
    for (int64_t i = 0; i < count; i++) p[i] = lanes[i];
}

INLINE Floats smaller(Floats a, Floats b) { return -larger(-a, -b); }

// Nearest whole numbers, of |v| < 2^22.
INLINE Floats rounded(Floats v) {
    const Floats magic = all(12582912.0f);  // 1.5 * 2^23: what is added to it keeps no fraction
    return (v + magic) - magic;
}

INLINE Floats sigmoid(Floats x) { return all(1.0f) / (all(1.0f) + exponential(smaller(-x, all(88.0f)))); }

INLINE Floats hyperbolic_tangent(Floats x) {
    return all(1.0f) - all(2.0f) / (exponential(smaller(x + x, all(88.0f))) + all(1.0f));
}

// ---- products -------------------------------------------------------------------------------------------------------

// sums[r][h] += w[h] x[r * across], `count` times, one after the other: w moves on by `step`, x by `along`. Of the
// registers of w two lie together, the next two `apart` from them.
template <class Weight, int R, int H>
INLINE void accumulate(const Weight *w, int64_t step, int64_t apart, const float *x, int64_t across, int64_t along,
                       int64_t count, Floats (&sums)[R][H]) {
    for (int64_t i = 0; i < count; i++, w += step, x += along) {
        Floats here[H];
        UNROLL for (int h = 0; h < H; h++) here[h] = load(w + h / 2 * apart + h % 2 * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            const Floats a = all(x[r * across]);
            UNROLL for (int h = 0; h < H; h++) sums[r][h] = multiply_add(here[h], a, sums[r][h]);
        }
    }
}

// R rows of results, H registers of them from a panel on.
template <int R, int H>
INLINE void finish(const Matrix &m, const Floats (&sums)[R][H], int64_t panel, float *y, int64_t y_stride) {
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int h = 0; h < H; h++) {
            const int64_t at = panel * PANEL + h * LANES;
            const Floats v = m.bias ? sums[r][h] + load(m.bias + at) : sums[r][h];
            store_some(y + r * y_stride + at, v, m.outputs - at);
        }
    }
}

// Lines of memory that will be read next: asked for, evenly, while a tile is computed.
struct Ahead { const char *line; int64_t count; };

// Calls f(first, end) for stretches of all steps, `some` in each, and asks for lines between them.
template <class F>
INLINE void meanwhile(Ahead ahead, int64_t steps, int64_t some, F f) {
    const int64_t lines = steps ? (ahead.count * lesser(some, steps) + steps - 1) / steps : 0;
    for (int64_t i = 0; i < steps; i += some) {
        for (int64_t n = 0; n < lines; n++, ahead.line += 64) __builtin_prefetch(ahead.line, 0, 2);
        f(i, lesser(i + some, steps));
    }
}

// R rows by P panels.
template <class Weight, int R, int P>
INLINE void float_tile(const Matrix &m, const Input &x, int64_t panel, float *y, int64_t y_stride, Ahead ahead) {
    constexpr int64_t together = sizeof(Weight) == 2 ? 2 : 1;  // see `Matrix`
    const int64_t apart = together == 2 ? PANEL : PANEL * m.inputs, step = together * PANEL;
    const Weight *w = (const Weight *)m.weights + panel / together * step * m.inputs + panel % together * PANEL;
    Floats sums[R][2 * P] = {};
    meanwhile(ahead, m.inputs, ahead.count ? 16 : m.inputs, [&](int64_t i, int64_t end) __attribute__((always_inline)) {
        accumulate(w + i * step, step, apart, (const float *)x.data + i, x.stride / 4, 1, end - i, sums);
    });
    finish(m, sums, panel, y, y_stride);
}

#if defined(BLOOMERY_VNNI)
INLINE __m256i add_pairs(__m256i sums, __m256i w, __m256i x) { return _mm256_dpwssd_epi32(sums, w, x); }
INLINE __m256i add_fours(__m256i sums, __m256i w, __m256i x) { return _mm256_dpbusd_epi32(sums, w, x); }
INLINE Ints whole(__m256i sums) { return (Ints)sums; }
#elif BLOOMERY_AVX2
INLINE __m256i add_pairs(__m256i sums, __m256i w, __m256i x) { return _mm256_add_epi32(sums, _mm256_madd_epi16(w, x)); }
INLINE __m256i add_fours(__m256i sums, __m256i w, __m256i x) {  // at most 8 times 2 * 15 * 127: 16 bits hold it
    return _mm256_add_epi16(sums, _mm256_maddubs_epi16(w, x));
}
INLINE Ints whole(__m256i sums) { return (Ints)_mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
#endif

// sums + w[0] x[0] + w[1] x[1] of eight outputs; w (8, 2) int8, x two int16.
INLINE Ints pair_dot(Ints sums, const int8_t *w, const char *x) {
    int32_t both;
    memcpy(&both, x, 4);
#if BLOOMERY_AVX2
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
    return (Ints)add_pairs((__m256i)sums, wide, _mm256_set1_epi32(both));
#else
    for (int i = 0; i < LANES; i++) sums[i] += w[2 * i] * (int16_t)both + w[2 * i + 1] * (both >> 16);
    return sums;
#endif
}

// Eight scales of one of the groups of all panels.
INLINE Floats scales_of(const Matrix &m, int64_t group, int half) {
    const int64_t at = group * PANEL + half * LANES;
    return m.scale_bytes == 4 ? load((const float *)m.scales + at) : load((const BFloat16 *)m.scales + at);
}

// Whole numbers of 8 by 16 bits are summed for at most 512 inputs, which stays below 2^31.
template <int R>
INLINE void int8_tile(const Matrix &m, const Input &x, int64_t panel, float *y, int64_t y_stride, Ahead ahead) {
    constexpr int C = R > 2 ? 1 : 4 / R;  // sums of whole numbers may be taken apart: each waits for the one before
    const int64_t pairs = (m.inputs + 1) / 2, block = m.groups == 1 ? 64 : pairs / m.groups;
    int64_t group = panel * m.groups;
    const int8_t *w = (const int8_t *)m.weights + panel * pairs * 2 * PANEL;
    Floats out[R][2] = {};
    const auto add = [&](int64_t i, Ints (&to)[R][2]) __attribute__((always_inline)) {
        UNROLL for (int half = 0; half < 2; half++)
            UNROLL for (int r = 0; r < R; r++)
                to[r][half] = pair_dot(to[r][half], w + 2 * (i * PANEL + half * LANES), x.data + r * x.stride + 4 * i);
    };
    meanwhile(ahead, pairs, block, [&](int64_t i, int64_t end) __attribute__((always_inline)) {
        Ints sums[C][R][2] = {};
        for (; i + C <= end; i += C)
            UNROLL for (int c = 0; c < C; c++) add(i + c, sums[c]);
        for (; i < end; i++) add(i, sums[0]);
        UNROLL for (int half = 0; half < 2; half++) {
            const Floats scale = scales_of(m, group, half);
            UNROLL for (int r = 0; r < R; r++) {
                UNROLL for (int c = 1; c < C; c++) sums[0][r][half] += sums[c][r][half];
                out[r][half] = multiply_add(floats(sums[0][r][half]), scale, out[r][half]);
            }
        }
        group += m.groups > 1;
    });
    for (int r = 0; r < R; r++)
        for (int half = 0; half < 2; half++) out[r][half] *= all(x.scales[r]);
    finish(m, out, panel, y, y_stride);
}

// One group of 32 inputs: sums of (weight + 8) x of 16 outputs; w is 8 x 32 bytes, x 32 int8, `stride` from row to row.
template <int R>
INLINE void group_dot(const uint8_t *w, const char *x, int64_t stride, Ints (&sums)[R][2]) {
#if BLOOMERY_AVX2
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i narrow[R][2] = {};
    for (int step = 0; step < 8; step++) {
        const __m256i both = _mm256_loadu_si256((const __m256i *)(w + step * 32));
        const __m256i low = _mm256_and_si256(both, nibble);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        for (int r = 0; r < R; r++) {
            int32_t four;
            memcpy(&four, x + r * stride + step * 4, 4);
            narrow[r][0] = add_fours(narrow[r][0], low, _mm256_set1_epi32(four));
            narrow[r][1] = add_fours(narrow[r][1], high, _mm256_set1_epi32(four));
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int half = 0; half < 2; half++) sums[r][half] = whole(narrow[r][half]);
#else
    for (int r = 0; r < R; r++) {
        sums[r][0] = sums[r][1] = all_ints(0);
        for (int at = 0; at < 256; at++) {  // 4 inputs of 8 outputs, 8 times
            const int i = at % 32 / 4, number = (int8_t)x[r * stride + at / 32 * 4 + at % 4];
            sums[r][0][i] += (w[at] & 15) * number;
            sums[r][1][i] += (w[at] >> 4) * number;
        }
    }
#endif
}

template <int R>
INLINE void int4_tile(const Matrix &m, const Input &x, int64_t panel, float *y, int64_t y_stride, Ahead ahead) {
    const uint8_t *w = (const uint8_t *)m.weights + panel * m.groups * 256;
    Floats sums[R][2] = {};
    meanwhile(ahead, m.groups, 1, [&](int64_t g, int64_t) __attribute__((always_inline)) {
        Ints dots[R][2];
        group_dot(w, x.data + g * GROUP, x.stride, dots);
        const Floats by[2] = {scales_of(m, panel * m.groups + g, 0), scales_of(m, panel * m.groups + g, 1)};
        for (int r = 0; r < R; r++) {
            const int64_t at = r * x.groups + g;
            const Ints shift = all_ints(8 * x.sums[at]);
            UNROLL for (int half = 0; half < 2; half++)
                sums[r][half] = multiply_add(floats(dots[r][half] - shift), by[half] * all(x.scales[at]), sums[r][half]);
        }
        w += 256;
    });
    finish(m, sums, panel, y, y_stride);
}

template <int R, int P>
void tile(const Matrix &m, const Input &x, int64_t panel, float *y, int64_t y_stride, Ahead ahead) {
    if (m.format == FLOAT32) return float_tile<float, R, P>(m, x, panel, y, y_stride, ahead);
    if (m.format == FLOAT16) return float_tile<uint16_t, R, P>(m, x, panel, y, y_stride, ahead);
    if (m.format == BFLOAT16) return float_tile<BFloat16, R, P>(m, x, panel, y, y_stride, ahead);
    m.format == INT8 ? int8_tile<R>(m, x, panel, y, y_stride, ahead) : int4_tile<R>(m, x, panel, y, y_stride, ahead);
}

// All rows by each panel, of floats by each two, in tiles of about the same height, as high as there are registers: low
// ones leave the processor waiting for their few sums, and read weights more often. Where the rows take longer than
// memory, the next panels are fetched meanwhile.
void multiply(const Matrix &m, const Input &x, int rows, float *y, int64_t y_stride, int64_t first, int64_t last) {
    typedef void (*Tile)(const Matrix &, const Input &, int64_t, float *, int64_t, Ahead);
    constexpr Tile narrow[] = {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>};
    constexpr Tile wide[] = {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>};
    const bool half = width(m) > PANEL, floats = BITS[m.format] > 8, pairs = floats && (REGISTERS == 32 || rows <= 2);
    const int most = floats || REGISTERS == 32 ? 6 : 4, fetching = half ? 7 : floats ? 12 : 4;
    for (int64_t panel = first, some; panel < last; panel += some) {
        some = pairs && panel + 1 < last ? 2 : 1;
        const bool fetches = rows >= fetching && (some == 2 || !half);
        const int64_t size = PANEL * row_bytes(m), lines = fetches ? some * size / 64 : 0;
        const char *next = (const char *)m.weights + (panel + some) * size;
        for (int row = 0, height; row < rows; row += height) {
            const int left = rows - row, count = (left + most - 1) / most;
            height = (left + count - 1) / count;
            const Ahead ahead = {next + lines * row / rows * 64, lines * height / rows};
            (some == 2 ? wide : narrow)[height - 1](m, from_row(x, row), panel, y + row * y_stride, y_stride, ahead);
        }
    }
}

// The largest |x|; no number if one of them is none or infinite.
float largest_magnitude(const float *x, int64_t size) {
    Floats most = all(0.0f), poison = all(0.0f);
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats v = load_some(x + i, size - i);
        most = larger(most, (Floats)((Ints)v & 0x7fffffff));
        poison += v * all(0.0f);
    }
    return largest(most) + sum(poison);
}

// x as codes * the scale that is returned, codes whole numbers up to `most_code` and up to seven of no meaning after
// them. Of zeros, or of what is no number, the scale alone says so.
template <class Code>
INLINE float round_to(const float *x, Code *codes, int64_t size, float most_code) {
    typedef Code Codes __attribute__((vector_size(LANES * sizeof(Code))));
    const float most = largest_magnitude(x, size);
    if (!(most > 0.0f)) {
        memset(codes, 0, sizeof(Code) * (size_t)size);
        return most;
    }
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats v = rounded(load_some(x + i, size - i) * all(most_code / most));
        const Codes narrow = __builtin_convertvector(__builtin_convertvector(v, Ints), Codes);
        memcpy(codes + i, &narrow, sizeof narrow);
    }
    return most / most_code;
}

void prepare(const Matrix &m, const float *x, int64_t row, const Input &input) {
    const Input to = from_row(input, row);
    if (m.format == INT8) return (void)(*to.scales = round_to(x, (int16_t *)to.data, m.inputs, 32767.0f));
    int8_t *codes = (int8_t *)to.data;
    for (int64_t g = 0; g < m.groups; g++, x += GROUP, codes += GROUP) {
        to.scales[g] = round_to(x, codes, GROUP, 127.0f);
        int32_t total = 0;
        for (int i = 0; i < GROUP; i++) total += codes[i];
        to.sums[g] = total;
    }
}

// ---- norms, rotation, activations -----------------------------------------------------------------------------------

void normalise(const Norm &norm, const float *x, float *y, int64_t size) {
    Floats total = all(0.0f), squares = all(0.0f);
    for (int64_t i = 0; norm.kind == LAYER_NORM && i < size; i += LANES) total += load_some(x + i, size - i);
    const float mean = sum(total) / (float)size;
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats v = load_some(x + i, size - i, mean) - all(mean);
        squares = multiply_add(v, v, squares);
    }
    const Floats factor = all(1.0f / sqrtf(sum(squares) / (float)size + norm.eps));
    for (int64_t i = 0, left = size; i < size; i += LANES, left -= LANES) {
        Floats v = (load_some(x + i, left) - all(mean)) * factor;
        if (norm.weight) v *= load_some(norm.weight + i, left);
        if (norm.bias) v += load_some(norm.bias + i, left);
        store_some(y + i, v, left);
    }
}

// x cos + (-second half, first half) sin, as Hugging Face lays the halves out.
void rotate(float *head, const float *cosine, const float *sine, int rotary_dim) {
    const int half = rotary_dim / 2;
    for (int i = 0; i < half; i++) {
        const float first = head[i], second = head[half + i];
        head[i] = first * cosine[i] - second * sine[i];
        head[half + i] = second * cosine[half + i] + first * sine[half + i];
    }
}

INLINE Floats activated(int kind, Floats x) {
    switch (kind) {
        case SILU: return x * sigmoid(x);
        case QUICK_GELU: return x * sigmoid(all(1.702f) * x);
        case GELU_TANH: {
            const Floats inner = all(0.7978845608f) * multiply_add(x * x * x, all(0.044715f), x);
            return all(0.5f) * x * (all(1.0f) + hyperbolic_tangent(inner));
        }
        case RELU: return larger(x, all(0.0f));
        case RELU_SQUARED: return larger(x, all(0.0f)) * larger(x, all(0.0f));
        case TANH: return hyperbolic_tangent(x);
        default: {  // GELU
            Floats v;
            for (int i = 0; i < LANES; i++) v[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
            return v;
        }
    }
}

void activate(int kind, const float *gate, const float *up, float *out, int64_t size) {
    for (int64_t i = 0; i < size; i += LANES) {
        Floats v = activated(kind, load_some(gate + i, size - i));
        if (up) v *= load_some(up + i, size - i);
        store_some(out + i, v, size - i);
    }
}

void mix(float *x, float a, const float *y, float b, int64_t size) {
    for (int64_t i = 0; i < size; i++) x[i] = a * x[i] + b * y[i];
}

void cap(float *x, float bound, int64_t size) {
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats v = all(bound) * hyperbolic_tangent(load_some(x + i, size - i) / all(bound));
        store_some(x + i, v, size - i);
    }
}

void sum_up(const float *x, int64_t size, double *log, int64_t *best) {
    Floats highest = all(-INFINITY);
    Ints lost = all_ints(0);
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats v = load_some(x + i, size - i, -INFINITY);
        highest = larger(highest, v);
        lost |= (Ints)(v != v);
    }
    const float most = largest(highest);
    bool wrong = most - most != 0.0f;
    for (int lane = 0; lane < LANES; lane++) wrong |= lost[lane] != 0;
    *log = NAN, *best = 0;
    if (wrong) return;
    while (x[*best] != most) ++*best;
    float total = 0.0f;
    for (int64_t i = 0; i < size;) {  // a long sum of short ones, which rounds less
        Floats some = all(0.0f);
        for (const int64_t end = lesser(i + 64 * LANES, size); i < end; i += LANES)
            some += exponential(load_some(x + i, size - i, -INFINITY) - all(most));
        total += sum(some);
    }
    *log = (double)most + (double)logf(total);  // large logits leave no digits of a float for it
}

// ---- attention over paged keys and values ---------------------------------------------------------------------------

void store_pair(const Step &step, int layer, int64_t slot, const Model &model, const float *key, const float *value) {
    const int64_t heads = model.kv_heads, dim = model.head_dim, size = heads * dim;
    for (int number = 0; number < 2; number++) {
        const float *from = number ? value : key;
        void *memory = number ? step.values[layer] : step.keys[layer];
        if (step.cache == FLOAT32) {
            memcpy((float *)memory + slot * size, from, sizeof(float) * (size_t)size);
        } else if (step.cache == FLOAT16) {
            uint16_t *to = (uint16_t *)memory + slot * size;
            for (int64_t i = 0; i < size; i += LANES) {  // what float16 cannot hold becomes the largest that it can
                const Floats v = larger(all(-65504.0f), load_some(from + i, size - i));
                store_some(to + i, smaller(all(65504.0f), v), size - i);
            }
        } else {
            float *scales = (number ? step.value_scales : step.key_scales)[layer] + slot * heads;
            int8_t *codes = (int8_t *)memory + slot * size;
            for (int64_t h = 0; h < heads; h++) {
                const float most = largest_magnitude(from + h * dim, dim);
                scales[h] = (most < 1e-12f ? 1e-12f : most) / 127.0f;
                for (int64_t i = h * dim; i < (h + 1) * dim; i++) codes[i] = (int8_t)lrintf(from[i] / scales[h]);
            }
        }
    }
}

// The sums of registers, each as `sum` adds up.
template <int R>
INLINE void sums_of(const Floats (&v)[R], float *out) {
#if BLOOMERY_AVX2
    if constexpr (R == 4) {
        __m128 half[4];
        for (int r = 0; r < 4; r++)
            half[r] = _mm_add_ps(_mm256_castps256_ps128((__m256)v[r]), _mm256_extractf128_ps((__m256)v[r], 1));
        _MM_TRANSPOSE4_PS(half[0], half[1], half[2], half[3]);
        return _mm_storeu_ps(out, _mm_add_ps(_mm_add_ps(half[0], half[2]), _mm_add_ps(half[1], half[3])));
    }
#endif
    for (int r = 0; r < R; r++) out[r] = sum(v[r]);
}

// A query by R keys, `stride` apart.
template <int R, class Number>
void dots(const float *query, const Number *key, int64_t stride, int64_t dim, float *out) {
    Floats sums[R] = {};
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES)
        UNROLL for (int r = 0; r < R; r++) sums[r] = multiply_add(load(query + i), load(key + r * stride + i), sums[r]);
    if (i < dim)
        for (int r = 0; r < R; r++)
            sums[r] = multiply_add(load_some(query + i, dim - i), load_some(key + r * stride + i, dim - i), sums[r]);
    sums_of(sums, out);
}

// Calls f(slot of the first, how many, how many before) for positions first .. last of a row's text, for up to `most`
// at once, which lie one after the other.
template <class F>
INLINE void stretches(const Step &step, int row, int64_t first, int64_t last, int64_t most, F f) {
    const int32_t text = step.text[row];
    const int64_t *run = step.run + 2 * step.runs[text], *end = step.run + 2 * step.runs[text + 1];
    for (int64_t at = first, before = 0; run < end; before += run[1], run += 2) {
        const int64_t until = lesser(before + run[1], last + 1);
        for (int64_t some; at < until; at += some) {
            some = lesser(until - at, most);
            f(run[0] + at - before, some, at - first);
        }
    }
}

// H registers of out += those of `count` values by their weights.
template <int H, class Number>
INLINE void weigh_some(const Number *values, int64_t stride, const float *weights, int64_t count, float *out) {
    Floats sums[1][H];
    for (int h = 0; h < H; h++) sums[0][h] = load(out + h * LANES);
    accumulate(values, stride, 2 * LANES, weights, 0, 1, count, sums);
    for (int h = 0; h < H; h++) store(out + h * LANES, sums[0][h]);
}

// out (dim) += the sum of `count` values by their weights.
template <class Number>
INLINE void weigh(const Number *values, int64_t stride, const float *weights, int64_t count, int64_t dim, float *out) {
    int64_t i = 0;
    for (; i + 8 * LANES <= dim; i += 8 * LANES) weigh_some<8>(values + i, stride, weights, count, out + i);
    for (; i + 4 * LANES <= dim; i += 4 * LANES) weigh_some<4>(values + i, stride, weights, count, out + i);
    for (; i + 2 * LANES <= dim; i += 2 * LANES) weigh_some<2>(values + i, stride, weights, count, out + i);
    for (int64_t left = dim - i; left > 0; i += LANES, left -= LANES) {
        Floats total = load_some(out + i, left);
        for (int64_t s = 0; s < count; s++)
            total = multiply_add(load_some(values + s * stride + i, left), all(weights[s]), total);
        store_some(out + i, total, left);
    }
}

// All heads go through the positions together, few at a time: memory is read once, from its beginning to its end.
template <class Number>
void attend(const Model &model, const Step &step, int layer, int row, int64_t first, int64_t last, const float *query,
            float *scores, float *out) {
    constexpr bool scaled = sizeof(Number) == 1;
    const int64_t dim = model.head_dim, kv_heads = model.kv_heads, heads = model.heads, group = heads / kv_heads;
    const int64_t stride = kv_heads * dim, count = last + 1 - first, room = (count + LANES - 1) / LANES * LANES;
    // Calls f(a head, keys or values of some positions, how many, their scales if they have any, the head's scores).
    const auto read = [&](void *const *memory, float *const *scales, auto f) {
        stretches(step, row, first, last, 16, [&](int64_t slot, int64_t some, int64_t done) {
            const Number *rows = (const Number *)memory[layer] + slot * stride;
            // Brought near in the order in which they lie: read head by head they jump, and no processor reads ahead of
            // that, nor does it of prefetches, so these are loads.
            for (int64_t i = 0; i < some * stride; i += 64 / sizeof(Number)) (void)((const volatile Number *)rows)[i];
            for (int64_t h = 0; h < heads; h++) {
                const float *scale = scaled ? scales[layer] + slot * kv_heads + h / group : nullptr;
                f(h, rows + h / group * dim, some, scale, scores + h * room + done);
            }
        });
    };
    read(step.keys, step.key_scales, [&](int64_t h, const Number *keys, int64_t some, const float *scale, float *to) {
        int64_t s = 0;
        for (; s + 4 <= some; s += 4) dots<4>(query + h * dim, keys + s * stride, stride, dim, to + s);
        for (; s < some; s++) dots<1>(query + h * dim, keys + s * stride, stride, dim, to + s);
        for (s = 0; s < some; s++) to[s] = to[s] * model.attention_scale * (scaled ? scale[s * kv_heads] : 1.0f);
    });
    float *most = out + heads * dim, *total = most + heads;
    for (int64_t h = 0; h < heads; h++) {
        float *mine = scores + h * room;
        if (model.attention_cap > 0.0f) cap(mine, model.attention_cap, count);
        if (model.slopes)  // as far as a key is behind the query, its score falls
            for (int64_t s = 0; s < count; s++) mine[s] += model.slopes[h] * (float)(first + s - step.position[row]);
        for (int64_t s = count; s < room; s++) mine[s] = -3e38f;  // weighs nothing
        Floats highest = load(mine), sums = all(0.0f);
        for (int64_t s = LANES; s < room; s += LANES) highest = larger(highest, load(mine + s));
        most[h] = largest(highest);
        for (int64_t s = 0; s < room; s += LANES) {
            const Floats e = exponential(load(mine + s) - all(most[h]));
            sums += e;
            store(mine + s, e);
        }
        total[h] = sum(sums);
    }
    memset(out, 0, sizeof(float) * (size_t)(heads * dim));
    read(step.values, step.value_scales, [&](int64_t h, const Number *from, int64_t some, const float *scale, float *w) {
        for (int64_t s = 0; scaled && s < some; s++) w[s] *= scale[s * kv_heads];
        weigh(from, stride, w, some, dim, out + h * dim);
    });
}

void join(const Model &model, const float *parts, int64_t count, float *out) {
    const int64_t dim = model.head_dim, heads = model.heads, size = heads * (dim + 2);
    for (int64_t h = 0; h < heads; h++, out += dim) {
        const float *most = parts + heads * dim + h, *total = most + heads;
        float highest = most[0], whole = 0.0f, share[PARTS];
        for (int64_t c = 1; c < count; c++) highest = most[c * size] > highest ? most[c * size] : highest;
        for (int64_t c = 0; c < count; c++) {
            share[c] = exponential(all(most[c * size] - highest))[0];
            whole += share[c] * total[c * size];
        }
        memset(out, 0, sizeof(float) * (size_t)dim);
        for (int64_t c = 0; c < count; c++) mix(out, 1.0f, parts + c * size + h * dim, share[c] / whole, dim);
    }
}

// Keys or values of `count` positions as floats: where they lie, or turned into `room` (count, dim).
template <class Number>
INLINE const float *opened(const Number *from, const float *scales, int64_t count, const Model &model, float *room) {
    if constexpr (sizeof(Number) == sizeof(float)) return from;
    const int64_t dim = model.head_dim;
    for (int64_t s = 0; s < count; s++, from += model.kv_heads * dim) {
        const Floats scale = all(scales ? scales[s * model.kv_heads] : 1.0f);
        for (int64_t i = 0; i < dim; i += LANES)
            store_some(room + s * dim + i, load_some(from + i, dim - i) * scale, dim - i);
    }
    return room;
}

// Which lanes see position p: those at it or after it, by less than the window.
INLINE Ints seen(int64_t p, Ints place, int32_t window) {
    const Ints here = all_ints((int32_t)p), near = here <= place;
    return window ? near & (here > place - all_ints(window)) : near;
}

// A query lies in a lane, so that all that follows is done lane by lane: H registers of queries, scores, results.
template <class Number, int H>
void attend_lanes(const Model &model, const Step &step, int layer, int row, int count, int head, const float *query,
                  int64_t query_stride, float *room, float *out, int64_t out_stride) {
    constexpr int64_t Q = H * LANES;
    constexpr bool as_they_lie = sizeof(Number) == sizeof(float);
    const int64_t dim = model.head_dim, kv_head = head / (model.heads / model.kv_heads), stride = model.kv_heads * dim;
    const int64_t across = as_they_lie ? stride : dim, start = step.position[row], last = step.position[row + count - 1];
    const int32_t window = model.layer[layer].window;
    const int64_t first = window && start + 1 > window ? start + 1 - window : 0, positions = last + 1 - first;
    float *turned = room, *plain = turned + dim * Q, *scores = plain + KEYS * dim;  // (dim, Q), (KEYS, dim), (positions, Q)
    Ints place[H];
    for (int64_t lane = 0; lane < Q; lane++) {  // lanes without a row do what the last row does
        const int64_t r = lane < count ? lane : count - 1;
        place[lane / LANES][lane % LANES] = step.position[row + r];
        for (int64_t i = 0; i < dim; i++) turned[i * Q + lane] = query[r * query_stride + i];
    }
    // Calls f(keys or values as floats, how many, the first's scores), from the first position to the last.
    const auto read = [&](void *const *memory, float *const *scales, auto f) {
        stretches(step, row, first, last, KEYS, [&](int64_t slot, int64_t some, int64_t done) {
            const Number *from = (const Number *)memory[layer] + slot * stride + kv_head * dim;
            const float *scale = sizeof(Number) == 1 ? scales[layer] + slot * model.kv_heads + kv_head : nullptr;
            f(opened(from, scale, some, model, plain), some, scores + done * Q);
        });
    };
    read(step.keys, step.key_scales, [&](const float *keys, int64_t some, float *to) {
        const auto score = [&](auto &sums, int64_t s, int rows) {
            accumulate(turned, Q, 2 * LANES, keys + s * across, across, 1, dim, sums);
            for (int r = 0; r < rows; r++)
                for (int h = 0; h < H; h++) store(to + (s + r) * Q + h * LANES, sums[r][h] * all(model.attention_scale));
        };
        for (int64_t s = 0; s < some;) {  // the last four may be those before once more
            Floats four[4][H] = {}, one[1][H] = {};
            if (some < 4) score(one, s++, 1);
            else score(four, s + 4 <= some ? s : some - 4, 4), s += 4;
        }
    });
    Floats most[H], total[H];
    for (int h = 0; h < H; h++) most[h] = all(-3e38f), total[h] = all(0.0f);
    if (model.attention_cap > 0.0f) cap(scores, model.attention_cap, positions * Q);
    for (int64_t s = 0; s < positions; s++) {
        for (int h = 0; h < H; h++) {
            Floats v = load(scores + s * Q + h * LANES);
            if (model.slopes) {
                v += all(model.slopes[head]) * floats(all_ints((int32_t)(first + s)) - place[h]);
                store(scores + s * Q + h * LANES, v);
            }
            most[h] = larger(most[h], seen(first + s, place[h], window) ? v : all(-3e38f));
        }
    }
    for (int64_t s = 0; s < positions; s++) {
        for (int h = 0; h < H; h++) {
            const Floats e = exponential(load(scores + s * Q + h * LANES) - most[h]);
            const Floats weight = seen(first + s, place[h], window) ? e : all(0.0f);
            total[h] += weight;
            store(scores + s * Q + h * LANES, weight);
        }
    }
    memset(turned, 0, sizeof(float) * (size_t)(dim * Q));
    read(step.values, step.value_scales, [&](const float *values, int64_t some, const float *weights) {
        const auto weigh_in = [&](auto &sums, int64_t i, int wide) {
            for (int r = 0; r < wide; r++)
                for (int h = 0; h < H; h++) sums[r][h] = load(turned + (i + r) * Q + h * LANES);
            accumulate(weights, Q, 2 * LANES, values + i, 1, across, some, sums);
            for (int r = 0; r < wide; r++)
                for (int h = 0; h < H; h++) store(turned + (i + r) * Q + h * LANES, sums[r][h]);
        };
        int64_t i = 0;
        Floats four[4][H], one[1][H];
        for (; i + 4 <= dim; i += 4) weigh_in(four, i, 4);
        for (; i < dim; i++) weigh_in(one, i, 1);
    });
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < dim; i++) out[r * out_stride + i] = turned[i * Q + r] / total[r / LANES][r % LANES];
}

template <class Number>
void attend_block(const Model &model, const Step &step, int layer, int row, int count, int head, const float *query,
                  int64_t query_stride, float *room, float *out, int64_t out_stride) {
    const auto lanes = count <= LANES ? attend_lanes<Number, 1> : attend_lanes<Number, 2>;
    lanes(model, step, layer, row, count, head, query, query_stride, room, out, out_stride);
}

}  // namespace

const Kernels BLOOMERY_TABLE = {
    BLOOMERY_NAME, prepare, multiply, normalise, rotate, store_pair,
    {attend<float>, attend<uint16_t>, attend<int8_t>}, join,
    {attend_block<float>, attend_block<uint16_t>, attend_block<int8_t>}, activate, mix, cap, sum_up};

}  // namespace bloomery
