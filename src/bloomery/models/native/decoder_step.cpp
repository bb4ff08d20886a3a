// A step of a whole decoder in one call: threads, the order of work, memory of weights, and what Python calls.
//
// A step is a list of parts, each of which needs what the one before has computed: products are cut by panels of
// outputs and blocks of rows, attention by positions (a prompt's by heads), the rest by rows. Threads come for tasks,
// and nobody waits for one that is not there: a thread that the system keeps off its processor costs its help, no
// more, unless it sits on a task. Who computes what changes no result. This file does not know what a family is, nor
// who asks.

#include "decoder_step.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

namespace bloomery {
namespace {

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
}

// Of the sets that this processor can run the best; BLOOMERY_NATIVE_KERNELS may ask for less ("AVX2", "portable").
const Kernels &kernels() {
    static const Kernels &chosen = []() -> const Kernels & {
#if defined(BLOOMERY_WITH_AVX2)
        const char *asked = std::getenv("BLOOMERY_NATIVE_KERNELS");
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
        const bool wide = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
        if (!asked && avx2 && wide && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
            return kernels_vnni;
        if (avx2 && !(asked && !std::strcmp(asked, "portable"))) return kernels_avx2;
#endif
        return kernels_portable;
    }();
    return chosen;
}

// ---- threads --------------------------------------------------------------------------------------------------------

using Task = std::function<void(int64_t number, int thread)>;

// Tasks that need nothing of each other.
struct alignas(64) Part {
    Part(int64_t count, Task task) : tasks(count), perform(std::move(task)) {}
    const int64_t tasks;
    const Task perform;
    std::atomic<int64_t> claimed{0}, finished{0};
};

// Parts, one after the other, each by whoever is there: over for a caller when `work` returns to it. What tasks read
// may be gone for a thread that comes when all are done.
class Job {
  public:
    explicit Job(int threads) : threads_(threads) {}

    void work(int thread) {
        for (Part &part : parts_) {
            int64_t task, mine = 0;
            for (; (task = part.claimed.fetch_add(1, std::memory_order_relaxed)) < part.tasks; mine++)
                part.perform(task, thread);
            if (mine) part.finished.fetch_add(mine, std::memory_order_acq_rel);
            for (int spins = 0; part.finished.load(std::memory_order_acquire) < part.tasks; spins++)
                spins < 1000 ? relax() : (void)sched_yield();
        }
    }

  protected:
    void add_part(int64_t tasks, Task perform) { parts_.emplace_back(tasks, std::move(perform)); }

    // y = x W^T + b, capped if `cap` is not 0, in enough tasks that threads end together, not so many that coming for
    // them costs; and no more rows at a time than caches hold, in blocks of about the same size.
    void add_product(const Matrix &m, const Input &x, int64_t rows, float *y, int64_t y_stride, float cap = 0.0f) {
        const int64_t panels = std::max<int64_t>(2, m.panels / (threads_ * 6) / 2 * 2);
        const int64_t cuts = (m.panels + panels - 1) / panels, blocks = (rows + 125) / 126;
        const int64_t most = blocks < 2 ? 126 : padded((rows + blocks - 1) / blocks, 6);
        add_part(cuts * ((rows + most - 1) / most), [=, &m](int64_t task, int) {
            // Threads that take turns each go through weights that lie together.
            const int64_t turn = task % cuts, lane = turn % threads_;
            const int64_t cut = lane * (cuts / threads_) + std::min(lane, cuts % threads_) + turn / threads_;
            const int64_t first = cut * panels, last = std::min(first + panels, m.panels);
            const int64_t row = task / cuts * most, some = std::min(most, rows - row);
            float *to = y + row * y_stride;
            k_.multiply(m, from_row(x, row), int(some), to, y_stride, first, last);
            for (int64_t r = 0; cap > 0.0f && r < some; r++)
                k_.cap(to + r * y_stride + first * PANEL, cap, std::min(last * PANEL, m.outputs) - first * PANEL);
        });
    }

    const Kernels &k_ = kernels();

  private:
    const int threads_;
    std::deque<Part> parts_;
};

// Threads that help the one that calls. Between calls they spin for a while, then sleep. One that comes late finds
// nothing left to do, in a job that it keeps alive itself.
class Team {
  public:
    explicit Team(int size) : size_(size), process_(getpid()) {
        try {
            for (int number = 1; number < size_; number++) std::thread([this, number] { help(number); }).detach();
        } catch (const std::system_error &) {  // no more threads: those that are there do the work
        }
    }

    int size() const { return size_; }
    bool is_ours() const { return process_ == getpid(); }  // after a fork the threads are the parent's

    void run(const std::shared_ptr<Job> &job, int64_t spin_nanoseconds) {
        spin_.store(spin_nanoseconds, std::memory_order_relaxed);
        std::unique_lock<std::mutex> lock(mutex_);
        job_ = job;
        turn_.fetch_add(1);
        wake_.notify_all();
        lock.unlock();
        job->work(0);
        lock.lock();
        job_ = nullptr;
    }

  private:
    void help(int number) {
        using Clock = std::chrono::steady_clock;
        for (int64_t seen = 0;;) {
            const auto until = Clock::now() + std::chrono::nanoseconds(spin_.load(std::memory_order_relaxed));
            do {
                for (int i = 0; i < 64 && turn_.load(std::memory_order_acquire) == seen; i++) relax();
            } while (turn_.load(std::memory_order_acquire) == seen && Clock::now() < until);
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return turn_.load() != seen; });
            seen = turn_.load();
            const std::shared_ptr<Job> job = job_;
            lock.unlock();
            if (job) job->work(number);
        }
    }

    const int size_;
    const pid_t process_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::shared_ptr<Job> job_;
    alignas(64) std::atomic<int64_t> turn_{0};
    alignas(64) std::atomic<int64_t> spin_{0};
};

std::mutex one_at_a_time;  // models share the team, for two of them at once would only disturb each other

Team &team_of(int size) {
    static auto &teams = *new std::vector<Team *>;  // never freed: their threads sleep until the process ends
    for (Team *team : teams)
        if (team->is_ours() && team->size() == size) return *team;
    teams.push_back(new Team(size));
    return *teams.back();
}

void run(const std::shared_ptr<Job> &job, int threads, int64_t spin_nanoseconds) {
    if (threads < 2) return job->work(0);
    std::lock_guard<std::mutex> lock(one_at_a_time);
    team_of(threads).run(job, spin_nanoseconds);
}

// ---- weights --------------------------------------------------------------------------------------------------------

#if defined(__SANITIZE_ADDRESS__)  // which sees who reads beyond a shelf, not beyond its neighbour on it
constexpr int64_t LARGE_PAGE = 64, LEAST_SHELF = 1;
#else
constexpr int64_t LARGE_PAGE = int64_t(2) << 20, LEAST_SHELF = 16 * LARGE_PAGE;
#endif
std::mutex shelving;
auto &shelves = *new std::vector<std::pair<std::weak_ptr<char>, int64_t>>;  // that are in small pages still, and bytes

// Room on a shelf that is there as long as something on it: weights lie one after the other, for a step reads all of
// them in turn, and a processor reads ahead of what goes on. May throw std::bad_alloc.
std::shared_ptr<char> shelved(int64_t bytes) {
    static std::weak_ptr<char> last;
    static int64_t used, size;  // of the last one
    const int64_t needed = padded(std::max(bytes, int64_t(1)), 64);
    std::lock_guard<std::mutex> lock(shelving);
    std::shared_ptr<char> shelf = last.lock();
    if (!shelf || size - used < needed) {
        const int64_t room = padded(std::max(needed, LEAST_SHELF), LARGE_PAGE);
        shelf.reset(static_cast<char *>(std::aligned_alloc(size_t(LARGE_PAGE), size_t(room))), std::free);
        if (!shelf) throw std::bad_alloc();  // the last one stays as it is
        size = room, used = 0, last = shelf;
        shelves.emplace_back(shelf, size);
    }
    used += needed;
    return {shelf, shelf.get() + used - needed};
}

// Large pages are read faster by some percent, but a virtual machine may take seconds to find them: shelves come into
// them while others work, once so much was multiplied that it pays (512 steps). Where that fails they stay as they are.
void settle(int products) try {
    static std::atomic<int> done{0};
    if ((done += products) < 1 << 16) return;
    std::lock_guard<std::mutex> lock(shelving);
    done = 0;
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
    std::thread([all = shelves] {
        for (const auto &[shelf, size] : all) {
            if (const auto held = shelf.lock()) madvise(held.get(), size_t(size), MADV_HUGEPAGE);  // some day, by itself
            for (int64_t at = 0; at < size; at += LARGE_PAGE)
                if (const auto held = shelf.lock()) madvise(held.get() + at, size_t(LARGE_PAGE), 25);  // MADV_COLLAPSE
        }
    }).detach();
#endif
    shelves.clear();
} catch (const std::exception &) {  // no thread, no memory: another time
}

// What Python sees as a Matrix.
struct Shelved : Matrix { std::shared_ptr<char> kept[3]; };

// ---- the step -------------------------------------------------------------------------------------------------------

template <class T>
T *grown(std::vector<T> &memory, int64_t size) {
    if (int64_t(memory.size()) < size) memory.resize(size_t(size));
    return memory.data();
}

bool rounds(const Matrix &m) { return m.format == INT8 || m.format == INT4; }

// Room for rounded rows of the widest matrix.
struct Rounded {
    std::vector<char> data;
    std::vector<float> scales;
    std::vector<int32_t> sums;

    void reserve(int64_t rows, int64_t width) {
        grown(data, rows * padded(width, 32) * 2);
        grown(scales, rows * (width / GROUP + 1));
        grown(sums, rows * (width / GROUP + 1));
    }

    // Rows of x, `stride` floats apart, or what `prepare` makes of them.
    Input input(const Matrix &m, const float *x, int64_t stride) {
        if (!rounds(m)) return {reinterpret_cast<char *>(const_cast<float *>(x)), stride * 4, nullptr, nullptr, 0};
        return {data.data(), padded(m.inputs, 32) * 2, scales.data(), sums.data(), m.format == INT4 ? m.groups : 1};
    }
};

// Between the parts of a step, and for each thread what it needs in one. Kept for the next step.
struct Space {
    std::vector<float> x, h, y, qkv, heads, cut, up, room;
    Rounded rounded;
};

// From 0 to 1: the sigmoid of a product.
float gate(const float *w, const float *x, int64_t size) {
    float total = 0.0f;
    for (int64_t i = 0; i < size; i++) total += w[i] * x[i];
    return 1.0f / (1.0f + std::exp(-total));
}

// A product by itself.
struct Product : Job {
    Product(const Matrix &m, const float *x, int64_t rows, float *y, int threads) : Job(threads) {
        if (rounds(m)) rounded_.reserve(rows, m.inputs);
        const Input input = rounded_.input(m, x, m.inputs);
        if (rounds(m)) add_part(rows, [=, &m](int64_t row, int) { k_.prepare(m, x + row * m.inputs, row, input); });
        add_product(m, input, rows, y, m.outputs);
    }

    Rounded rounded_;
};

// All of a step, and the numbers between its parts.
class Run : public Job {
  public:
    Run(const Model &model, const Step &step, int threads, Space &space)
        : Job(threads), m_(model), s_(step), rounded_(space.rounded) {
        const int64_t rows = step.rows;
        heads_size_ = int64_t(m_.heads) * m_.head_dim;
        qkv_size_ = int64_t(m_.heads + 2 * m_.kv_heads) * m_.head_dim;
        up_size_ = int64_t(m_.gated ? 2 : 1) * m_.intermediate;
        int64_t longest = 1;
        for (int r = 0; r < rows; r++) {
            const bool joins = step.in_blocks && r && step.text[r] == step.text[r - 1] && units_.back().count < QUERIES;
            joins ? (void)units_.back().count++ : units_.push_back({r, 1});
            longest = std::max<int64_t>(longest, step.position[r] + 1);
        }
        most_parts_ = std::min(PARTS, (longest + SPAN - 1) / SPAN);
        room_size_ = padded(step.in_blocks ? block_room(m_, longest) : part_room(m_, span_of(longest)), 16);
        x_ = step.stream ? step.stream : grown(space.x, rows * m_.hidden * (m_.mixes ? 2 : 1));
        h_ = grown(space.h, rows * m_.hidden);
        y_ = grown(space.y, rows * m_.hidden);
        qkv_ = grown(space.qkv, rows * qkv_size_);
        heads_ = grown(space.heads, rows * heads_size_);
        up_ = grown(space.up, rows * up_size_);
        cut_ = step.in_blocks ? nullptr : grown(space.cut, rows * most_parts_ * part_size(m_));
        room_ = grown(space.room, room_size_ * threads);
        rounded_.reserve(rows, std::max<int64_t>({m_.intermediate, heads_size_, m_.hidden}));
        add_rows(0, [this](int r) { begin(r); });
        for (int l = s_.first_layer; l < s_.last_layer; l++) add_layer(l);
        if (s_.last_layer < m_.layers) return;
        add_product(*m_.head, h_, m_.hidden, s_.skipped, s_.logits, m_.vocabulary, m_.logit_cap);
        if (s_.logs) add_part(rows - s_.skipped, [this](int64_t row, int) {
            k_.sum_up(s_.logits + row * m_.vocabulary, m_.vocabulary, s_.logs + row, s_.best + row);
        });
    }

  private:
    float *x(int r) { return x_ + int64_t(r) * m_.hidden; }
    float *begun(int r) { return x(s_.rows + r); }  // the stream before all layers
    float *h(int r) { return h_ + int64_t(r) * m_.hidden; }
    float *y(int r) { return y_ + int64_t(r) * m_.hidden; }

    // Once keys and values of the last layer are there, only the rows that are asked for are computed.
    void add_layer(int l) {
        const Layer &layer = m_.layer[l];
        const int first = l + 1 == m_.layers ? s_.skipped : 0;
        add_product(*layer.qkv, h_, m_.hidden, 0, qkv_, qkv_size_);
        add_rows(0, [=](int r) { place(l, r); });
        s_.in_blocks ? add_blocks(l, first) : add_attention(l, first);
        if (!s_.in_blocks || rounds(*layer.output)) add_rows(first, [=](int r) { join(l, r); });
        add_product(*layer.output, heads_, heads_size_, first, y(first), m_.hidden);
        add_rows(first, [=, &layer](int r) { between(layer, r); });
        add_product(*layer.up, h_, m_.hidden, first, up_ + first * up_size_, up_size_);
        add_rows(first, [=, &layer](int r) { activate(layer, r); });
        add_product(*layer.down, up_, up_size_, first, y(first), m_.hidden);
        add_rows(first, [=](int r) { end(l, r); });
    }

    // f(row) for all rows from `first` on.
    template <class F>
    void add_rows(int64_t first, F f) {
        const int64_t rows = s_.rows, some = rows > 64 ? 8 : 1;
        add_part((rows - first + some - 1) / some, [=](int64_t task, int) {
            for (int64_t r = first + task * some; r < std::min(first + (task + 1) * some, rows); r++) f(int(r));
        });
    }

    // Rows of x from `first` on; y is where that goes.
    void add_product(const Matrix &m, const float *x, int64_t x_stride, int64_t first, float *y, int64_t y_stride,
                     float cap = 0.0f) {
        Job::add_product(m, from_row(rounded_.input(m, x, x_stride), first), s_.rows - first, y, y_stride, cap);
    }

    // Row r of x as `m` will read it.
    void prepare(const Matrix &m, float *x, int64_t stride, int r) {
        if (rounds(m)) k_.prepare(m, x + r * stride, r, rounded_.input(m, x, stride));
    }

    const float *normalised(const Norm &norm, const float *from, float *to) {
        if (norm.kind == NO_NORM) return from;
        k_.normalise(norm, from, to, norm.size);
        return to;
    }

    // h = the norm of x, or x, as the next matrix reads it.
    void enter(const Norm &norm, const Matrix &next, int r) {
        const float *from = normalised(norm, x(r), h(r));
        if (from != h(r)) std::copy(from, from + m_.hidden, h(r));
        prepare(next, h_, m_.hidden, r);
    }

    void enter(int l, int r) {
        const Layer &layer = m_.layer[l];
        if (m_.mixes) k_.mix(x(r), layer.stream_share, begun(r), layer.begun_share, m_.hidden);
        enter(layer.attention_in, *layer.qkv, r);
    }

    void add(float *to, const float *y, float share = 1.0f) { k_.mix(to, 1.0f, y, share, m_.hidden); }

    void embed(int64_t token, float *to) {
        const float *from = m_.embedding + token * m_.hidden;
        for (int64_t i = 0; i < m_.hidden; i++) to[i] = from[i] * m_.embedding_scale;
        normalised(m_.embedding_norm, to, to);
    }

    void begin(int r) {
        if (s_.first_layer) return enter(s_.first_layer, r);
        embed(s_.token[r], x(r));
        if (m_.positions) add(x(r), m_.positions + int64_t(s_.position[r]) * m_.hidden);
        if (s_.ids) look_back(r);
        if (m_.mixes) std::copy(x(r), x(r) + m_.hidden, begun(r));
        enter(0, r);
    }

    // What the token before adds: a part of itself (`mixing.Smear`), and the row of the pair (`bigrams.pair_rows`).
    void look_back(int r) {
        const bool joins = r && s_.text[r] == s_.text[r - 1], begins = s_.position[r] == 0;
        const int64_t token = s_.token[r];
        const int64_t before = begins ? m_.vocabulary : joins ? s_.token[r - 1] : s_.ids[slot_of(r, s_.position[r] - 1)];
        s_.ids[slot_of(r, s_.position[r])] = token;
        if (m_.smear && !begins) {
            embed(before, h(r));
            add(x(r), h(r), m_.smear[m_.smear_inputs] * gate(m_.smear, x(r), m_.smear_inputs));
        }
        const int64_t pair = (before * 0x85EBCA6B) ^ (token * 0x9E3779B1);
        if (m_.bigrams) add(x(r), m_.bigrams + (pair ^ pair >> 15) % m_.bigram_rows * m_.hidden);
    }

    // Attention's result joins the stream, and the feed-forward begins.
    void between(const Layer &layer, int r) {
        if (m_.parallel) enter(layer.feed_in, *layer.up, r);
        add(x(r), normalised(layer.attention_out, y(r), y(r)));
        if (!m_.parallel) enter(layer.feed_in, *layer.up, r);
    }

    // What `down` reads takes the place of the gate.
    void activate(const Layer &layer, int r) {
        float *gate = up_ + r * up_size_;
        k_.activate(m_.activation, gate, m_.gated ? gate + m_.intermediate : nullptr, gate, m_.intermediate);
        prepare(*layer.down, up_, up_size_, r);
    }

    // The feed-forward's result joins the stream, and what comes next begins.
    void end(int l, int r) {
        add(x(r), normalised(m_.layer[l].feed_out, y(r), y(r)));
        if (l + 1 < s_.last_layer) enter(l + 1, r);
        if (l + 1 < m_.layers) return;
        enter(m_.last_norm, *m_.head, r);
        if (s_.states && r >= s_.skipped) std::copy_n(h(r), m_.hidden, s_.states + int64_t(r - s_.skipped) * m_.hidden);
    }

    // Queries and keys normalised and rotated, token values added, keys and values stored.
    void place(int l, int r) {
        const Layer &layer = m_.layer[l];
        const int64_t dim = m_.head_dim;
        float *query = qkv_ + r * qkv_size_, *key = query + m_.heads * dim, *value = key + m_.kv_heads * dim;
        for (float *at = query; layer.query.kind && at < key; at += layer.query.size) normalised(layer.query, at, at);
        for (float *at = key; layer.key.kind && at < value; at += layer.key.size) normalised(layer.key, at, at);
        if (layer.table >= 0) {
            const int64_t at = int64_t(layer.table) * s_.rows + r;
            for (float *head = query; head < value; head += dim) k_.rotate(head, s_.cosines[at], s_.sines[at], m_.rotary_dim);
        }
        for (int64_t head = 0; layer.token_values && head < m_.kv_heads; head++) {
            const float share = 2.0f * gate(layer.value_gates + head * m_.gate_inputs, h(r), m_.gate_inputs);
            k_.mix(value + head * dim, 1.0f, layer.token_values + (int64_t(s_.token[r]) * m_.kv_heads + head) * dim, share, dim);
        }
        k_.store(s_, l, slot_of(r, s_.position[r]), m_, key, value);
    }

    // Where a position of row r's text lies in the memory.
    int64_t slot_of(int r, int64_t position) const {
        const int64_t *run = s_.run + 2 * s_.runs[s_.text[r]];
        for (; position >= run[1]; run += 2) position -= run[1];
        return run[0] + position;
    }

    // The first position that a row sees in a layer. They are cut into parts of `span_of` them: a matter of the row alone.
    int64_t first_seen(int l, int r) const {
        const int64_t end = s_.position[r] + 1, window = m_.layer[l].window;
        return window && end > window ? end - window : 0;
    }

    float *parts_of(int r) { return cut_ + r * most_parts_ * part_size(m_); }

    void add_attention(int l, int first) {
        add_part((s_.rows - first) * most_parts_, [=](int64_t task, int thread) {
            const int r = first + int(task / most_parts_);
            const int64_t seen = first_seen(l, r), end = s_.position[r] + 1, span = span_of(end - seen);
            const int64_t part = task % most_parts_, from = seen + part * span;
            if (from >= end) return;
            float *out = parts_of(r) + part * part_size(m_), *query = qkv_ + r * qkv_size_;
            k_.attend[s_.cache](m_, s_, l, r, from, std::min(from + span, end) - 1, query, room(thread), out);
        });
    }

    // Heads of blocks of rows; the last ones first, for they see most.
    void add_blocks(int l, int first) {
        const auto is_wanted = [&](const Unit &unit) { return unit.row + unit.count > first; };
        add_part(std::count_if(units_.begin(), units_.end(), is_wanted) * m_.heads, [=](int64_t task, int thread) {
            const Unit unit = units_[units_.size() - 1 - size_t(task / m_.heads)];
            const int head = int(task % m_.heads);
            const float *query = qkv_ + unit.row * qkv_size_ + head * m_.head_dim;
            float *out = heads_ + unit.row * heads_size_ + head * m_.head_dim;
            const auto attend = k_.attend_block[s_.cache];
            attend(m_, s_, l, unit.row, unit.count, head, query, qkv_size_, room(thread), out, heads_size_);
        });
    }

    // Attention's result of a row, as `output` reads it.
    void join(int l, int r) {
        const int64_t seen = s_.position[r] + 1 - first_seen(l, r), span = span_of(seen);
        if (!s_.in_blocks) k_.join(m_, parts_of(r), (seen + span - 1) / span, heads_ + r * heads_size_);
        prepare(*m_.layer[l].output, heads_, heads_size_, r);
    }

    float *room(int thread) { return room_ + room_size_ * thread; }
    struct Unit { int row, count; };

    const Model &m_;
    const Step &s_;
    int64_t qkv_size_, up_size_, heads_size_, room_size_, most_parts_;
    std::vector<Unit> units_;
    float *x_, *h_, *y_, *qkv_, *heads_, *cut_, *up_, *room_;
    Rounded &rounded_;
};

}  // namespace
}  // namespace bloomery

// ---- what Python calls ----------------------------------------------------------------------------------------------

using namespace bloomery;

#define BLOOMERY_API extern "C" __attribute__((visibility("default")))
#ifndef BLOOMERY_SOURCE
#define BLOOMERY_SOURCE "unknown"
#endif

// Of which source this was built, so that nobody calls another one's structures.
BLOOMERY_API const char *bloomery_source() { return BLOOMERY_SOURCE; }
BLOOMERY_API const char *bloomery_instructions() { return kernels().name; }

// Bytes of Norm, Layer, Model, Step and Matrix, for who describes them in another language.
BLOOMERY_API void bloomery_sizes(int64_t *sizes) {
    for (size_t one : {sizeof(Norm), sizeof(Layer), sizeof(Model), sizeof(Step), sizeof(Matrix)}) *sizes++ = one;
}

// Room for a matrix: weights, scales and bias are to be filled in as `Matrix` says. Null if there is no memory.
BLOOMERY_API Matrix *bloomery_matrix(int32_t format, int64_t outputs, int64_t inputs, int64_t groups, int32_t scale_bytes,
                                     int32_t has_bias) try {
    auto m = std::make_unique<Shelved>();
    static_cast<Matrix &>(*m) = {format, scale_bytes, outputs, inputs, padded(outputs, PANEL) / PANEL, groups, 0, 0, 0, 0};
    const int64_t all = m->panels * PANEL, weights = padded(outputs, width(*m)) * row_bytes(*m);
    const int64_t scales = all * groups * scale_bytes;
    m->bytes = size_t(weights + scales);
    m->weights = (m->kept[0] = shelved(weights)).get();
    if (scales) m->scales = (m->kept[1] = shelved(scales)).get();
    if (has_bias) m->bias = reinterpret_cast<float *>((m->kept[2] = shelved(all * 4)).get());
    return m.release();
} catch (const std::bad_alloc &) {
    return nullptr;
}

BLOOMERY_API void bloomery_free(Matrix *matrix) { delete static_cast<Shelved *>(matrix); }

// y (rows, outputs) = x (rows, inputs) W^T + b, by so many threads, as a step. 0, or 1 if there is no memory.
BLOOMERY_API int32_t bloomery_multiply(const Matrix *m, const float *x, int32_t rows, float *y, int32_t threads,
                                       int64_t spin_nanoseconds) try {
    run(std::make_shared<Product>(*m, x, rows, y, threads), threads, spin_nanoseconds);
    settle(1);
    return 0;
} catch (const std::exception &) {
    return 1;
}

// One step by so many threads, which spin for so long after it before they sleep. 0, or 1 if there is no memory.
BLOOMERY_API int32_t bloomery_step(const Model *model, const Step *step, int32_t threads, int64_t spin_nanoseconds) try {
    std::lock_guard<std::mutex> lock(one_at_a_time);
    static auto &space = *new Space;
    team_of(threads).run(std::make_shared<Run>(*model, *step, threads, space), spin_nanoseconds);
    settle(128);
    return 0;
} catch (const std::exception &) {
    return 1;
}
