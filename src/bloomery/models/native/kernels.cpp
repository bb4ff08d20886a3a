// The arithmetic of a step, compiled once for each set of instructions (see `build.py`).
//
// Only what is in this file and in vectors.h may be called from it, mathematics of the C library aside: a template that
// the linker shares with other files could otherwise bring instructions there that a machine lacks. A row's result never
// depends on the other rows: a tile of several rows does for each, in the same order, what a tile of one does.

#include "decoder_step.h"
#include "vectors.h"

#if BLOOMERY_AVX2 && defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define BLOOMERY_VNNI 1
#define BLOOMERY_TABLE kernels_vnni
#define BLOOMERY_NAME "AVX-512 VNNI"
#elif BLOOMERY_AVX2
#define BLOOMERY_TABLE kernels_avx2
#define BLOOMERY_NAME "AVX2"
#else
#define BLOOMERY_TABLE kernels_portable
#define BLOOMERY_NAME "portable"
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bloomery {
namespace {

typedef int16_t Shorts __attribute__((vector_size(16)));
typedef int8_t Bytes __attribute__((vector_size(8)));

INLINE Floats load(const int8_t *p) {
    Bytes v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, Floats);
}

INLINE float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff, bits;
    if (rest >= 0x7c00) {
        bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    } else if (rest >= 0x400) {
        bits = sign | ((rest << 13) + (112u << 23));
    } else {  // subnormal: rest / 2^24
        float small = (float)rest * 0x1p-24f;
        memcpy(&bits, &small, 4);
        bits |= sign;
    }
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

INLINE float number(float x) { return x; }
INLINE float number(int8_t x) { return x; }
INLINE float number(uint16_t x) { return half_to_float(x); }

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
    Floats v;
    for (int i = 0; i < LANES; i++) v[i] = half_to_float(p[i]);
    return v;
#endif
}

// To the nearest float16, of two the even one.
INLINE uint16_t half_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (rest < 0x38800000) {  // subnormal: the lowest bits of what is added to a half are rounded by the addition
        const float magnitude = x < 0.0f ? -x : x, sum = magnitude + 0.5f;
        memcpy(&bits, &sum, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    return (uint16_t)(sign | ((rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13));
}

INLINE void store(uint16_t *p, Floats v) {
#if BLOOMERY_AVX2
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < LANES; i++) p[i] = half_of(v[i]);
#endif
}

INLINE Floats load_bfloat16(const uint16_t *p) {
    Floats v;
    uint32_t bits[LANES];
    for (int i = 0; i < LANES; i++) bits[i] = (uint32_t)p[i] << 16;
    memcpy(&v, bits, sizeof v);
    return v;
}

INLINE Floats smaller(Floats a, Floats b) { return -larger(-a, -b); }

INLINE Floats magnitude(Floats v) {
    Ints bits;
    memcpy(&bits, &v, sizeof v);
    bits &= all_ints(0x7fffffff);
    memcpy(&v, &bits, sizeof v);
    return v;
}

// Nearest whole numbers, of |v| < 2^22.
INLINE Floats rounded(Floats v) {
    const Floats magic = all(12582912.0f);  // 1.5 * 2^23: what is added to it keeps no fraction
    return (v + magic) - magic;
}

INLINE Floats sigmoid(Floats x) { return all(1.0f) / (all(1.0f) + exponential(smaller(-x, all(88.0f)))); }

INLINE Floats hyperbolic_tangent(Floats x) {
    return all(1.0f) - all(2.0f) / (exponential(smaller(x + x, all(88.0f))) + all(1.0f));
}

// A register of a row that has `count` numbers left, filled up with zeros if they are few.
INLINE Floats load_some(const float *p, int64_t count) {
    if (count >= LANES) return load(p);
    float lanes[LANES] = {0};
    for (int64_t i = 0; i < count; i++) lanes[i] = p[i];
    return load(lanes);
}

INLINE void store_some(float *p, Floats v, int64_t count) {
    if (count >= LANES) return store(p, v);
    for (int64_t i = 0; i < count; i++) p[i] = v[i];
}

// ---- products -------------------------------------------------------------------------------------------------------

template <int R>
INLINE void finish(const Matrix &m, Floats (&sums)[R][2], int64_t panel, float *y, int64_t y_stride) {
    const int64_t left = m.outputs - panel * PANEL;
    for (int r = 0; r < R; r++) {
        for (int half = 0; half < 2; half++) {
            Floats v = sums[r][half];
            if (m.bias) v += load(m.bias + panel * PANEL + half * LANES);
            float *to = y + r * y_stride + panel * PANEL + half * LANES;
            if (left >= PANEL) store(to, v);
            else store_some(to, v, left - half * LANES);
        }
    }
}

// R rows by P panels: P > 1 only keeps more sums going at once, for each waits for the one before.
template <class Weight, int R, int P>
INLINE void float_tile(const Matrix &m, const Input &x, int64_t row, int64_t panel, float *y, int64_t y_stride) {
    const int64_t inputs = m.inputs;
    const Weight *w = (const Weight *)m.weights + panel * inputs * PANEL;
    const float *rows[R];
    for (int r = 0; r < R; r++) rows[r] = (const float *)(x.data + (row + r) * x.stride);
    Floats sums[P][R][2];
    for (int p = 0; p < P; p++)
        for (int r = 0; r < R; r++) sums[p][r][0] = sums[p][r][1] = all(0.0f);
    for (int64_t i = 0; i < inputs; i++) {
        for (int p = 0; p < P; p++) {
            const Floats low = load(w + (p * inputs + i) * PANEL), high = load(w + (p * inputs + i) * PANEL + LANES);
            for (int r = 0; r < R; r++) {
                const Floats a = all(rows[r][i]);
                sums[p][r][0] = multiply_add(low, a, sums[p][r][0]);
                sums[p][r][1] = multiply_add(high, a, sums[p][r][1]);
            }
        }
    }
    for (int p = 0; p < P; p++) finish<R>(m, sums[p], panel + p, y + row * y_stride, y_stride);
}

#if defined(BLOOMERY_VNNI)
INLINE __m256i add_pairs(__m256i sums, __m256i w, __m256i x) { return _mm256_dpwssd_epi32(sums, w, x); }
#elif BLOOMERY_AVX2
INLINE __m256i add_pairs(__m256i sums, __m256i w, __m256i x) { return _mm256_add_epi32(sums, _mm256_madd_epi16(w, x)); }
#endif

// sums + w[0] x[0] + w[1] x[1] of eight outputs; w (8, 2) int8, x two int16.
INLINE Ints pair_dot(Ints sums, const int8_t *w, const int16_t *x) {
#if BLOOMERY_AVX2
    int32_t both;
    memcpy(&both, x, 4);
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
    return (Ints)add_pairs((__m256i)sums, wide, _mm256_set1_epi32(both));
#else
    for (int i = 0; i < LANES; i++) sums[i] += w[2 * i] * x[0] + w[2 * i + 1] * x[1];
    return sums;
#endif
}

template <int R>
INLINE void int8_tile(const Matrix &m, const Input &x, int64_t row, int64_t panel, float *y, int64_t y_stride) {
    const int64_t pairs = (m.inputs + 1) / 2;
    const int8_t *w = (const int8_t *)m.weights + panel * pairs * 2 * PANEL;
    const int16_t *rows[R];
    for (int r = 0; r < R; r++) rows[r] = (const int16_t *)(x.data + (row + r) * x.stride);
    constexpr int C = R > 2 ? 1 : 4 / R;  // sums of whole numbers may be taken apart: each waits for the one before
    Ints sums[R][2][C];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) sums[r][0][c] = sums[r][1][c] = all_ints(0);
    int64_t i = 0;
    for (; i + C <= pairs; i += C) {
        for (int c = 0; c < C; c++) {
            const int8_t *here = w + (i + c) * 2 * PANEL;
            for (int r = 0; r < R; r++) {
                sums[r][0][c] = pair_dot(sums[r][0][c], here, rows[r] + 2 * (i + c));
                sums[r][1][c] = pair_dot(sums[r][1][c], here + 2 * LANES, rows[r] + 2 * (i + c));
            }
        }
    }
    for (; i < pairs; i++) {
        for (int r = 0; r < R; r++) {
            sums[r][0][0] = pair_dot(sums[r][0][0], w + i * 2 * PANEL, rows[r] + 2 * i);
            sums[r][1][0] = pair_dot(sums[r][1][0], w + i * 2 * PANEL + 2 * LANES, rows[r] + 2 * i);
        }
    }
    Floats out[R][2];
    const float *scales = (const float *)m.scales + panel * PANEL;
    for (int r = 0; r < R; r++) {
        for (int half = 0; half < 2; half++) {
            for (int c = 1; c < C; c++) sums[r][half][0] += sums[r][half][c];
            out[r][half] = __builtin_convertvector(sums[r][half][0], Floats) *
                           (load(scales + half * LANES) * all(x.scales[row + r]));
        }
    }
    finish<R>(m, out, panel, y + row * y_stride, y_stride);
}

// One group of 32 inputs: sums of (weight + 8) x of 16 outputs; w is 8 x 32 bytes, x 32 int8.
template <int R>
INLINE void group_dot(const uint8_t *w, const int8_t *const (&x)[R], Ints (&sums)[R][2]) {
#if BLOOMERY_AVX2
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i narrow[R][2];  // without VNNI at most 8 times 2 * 15 * 127: 16 bits hold it
    for (int r = 0; r < R; r++) narrow[r][0] = narrow[r][1] = _mm256_setzero_si256();
    for (int step = 0; step < 8; step++) {
        const __m256i both = _mm256_loadu_si256((const __m256i *)(w + step * 32));
        const __m256i low = _mm256_and_si256(both, nibble);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        for (int r = 0; r < R; r++) {
            int32_t four;
            memcpy(&four, x[r] + step * 4, 4);
            const __m256i a = _mm256_set1_epi32(four);
#if defined(BLOOMERY_VNNI)
            narrow[r][0] = _mm256_dpbusd_epi32(narrow[r][0], low, a);
            narrow[r][1] = _mm256_dpbusd_epi32(narrow[r][1], high, a);
        }
    }
    for (int r = 0; r < R; r++)
        for (int half = 0; half < 2; half++) sums[r][half] = (Ints)narrow[r][half];
#else
            narrow[r][0] = _mm256_add_epi16(narrow[r][0], _mm256_maddubs_epi16(low, a));
            narrow[r][1] = _mm256_add_epi16(narrow[r][1], _mm256_maddubs_epi16(high, a));
        }
    }
    const __m256i ones = _mm256_set1_epi16(1);
    for (int r = 0; r < R; r++)
        for (int half = 0; half < 2; half++) sums[r][half] = (Ints)_mm256_madd_epi16(narrow[r][half], ones);
#endif
#else
    for (int r = 0; r < R; r++) {
        sums[r][0] = sums[r][1] = all_ints(0);
        for (int step = 0; step < 8; step++) {
            for (int i = 0; i < LANES; i++) {
                for (int j = 0; j < 4; j++) {
                    const uint8_t both = w[step * 32 + i * 4 + j];
                    sums[r][0][i] += (both & 15) * x[r][step * 4 + j];
                    sums[r][1][i] += (both >> 4) * x[r][step * 4 + j];
                }
            }
        }
    }
#endif
}

template <int R>
INLINE void int4_tile(const Matrix &m, const Input &x, int64_t row, int64_t panel, float *y, int64_t y_stride) {
    const int64_t groups = groups_of(m);
    const uint8_t *w = (const uint8_t *)m.weights + panel * groups * 256;
    const uint16_t *scales = (const uint16_t *)m.scales + panel * groups * PANEL;
    Floats sums[R][2];
    for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = all(0.0f);
    for (int64_t g = 0; g < groups; g++, w += 256, scales += PANEL) {
        const int8_t *rows[R];
        for (int r = 0; r < R; r++) rows[r] = (const int8_t *)(x.data + (row + r) * x.stride) + g * GROUP;
        Ints dots[R][2];
        group_dot<R>(w, rows, dots);
        const Floats low = load_bfloat16(scales), high = load_bfloat16(scales + LANES);
        for (int r = 0; r < R; r++) {
            const int64_t at = (row + r) * x.groups + g;
            const Ints shift = all_ints(8 * x.sums[at]);
            const Floats scale = all(x.scales[at]);
            sums[r][0] = multiply_add(__builtin_convertvector(dots[r][0] - shift, Floats), low * scale, sums[r][0]);
            sums[r][1] = multiply_add(__builtin_convertvector(dots[r][1] - shift, Floats), high * scale, sums[r][1]);
        }
    }
    finish<R>(m, sums, panel, y + row * y_stride, y_stride);
}

template <int R, int P>
INLINE void tile(const Matrix &m, const Input &x, int64_t row, int64_t panel, float *y, int64_t y_stride) {
    switch (m.format) {
        case FLOAT32: return float_tile<float, R, P>(m, x, row, panel, y, y_stride);
        case FLOAT16: return float_tile<uint16_t, R, P>(m, x, row, panel, y, y_stride);
        case INT8:  // of these two a panel has sums enough, and is read from its beginning to its end
            for (int p = 0; p < P; p++) int8_tile<R>(m, x, row, panel + p, y, y_stride);
            return;
        default:
            for (int p = 0; p < P; p++) int4_tile<R>(m, x, row, panel + p, y, y_stride);
    }
}

// All rows by a panel, in tiles of about the same height: low ones leave the processor waiting for their few sums.
INLINE void tiles(const Matrix &m, const Input &x, int rows, int64_t panel, float *y, int64_t y_stride) {
    const int most = m.format == FLOAT32 || m.format == FLOAT16 ? 6 : 4;  // for which registers have room
    for (int row = 0, height; row < rows; row += height) {
        const int left = rows - row, count = (left + most - 1) / most;
        height = (left + count - 1) / count;
        switch (height) {
            case 6: tile<6, 1>(m, x, row, panel, y, y_stride); break;
            case 5: tile<5, 1>(m, x, row, panel, y, y_stride); break;
            case 4: tile<4, 1>(m, x, row, panel, y, y_stride); break;
            case 3: tile<3, 1>(m, x, row, panel, y, y_stride); break;
            case 2: tile<2, 1>(m, x, row, panel, y, y_stride); break;
            default: tile<1, 1>(m, x, row, panel, y, y_stride);
        }
    }
}

void multiply(const Matrix &m, const Input &x, int rows, float *y, int64_t y_stride, int64_t first, int64_t last) {
    int64_t panel = first;
    for (; rows <= 2 && panel + 1 < last; panel += 2)
        rows == 1 ? tile<1, 2>(m, x, 0, panel, y, y_stride) : tile<2, 2>(m, x, 0, panel, y, y_stride);
    for (; panel < last; panel++) tiles(m, x, rows, panel, y, y_stride);
}

// The largest |x|; no number if one of them is none or infinite.
float largest_magnitude(const float *x, int64_t size) {
    Floats most = all(0.0f), poison = all(0.0f);
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats v = load_some(x + i, size - i);
        most = larger(most, magnitude(v));
        poison += v * all(0.0f);
    }
    return largest(most) + sum(poison);
}

INLINE void store_whole(int16_t *p, Floats v) {
    const Shorts narrow = __builtin_convertvector(__builtin_convertvector(v, Ints), Shorts);
    memcpy(p, &narrow, sizeof narrow);
}

INLINE void store_whole(int8_t *p, Floats v) {
    const Bytes narrow = __builtin_convertvector(__builtin_convertvector(v, Ints), Bytes);
    memcpy(p, &narrow, sizeof narrow);
}

// x as codes * the scale that is returned, codes whole numbers up to `most_code`. Of zeros, or of what is no number, the
// scale alone says so.
template <class Code>
INLINE float round_to(const float *x, Code *codes, int64_t size, float most_code) {
    const float most = largest_magnitude(x, size);
    if (!(most > 0.0f)) {
        for (int64_t i = 0; i < size; i++) codes[i] = 1;
        return most;
    }
    const Floats inverse = all(most_code / most);
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) store_whole(codes + i, rounded(load(x + i) * inverse));
    for (; i < size; i++) codes[i] = (Code)lrintf(x[i] * inverse[0]);
    return most / most_code;
}

void prepare(const Matrix &m, const float *x, int64_t row, const Input &input) {
    if (m.format == INT8) {
        int16_t *codes = (int16_t *)(input.data + row * input.stride);
        input.scales[row] = round_to(x, codes, m.inputs, (float)m.steps);
        if (m.inputs % 2) codes[m.inputs] = 0;
        return;
    }
    int8_t *codes = (int8_t *)(input.data + row * input.stride);
    for (int64_t g = 0; g < groups_of(m); g++, x += GROUP, codes += GROUP) {
        input.scales[row * input.groups + g] = round_to(x, codes, GROUP, 127.0f);
        int32_t total = 0;
        for (int i = 0; i < GROUP; i++) total += codes[i];
        input.sums[row * input.groups + g] = total;
    }
}

// ---- norms, rotation, activations -----------------------------------------------------------------------------------

void normalise(const Norm &norm, const float *x, float *y, int64_t size) {
    Floats total = all(0.0f), squares = all(0.0f);
    const bool layer = norm.kind == LAYER_NORM;
    int64_t i = 0;
    float mean = 0.0f;
    if (layer) {
        for (; i < size; i += LANES) total += load_some(x + i, size - i);
        mean = sum(total) / (float)size;
    }
    for (i = 0; i + LANES <= size; i += LANES) {
        const Floats v = load(x + i) - all(mean);
        squares = multiply_add(v, v, squares);
    }
    float rest = 0.0f;
    for (; i < size; i++) rest += (x[i] - mean) * (x[i] - mean);
    const float factor = 1.0f / sqrtf((sum(squares) + rest) / (float)size + norm.eps);
    for (i = 0; i + LANES <= size; i += LANES) {
        Floats v = (load(x + i) - all(mean)) * all(factor);
        if (norm.weight) v *= load(norm.weight + i);
        if (norm.bias) v += load(norm.bias + i);
        store(y + i, v);
    }
    for (; i < size; i++) {
        float v = (x[i] - mean) * factor;
        if (norm.weight) v *= norm.weight[i];
        y[i] = norm.bias ? v + norm.bias[i] : v;
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
    const int64_t whole = size / LANES * LANES;
    Floats highest = all(-INFINITY);
    Ints lost = all_ints(0);
    for (int64_t i = 0; i < whole; i += LANES) {
        const Floats v = load(x + i);
        highest = larger(highest, v);
        lost |= (Ints)(v != v);
    }
    float most = largest(highest), total = 0.0f;
    bool wrong = false;
    for (int lane = 0; lane < LANES; lane++) wrong |= lost[lane] != 0;
    for (int64_t i = whole; i < size; i++) most = x[i] > most ? x[i] : most, wrong |= x[i] != x[i];
    *log = NAN, *best = 0;
    if (wrong || most - most != 0.0f) return;
    while (x[*best] != most) ++*best;
    for (int64_t i = 0; i < whole;) {  // a long sum of short ones, which rounds less
        Floats some = all(0.0f);
        for (const int64_t end = lesser(i + 64 * LANES, whole); i < end; i += LANES) some += exponential(load(x + i) - all(most));
        total += sum(some);
    }
    for (int64_t i = whole; i < size; i++) total += exponential(all(x[i] - most))[0];
    *log = (double)most + (double)logf(total);  // large logits leave no digits of a float for it
}

// ---- attention over paged keys and values ---------------------------------------------------------------------------

// What float16 cannot hold becomes the largest that it can.
INLINE Floats within_half(Floats v) { return smaller(all(65504.0f), larger(all(-65504.0f), v)); }

void store_pair(const Step &step, int layer, int64_t slot, const Model &model, const float *key, const float *value) {
    const int64_t heads = model.kv_heads, dim = model.head_dim;
    for (int number = 0; number < 2; number++) {
        const float *from = number ? value : key;
        void *memory = number ? step.values[layer] : step.keys[layer];
        if (step.cache == FLOAT32) {
            memcpy((float *)memory + slot * heads * dim, from, sizeof(float) * (size_t)(heads * dim));
            continue;
        }
        if (step.cache == FLOAT16) {
            uint16_t *to = (uint16_t *)memory + slot * heads * dim;
            int64_t i = 0;
            for (; i + LANES <= heads * dim; i += LANES) store(to + i, within_half(load(from + i)));
            for (; i < heads * dim; i++) to[i] = half_of(within_half(all(from[i]))[0]);
            continue;
        }
        float *scales = number ? step.value_scales[layer] : step.key_scales[layer];
        for (int64_t h = 0; h < heads; h++) {
            float scale = largest_magnitude(from + h * dim, dim);
            scale = (scale < 1e-12f ? 1e-12f : scale) / 127.0f;
            scales[slot * heads + h] = scale;
            int8_t *codes = (int8_t *)memory + (slot * heads + h) * dim;
            for (int64_t i = 0; i < dim; i++) codes[i] = (int8_t)lrintf(from[h * dim + i] / scale);
        }
    }
}

constexpr int64_t TOUCHED = 16;  // rows

// Brings rows of numbers near, in the order in which they lie: read head by head they jump, and no processor
// reads ahead of that; nor does it of prefetches, so these are loads.
INLINE void touch(const void *rows, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) (void)*((const volatile char *)rows + at);
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
    Floats first[R], second[R];
    for (int r = 0; r < R; r++) first[r] = second[r] = all(0.0f);
    int64_t i = 0;
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        const Floats low = load(query + i), high = load(query + i + LANES);
        for (int r = 0; r < R; r++) {
            first[r] = multiply_add(low, load(key + r * stride + i), first[r]);
            second[r] = multiply_add(high, load(key + r * stride + i + LANES), second[r]);
        }
    }
    for (; i + LANES <= dim; i += LANES)
        for (int r = 0; r < R; r++) first[r] = multiply_add(load(query + i), load(key + r * stride + i), first[r]);
    for (int r = 0; r < R; r++) first[r] += second[r];
    sums_of<R>(first, out);
    for (; i < dim; i++)
        for (int r = 0; r < R; r++) out[r] += query[i] * number(key[r * stride + i]);
}

// A stretch of a sequence's positions that lie one after the other.
struct Stretch {
    int64_t slot, length;
};

// Calls f(slot of the first, how many, how many before) for the stretches that hold positions first .. last.
template <class F>
INLINE void stretches(const Step &step, int row, int64_t first, int64_t last, F f) {
    int64_t before = 0, done = 0;
    const int32_t text = step.text[row];
    for (int64_t i = step.runs[text]; i < step.runs[text + 1]; i++) {
        const int64_t length = step.run[2 * i + 1];
        const int64_t low = first > before ? first - before : 0;
        const int64_t high = last - before + 1 < length ? last - before + 1 : length;
        if (low < high) {
            f(step.run[2 * i] + low, high - low, done);
            done += high - low;
        }
        before += length;
    }
}

template <int WIDTH, class Number>
INLINE void weigh(const Number *values, int64_t stride, const float *weights, int64_t count, float *out) {
    Floats sums[WIDTH];
    for (int i = 0; i < WIDTH; i++) sums[i] = load(out + i * LANES);
    for (int64_t s = 0; s < count; s++)
        for (int i = 0; i < WIDTH; i++)
            sums[i] = multiply_add(load(values + s * stride + i * LANES), all(weights[s]), sums[i]);
    for (int i = 0; i < WIDTH; i++) store(out + i * LANES, sums[i]);
}

// out (dim) += the sum of `count` values by their weights.
template <class Number>
INLINE void weigh(const Number *values, int64_t stride, const float *weights, int64_t count, int64_t dim, float *out) {
    int64_t i = 0;
    for (; i + 8 * LANES <= dim; i += 8 * LANES) weigh<8>(values + i, stride, weights, count, out + i);
    for (; i + 2 * LANES <= dim; i += 2 * LANES) weigh<2>(values + i, stride, weights, count, out + i);
    for (; i + LANES <= dim; i += LANES) weigh<1>(values + i, stride, weights, count, out + i);
    for (; i < dim; i++)
        for (int64_t s = 0; s < count; s++) out[i] += number(values[s * stride + i]) * weights[s];
}

// All heads go through the positions together, few at a time: memory is read once, from its beginning to its end.
template <class Number>
void attend_in(const Model &model, const Step &step, int layer, int row, int64_t first, int64_t last, const float *query,
               float *scores, float *out) {
    const int64_t dim = model.head_dim, kv_heads = model.kv_heads, heads = model.heads, group = heads / kv_heads;
    const int64_t stride = kv_heads * dim, count = last + 1 - first, room = (count + LANES - 1) / LANES * LANES;
    const int64_t row_bytes = stride * (int64_t)sizeof(Number);
    const bool scaled = sizeof(Number) == 1;
    stretches(step, row, first, last, [&](int64_t slot, int64_t length, int64_t done) {
        const Number *keys = (const Number *)step.keys[layer] + slot * stride;
        for (int64_t s = 0, some; s < length; s += some, done += some) {
            some = length - s < 4 ? 1 : 4;
            if (s % TOUCHED == 0) touch(keys + s * stride, (length - s < TOUCHED ? length - s : TOUCHED) * row_bytes);
            for (int64_t h = 0; h < heads; h++) {
                const auto dot = some == 4 ? dots<4, Number> : dots<1, Number>;
                float *to = scores + h * room + done;
                dot(query + h * dim, keys + s * stride + h / group * dim, stride, dim, to);
                for (int64_t r = 0; r < some; r++) {
                    to[r] *= model.attention_scale;
                    if (scaled) to[r] *= step.key_scales[layer][(slot + s + r) * kv_heads + h / group];
                }
            }
        }
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
    for (int64_t i = 0; i < heads * dim; i++) out[i] = 0.0f;
    stretches(step, row, first, last, [&](int64_t slot, int64_t length, int64_t done) {
        const Number *values = (const Number *)step.values[layer] + slot * stride;
        for (int64_t s = 0, some; s < length; s += some, done += some) {
            some = length - s < 8 ? length - s : 8;
            if (s % TOUCHED == 0) touch(values + s * stride, (length - s < TOUCHED ? length - s : TOUCHED) * row_bytes);
            for (int64_t h = 0; h < heads; h++) {
                float *mine = scores + h * room + done;
                for (int64_t r = 0; scaled && r < some; r++)
                    mine[r] *= step.value_scales[layer][(slot + s + r) * kv_heads + h / group];
                weigh(values + s * stride + h / group * dim, stride, mine, some, dim, out + h * dim);
            }
        }
    });
}

void attend(const Model &model, const Step &step, int layer, int row, int64_t first, int64_t last, const float *query,
            float *scores, float *out) {
    const auto with = step.cache == INT8 ? attend_in<int8_t> : step.cache == FLOAT16 ? attend_in<uint16_t> : attend_in<float>;
    with(model, step, layer, row, first, last, query, scores, out);
}

void join(const Model &model, const float *parts, int64_t count, float *out) {
    const int64_t dim = model.head_dim, heads = model.heads, size = heads * (dim + 2);
    const float *most = parts + heads * dim, *total = most + heads;
    for (int64_t h = 0; h < heads; h += LANES) {
        const int64_t some = heads - h < LANES ? heads - h : LANES;
        Floats highest = load_some(most + h, some), whole = all(0.0f), share[PARTS];
        for (int64_t c = 1; c < count; c++) highest = larger(highest, load_some(most + c * size + h, some));
        for (int64_t c = 0; c < count; c++) {
            share[c] = exponential(load_some(most + c * size + h, some) - highest);
            whole = multiply_add(share[c], load_some(total + c * size + h, some), whole);
        }
        for (int64_t lane = 0; lane < some; lane++) {
            float *to = out + (h + lane) * dim;
            for (int64_t i = 0; i < dim; i++) to[i] = 0.0f;
            for (int64_t c = 0; c < count; c++)
                mix(to, 1.0f, parts + c * size + (h + lane) * dim, share[c][lane] / whole[lane], dim);
        }
    }
}

// sums[r] += w[i] x[r * across + i * along] over i < count, one after the other; w (count, 8 or 16).
template <int R, int H>
INLINE void accumulate(const float *w, int64_t count, const float *x, int64_t across, int64_t along, Floats (&sums)[R][H]) {
    for (int64_t i = 0; i < count; i++, w += H * LANES, x += along) {
        Floats here[H];
        for (int h = 0; h < H; h++) here[h] = load(w + h * LANES);
        for (int r = 0; r < R; r++) {
            const Floats a = all(x[r * across]);
            for (int h = 0; h < H; h++) sums[r][h] = multiply_add(here[h], a, sums[r][h]);
        }
    }
}

// Keys or values of `count` positions as floats: where they lie, or turned into `room` (count, dim).
INLINE const float *opened(const float *from, const float *, int64_t, int64_t, const Model &, float *) { return from; }

INLINE const float *opened(const uint16_t *from, const float *, int64_t, int64_t count, const Model &model, float *room) {
    const int64_t dim = model.head_dim;
    for (int64_t s = 0; s < count; s++, from += model.kv_heads * dim, room += dim) {
        int64_t i = 0;
        for (; i + LANES <= dim; i += LANES) store(room + i, load(from + i));
        for (; i < dim; i++) room[i] = number(from[i]);
    }
    return room - count * dim;
}

INLINE const float *opened(const int8_t *from, const float *scales, int64_t slot, int64_t count, const Model &model, float *room) {
    const int64_t dim = model.head_dim;
    for (int64_t s = 0; s < count; s++) {
        const float scale = scales[(slot + s) * model.kv_heads];
        for (int64_t i = 0; i < dim; i++) room[s * dim + i] = (float)from[s * model.kv_heads * dim + i] * scale;
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
        stretches(step, row, first, last, [&](int64_t slot, int64_t length, int64_t done) {
            const Number *from = (const Number *)memory[layer] + slot * stride + kv_head * dim;
            const float *scale = sizeof(Number) == 1 ? scales[layer] + kv_head : nullptr;
            for (int64_t s = 0; s < length; s += KEYS) {
                const int64_t some = length - s < KEYS ? length - s : KEYS;
                f(opened(from + s * stride, scale, slot + s, some, model, plain), some, scores + (done + s) * Q);
            }
        });
    };
    read(step.keys, step.key_scales, [&](const float *keys, int64_t some, float *to) {
        const auto score = [&](auto &sums, int64_t s, int rows) {
            accumulate(turned, dim, keys + s * across, across, 1, sums);
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
                v += all(model.slopes[head]) * __builtin_convertvector(all_ints((int32_t)(first + s)) - place[h], Floats);
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
            accumulate(weights, some, values + i, 1, across, sums);
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

void attend_block(const Model &model, const Step &step, int layer, int row, int count, int head, const float *query,
                  int64_t query_stride, float *room, float *out, int64_t out_stride) {
    const bool few = count <= LANES;
    const auto floats = few ? attend_lanes<float, 1> : attend_lanes<float, 2>;
    const auto halves = few ? attend_lanes<uint16_t, 1> : attend_lanes<uint16_t, 2>;
    const auto bytes = few ? attend_lanes<int8_t, 1> : attend_lanes<int8_t, 2>;
    const auto with = step.cache == INT8 ? bytes : step.cache == FLOAT16 ? halves : floats;
    with(model, step, layer, row, count, head, query, query_stride, room, out, out_stride);
}

}  // namespace

const Kernels BLOOMERY_TABLE = {BLOOMERY_NAME, prepare, multiply, normalise, rotate, store_pair, attend, join, attend_block, activate, mix, cap, sum_up};

}  // namespace bloomery
