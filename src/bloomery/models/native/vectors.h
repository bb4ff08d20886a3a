// Eight numbers at a time, for sources that are compiled once for each set of instructions (see `build.py`). All that is
// here is a copy of its own in each of them: what a linker shared could bring instructions to a machine that lacks them.

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define BLOOMERY_AVX2 1
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")  // early, so that sums are registers from the first to the last

namespace bloomery {
namespace {

// Eight lanes. The compiler splits them up where registers are narrower. A cast between these keeps the bits.
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
constexpr int64_t LANES = 8;

INLINE int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE Floats all(float x) { return Floats{x, x, x, x, x, x, x, x}; }
INLINE Ints all_ints(int32_t x) { return Ints{x, x, x, x, x, x, x, x}; }

INLINE Floats load(const float *p) {
    Floats v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store(float *p, Floats v) { memcpy(p, &v, sizeof v); }

INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if BLOOMERY_AVX2
    return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

INLINE Floats larger(Floats a, Floats b) {  // b where one is no number
#if BLOOMERY_AVX2
    return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

INLINE float sum(Floats v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

INLINE float largest(Floats v) {
    float most = v[0];
    for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
    return most;
}

// e^x of x < 88: x = n ln 2 + r, |r| <= ln 2 / 2, and of e^r the polynomial of degree 6 that is off by 2^-28 at most.
INLINE Floats exponential(Floats x) {
    const Floats magic = all(12583039.0f);  // 1.5 * 2^23 + 127: the lowest bits of what is added to it are n + 127
    x = larger(all(-87.0f), x);
    const Floats power = multiply_add(x, all(1.44269504f), magic), n = power - magic;
    const Floats r = multiply_add(n, all(-1.42860677e-6f), multiply_add(n, all(-0.693145752f), x));
    Floats series = all(1.381454011e-3f);
    series = multiply_add(series, r, all(8.368745136e-3f));
    series = multiply_add(series, r, all(4.166839079e-2f));
    series = multiply_add(series, r, all(1.666652040e-1f));
    series = multiply_add(series, r, all(4.999999343e-1f));
    series = multiply_add(series, r, all(1.0f));
    series = multiply_add(series, r, all(1.0f));
    return series * (Floats)((Ints)power << 23);
}

}  // namespace
}  // namespace bloomery
