// Attention of random shapes under a sanitizer: every buffer ends where it ends, and what was not written is no number.

#include "attention_training.cpp"

#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

static uint32_t state = 12345;

static int64_t draw(int64_t below) {
    state = state * 1664525u + 1013904223u;
    return int64_t(state >> 8) % below;
}

static void threads(void (*work)(void *), void *data, unsigned count, unsigned) {
    std::vector<std::thread> team;
    for (unsigned i = 1; i < count; i++) team.emplace_back(work, data);
    work(data);
    for (auto &one : team) one.join();
}

struct Tensors {
    std::vector<float> numbers[8], logs;
    Attention call{};

    Tensors(const Attention &sizes, const std::vector<float> (&given)[4]) : call(sizes) {
        Heads *const of[] = {&call.query, &call.key, &call.value, &call.grad_out, &call.out, &call.grad_query, &call.grad_key, &call.grad_value};
        for (int i = 0; i < 8; i++) {
            const bool keys = i == 1 || i == 2 || i >= 6;
            const int64_t heads = keys ? call.kv_heads : call.heads, rows = keys ? call.keys : call.queries;
            if (i < 4) numbers[i] = given[i];
            else numbers[i].assign(size_t(call.batch * heads * rows * call.dim), NAN);
            *of[i] = {numbers[i].data(), rows * heads * call.dim, call.dim, heads * call.dim};
        }
        logs.assign(size_t(call.batch * call.heads * call.queries), NAN);
        call.logs = logs.data();
    }

    void run(int count) {
        for (int back = 0; back < 2; back++) {
            std::vector<float> room(size_t(count * bloomery_attention_room(call.keys, call.dim)), NAN);
            call.room = room.data();
            bloomery_attention(&call, back, count, threads);
        }
    }
};

int main() {
    int trials = 0;
    for (; trials < 60; trials++) {
        Attention sizes{};
        sizes.batch = 1 + draw(3), sizes.kv_heads = 1 + draw(3), sizes.heads = sizes.kv_heads * (1 + draw(3));
        sizes.causal = int32_t(draw(2)), sizes.dim = 1 + draw(40), sizes.scale = 0.3f;
        sizes.queries = 1 + draw(trials % 6 ? 80 : 600), sizes.keys = sizes.causal ? sizes.queries : 1 + draw(trials % 6 ? 80 : 600);
        std::vector<float> given[4];
        for (int i = 0; i < 4; i++) {
            const bool keys = i == 1 || i == 2;
            given[i].resize(size_t(sizes.batch * (keys ? sizes.kv_heads * sizes.keys : sizes.heads * sizes.queries) * sizes.dim));
            for (float &one : given[i]) one = float(draw(2000) - 1000) / 500.0f;
        }
        Tensors alone(sizes, given), together(sizes, given);
        alone.run(1), together.run(3);
        for (int i = 4; i < 8; i++) {
            for (size_t n = 0; n < alone.numbers[i].size(); n++) {
                if (!std::isfinite(alone.numbers[i][n])) return std::fprintf(stderr, "trial %d: not finite\n", trials), 1;
                if (alone.numbers[i][n] != together.numbers[i][n]) return std::fprintf(stderr, "trial %d: threads differ\n", trials), 1;
            }
        }
    }
    std::printf("%d trials\n", trials);
    return 0;
}
