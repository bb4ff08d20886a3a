// Runs steps of small random models through the native step, for sanitizers: every format, norm, placement and
// activation, odd sizes, windows, caps, mixed streams, token values, a look back, both kinds of cache, sequences in
// several stretches. Checks that numbers are
// finite, that a row alone gives what it gives in company, and a prompt in parts what it gives whole; what is right is
// tested from Python.

#include "decoder_step.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

using namespace bloomery;

extern "C" {
Matrix *bloomery_matrix(int32_t, int64_t, int64_t, int64_t, int32_t, int32_t);
void bloomery_free(Matrix *);
int32_t bloomery_multiply(const Matrix *, const float *, int32_t, float *, int32_t, int64_t);
int32_t bloomery_step(const Model *, const Step *, int32_t, int64_t);
const char *bloomery_instructions();
}

static uint32_t state = 1;
static uint32_t draw(uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}
static float number() { return float(int(draw(2001)) - 1000) / 1000.0f; }
static std::vector<float> numbers(int64_t count) {
    std::vector<float> out(static_cast<size_t>(count));
    for (float &one : out) one = number();
    return out;
}

// Any numbers will do, wherever they lie: but the pair of a last odd input is to be zeros.
static Matrix *matrix(int format, int64_t outputs, int64_t inputs, bool with_bias) {
    if (format == INT4 && inputs % GROUP) format = INT8;
    const int64_t parts = inputs % 4 ? 1 : 2, groups = format == INT4 ? inputs / GROUP : format == INT8 ? parts : 0;
    const int32_t scale_bytes = format == INT4 || outputs % 2 ? 2 : 4;
    Matrix *m = bloomery_matrix(format, outputs, inputs, groups, scale_bytes, with_bias);
    const int64_t all = m->panels * PANEL;
    const int64_t bytes = padded(outputs, width(*m)) * row_bytes(*m);
    if (m->bytes != size_t(bytes + all * groups * scale_bytes)) std::abort();
    auto *floats = static_cast<float *>(m->weights);
    auto *halves = static_cast<uint16_t *>(m->weights);
    auto *codes = static_cast<int8_t *>(m->weights);
    for (int64_t i = 0; format == FLOAT32 && i < bytes / 4; i++) floats[i] = number();
    for (int64_t i = 0; format == FLOAT16 && i < bytes / 2; i++) halves[i] = uint16_t(0x2000 + draw(0x1800) + (draw(2) << 15));
    for (int64_t i = 0; format == BFLOAT16 && i < bytes / 2; i++) halves[i] = uint16_t(0x3c00 + draw(0x380) + (draw(2) << 15));
    for (int64_t i = 0; (format == INT8 || format == INT4) && i < bytes; i++) {
        const bool last = i % (PANEL * row_bytes(*m)) >= PANEL * (row_bytes(*m) - 2);
        codes[i] = format == INT8 && inputs % 2 && last && i % 2 ? int8_t(0) : int8_t(int(draw(256)) - 128);
    }
    if (scale_bytes == 4) std::fill_n(static_cast<float *>(m->scales), all * groups, 0.0078125f);
    else std::fill_n(static_cast<uint16_t *>(m->scales), all * groups, uint16_t(0x3c00));  // the same
    for (int64_t o = 0; with_bias && o < all; o++) m->bias[o] = number();
    return m;
}

int main() {
    int steps = 0;
    for (int trial = 0; trial < 30; trial++) {
        const int format = trial % 5, groups = 1 + int(draw(3)), kv = 1 + int(draw(3)), dim = 2 * (1 + int(draw(20)));
        const int hidden = 8 + int(draw(70)), wide = 5 + int(draw(100)), words = 3 + int(draw(60));
        Model m{};
        m.layers = 2, m.hidden = format == INT4 ? 64 : hidden, m.heads = groups * kv, m.kv_heads = kv, m.head_dim = dim;
        m.rotary_dim = trial % 3 ? dim : dim / 2 / 2 * 2, m.intermediate = wide, m.vocabulary = words;
        m.activation = trial % 7, m.gated = trial % 2, m.parallel = trial % 5 == 0, m.tables = 1;
        m.embedding_scale = 1.5f, m.attention_scale = 0.2f;
        m.attention_cap = trial % 4 == 1 ? 5.0f : 0.0f, m.logit_cap = trial % 3 == 1 ? 3.0f : 0.0f;
        const int64_t capacity = 64;
        auto embedding = numbers(int64_t(words) * m.hidden), table = numbers(capacity * m.hidden);
        auto weight = numbers(std::max(m.hidden, dim)), cosine = numbers(capacity * dim), sine = numbers(capacity * dim);
        auto slopes = numbers(m.heads);
        m.embedding = embedding.data();
        m.positions = trial % 6 == 2 ? table.data() : nullptr;
        m.slopes = trial % 6 == 3 ? slopes.data() : nullptr;
        m.mixes = trial % 3 == 0, m.gate_inputs = std::min(m.hidden, 32), m.smear_inputs = std::min(m.hidden, 24);
        m.bigram_rows = 1 + int(draw(90));
        const auto smear = numbers(m.smear_inputs + 1), bigrams = numbers(int64_t(m.bigram_rows) * m.hidden);
        const auto values_of = numbers(int64_t(words) * kv * dim), gates = numbers(int64_t(kv) * m.gate_inputs);
        const bool looks_back = trial % 4 > 1;
        std::vector<int64_t> ids(160, 0);
        m.smear = trial % 4 == 2 || trial % 8 == 3 ? smear.data() : nullptr;
        m.bigrams = trial % 4 == 3 ? bigrams.data() : nullptr;
        const Norm wide_norm{trial % 2 ? RMS_NORM : LAYER_NORM, m.hidden, 1e-5f, 0, weight.data(), trial % 4 ? weight.data() : nullptr};
        const Norm head_norm{trial % 3 == 0 ? RMS_NORM : NO_NORM, dim, 1e-5f, 0, weight.data(), nullptr}, none{};
        std::vector<Layer> layers(2);
        std::vector<Matrix *> matrices;
        auto made = [&](int64_t outputs, int64_t inputs) {
            matrices.push_back(matrix(format, outputs, inputs, trial % 2 == 0));
            return matrices.back();
        };
        for (Layer &one : layers) {
            one = {wide_norm, trial % 3 == 2 ? wide_norm : none, wide_norm, trial % 3 == 2 ? wide_norm : none, head_norm, head_norm,
                   made(int64_t(m.heads + 2 * kv) * dim, m.hidden), made(m.hidden, int64_t(m.heads) * dim),
                   made(int64_t(m.gated ? 2 : 1) * wide, m.hidden), made(m.hidden, wide),
                   trial % 5 < 2 ? values_of.data() : nullptr, gates.data(), trial % 2 ? 5 : 0, m.rotary_dim ? 0 : -1, 0.75f, 0.5f};
        }
        m.layer = layers.data(), m.head = made(words, m.hidden);
        m.embedding_norm = trial % 5 == 1 ? wide_norm : none, m.last_norm = wide_norm;
        const int32_t cache = std::array{FLOAT32, INT8, FLOAT16}[size_t(trial % 3)];
        const size_t cells = size_t(capacity * kv * dim) * 2;
        std::vector<std::vector<float>> keys(2, std::vector<float>(cells)), values = keys, scales = keys, other = keys;
        std::vector<void *> key_at, value_at;
        std::vector<float *> key_scales, value_scales;
        for (int l = 0; l < 2; l++) {
            key_at.push_back(keys[l].data()), value_at.push_back(values[l].data());
            key_scales.push_back(scales[l].data()), value_scales.push_back(other[l].data());
        }
        // Three texts: one in a stretch, one in two, one that begins in the middle of things.
        const int rows = 1 + int(draw(9));
        for (int position = 0; position < 9; position++) {
            std::vector<int32_t> token, place(static_cast<size_t>(rows), position), text;
            std::vector<int64_t> runs{0}, run;
            std::vector<const float *> cosines, sines;
            for (int r = 0; r < rows; r++) {
                token.push_back(int32_t(draw(uint32_t(words)))), text.push_back(r);
                const int64_t first = r * 7 % 64, split = position < 3 ? position + 1 : 3;
                run.insert(run.end(), {first, split});
                if (position >= 3) run.insert(run.end(), {first + 64, position + 1 - split});
                runs.push_back(int64_t(run.size()) / 2);
                cosines.push_back(cosine.data() + position * m.rotary_dim), sines.push_back(sine.data() + position * m.rotary_dim);
            }
            std::vector<float> logits(size_t(rows * words)), alone(static_cast<size_t>(words));
            std::vector<double> logs(static_cast<size_t>(rows));
            std::vector<int64_t> best(static_cast<size_t>(rows));
            Step step{rows, 0, 0, cache, 0, 2, token.data(), place.data(), text.data(), runs.data(), run.data(), looks_back ? ids.data() : nullptr,
                      key_at.data(), value_at.data(), key_scales.data(), value_scales.data(), cosines.data(), sines.data(), nullptr, logits.data(), logs.data(), best.data()};
            if (bloomery_step(&m, &step, 3, position % 2 ? 0 : 100000)) return 1;
            step.rows = 1, step.logits = alone.data();
            if (bloomery_step(&m, &step, 1 + position % 3, 0)) return 1;
            for (float one : logits)
                if (!std::isfinite(one)) return std::fprintf(stderr, "trial %d: not finite\n", trial), 1;
            for (int r = 0; r < rows; r++) {
                const float *row = logits.data() + int64_t(r) * words;
                const bool is_best = std::max_element(row, row + words) == row + best[size_t(r)];
                if (!is_best || !(logs[size_t(r)] >= double(row[best[size_t(r)]])))
                    return std::fprintf(stderr, "trial %d: not what the row sums up to\n", trial), 1;
            }
            for (int64_t i = 0; i < words; i++)
                if (alone[size_t(i)] != logits[size_t(i)]) return std::fprintf(stderr, "trial %d: rows differ\n", trial), 1;
            steps += 2;
        }
        // A prompt, whole and in three parts, of which only some rows are wanted.
        const int length = trial % 4 ? 20 + int(draw(40)) : 140;
        const auto cosines_of = numbers(int64_t(length) * dim), sines_of = numbers(int64_t(length) * dim), places = numbers(int64_t(length) * m.hidden);
        if (m.positions) m.positions = places.data();
        std::vector<int32_t> token, place, text(size_t(length), 0);
        std::vector<const float *> cosines, sines;
        for (int r = 0; r < length; r++) {
            token.push_back(int32_t(draw(uint32_t(words)))), place.push_back(r);
            cosines.push_back(cosines_of.data() + r * m.rotary_dim), sines.push_back(sines_of.data() + r * m.rotary_dim);
        }
        const size_t many = size_t(length + 9) * size_t(kv * dim);
        for (int l = 0; l < 2; l++) {
            keys[size_t(l)].assign(many, 0), values[size_t(l)].assign(many, 0), scales[size_t(l)].assign(many, 0), other[size_t(l)].assign(many, 0);
            key_at[size_t(l)] = keys[size_t(l)].data(), value_at[size_t(l)] = values[size_t(l)].data();
            key_scales[size_t(l)] = scales[size_t(l)].data(), value_scales[size_t(l)] = other[size_t(l)].data();
        }
        std::vector<float> whole(size_t(length * words)), part(whole.size()), stream(size_t(length) * size_t(m.hidden) * 2);
        const int64_t runs[] = {0, 2};
        int done = 0;
        for (int end : {length, 1 + int(draw(uint32_t(length - 2))), length - 1, length}) {
            const int count = end - done, wanted = done || end < length ? int(draw(uint32_t(count + 1))) : count;
            const int64_t run[] = {length + 2, std::min(end, 7), 0, std::max(0, end - 7)};
            Step step{count, count - wanted, 1, cache, 0, 2, token.data() + done, place.data() + done, text.data(), runs, run,
                      looks_back ? ids.data() : nullptr, key_at.data(), value_at.data(), key_scales.data(), value_scales.data(), cosines.data() + done, sines.data() + done, nullptr,
                      steps && end == length && !done ? whole.data() : part.data(), nullptr, nullptr};
            if (done) step.stream = stream.data(), step.last_layer = 1;  // layer by layer
            if (bloomery_step(&m, &step, 1 + trial % 3, 0)) return 1;
            step.first_layer = 1, step.last_layer = 2;
            if (done && bloomery_step(&m, &step, 1 + trial % 3, 0)) return 1;
            for (int64_t i = 0; i < int64_t(wanted) * words; i++) {
                if (!std::isfinite(step.logits[i])) return std::fprintf(stderr, "trial %d: not finite\n", trial), 1;
                if (step.logits[i] != whole[size_t((end - wanted) * words + i)]) return std::fprintf(stderr, "trial %d: parts differ\n", trial), 1;
            }
            done = end == length && done == 0 ? 0 : end;
            steps++;
        }
        for (const Matrix *one : matrices) {  // by themselves, by one thread and by several
            const int count = 1 + int(draw(20)) + trial % 3 * 120;
            const auto from = numbers(count * one->inputs);
            std::vector<float> first(size_t(count * one->outputs)), second(first.size());
            if (bloomery_multiply(one, from.data(), count, first.data(), 1, 0)) return 1;
            if (bloomery_multiply(one, from.data(), count, second.data(), 3, 1000)) return 1;
            if (first != second) return std::fprintf(stderr, "trial %d: products differ\n", trial), 1;
        }
        for (Matrix *one : matrices) bloomery_free(one);
    }
    std::printf("%d steps, %s kernels\n", steps, bloomery_instructions());
    return 0;
}
