// A step of a whole decoder in one call: threads, the order of work, packing, and what Python calls.
//
// A step is a list of parts, each of which needs what the one before has computed: products are cut by panels of
// outputs and blocks of rows, attention by positions (a prompt's by heads), the rest by rows. Threads come for tasks, and nobody waits for one that is not there: a thread
// that the system keeps off its processor costs its help, no more, unless it sits on a task. Who computes what changes
// no result. This file does not know what a family is, nor who asks.

#include "decoder_step.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
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

#if defined(__x86_64__)
#include <immintrin.h>
inline void relax() { _mm_pause(); }
#else
inline void relax() { std::this_thread::yield(); }
#endif

// ---- threads --------------------------------------------------------------------------------------------------------

// Work that several threads may join, and that is over for a caller when `work` returns to it.
struct Job {
    virtual ~Job() = default;
    virtual void work(int thread) = 0;
};

void rest(int spins) { spins < 1000 ? relax() : (void)sched_yield(); }

// Threads that help the one that calls. Between calls they spin for a while, then sleep. One that comes late finds
// nothing left to do, in a job that it keeps alive itself.
class Team {
  public:
    explicit Team(int size) : size_(size), process_(getpid()) {}

    void start() {
        try {
            for (int number = 1; number < size_; number++) std::thread([this, number] { help(number); }).detach();
        } catch (const std::system_error &) {  // no more threads: those that are there do the work
        }
    }

    int size() const { return size_; }
    bool is_ours() const { return process_ == getpid(); }  // after a fork the threads are the parent's

    void run(const std::shared_ptr<Job> &job, int64_t spin_nanoseconds) {
        if (size_ > 1) publish(job, spin_nanoseconds);
        job->work(0);
        if (size_ > 1) publish(nullptr, spin_nanoseconds);
    }

  private:
    void publish(const std::shared_ptr<Job> &job, int64_t spin_nanoseconds) {
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = job;
        if (!job) return;
        spin_.store(spin_nanoseconds, std::memory_order_relaxed);
        turn_.fetch_add(1);
        if (asleep_ > 0) wake_.notify_all();
    }

    void help(int number) {
        for (int64_t seen = 0;;) {
            await(seen);
            std::shared_ptr<Job> job;
            {
                std::lock_guard<std::mutex> lock(mutex_);
                seen = turn_.load();
                job = job_;
            }
            if (job) job->work(number);
        }
    }

    void await(int64_t seen) {
        using Clock = std::chrono::steady_clock;
        const auto until = Clock::now() + std::chrono::nanoseconds(spin_.load(std::memory_order_relaxed));
        do {
            for (int i = 0; i < 64; i++) {
                if (turn_.load(std::memory_order_acquire) != seen) return;
                relax();
            }
        } while (Clock::now() < until);
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_++;
        wake_.wait(lock, [&] { return turn_.load() != seen; });
        asleep_--;
    }

    const int size_;
    const pid_t process_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::shared_ptr<Job> job_;
    int asleep_ = 0;
    alignas(64) std::atomic<int64_t> turn_{0};
    alignas(64) std::atomic<int64_t> spin_{0};
};

std::mutex one_at_a_time;  // models share the team, for two of them at once would only disturb each other

Team &team_of(int size) {
    static auto &teams = *new std::vector<Team *>;  // never freed: their threads sleep until the process ends
    for (Team *team : teams)
        if (team->is_ours() && team->size() == size) return *team;
    Team *team = new Team(size);
    team->start();
    teams.push_back(team);
    return *team;
}

// ---- packing --------------------------------------------------------------------------------------------------------

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

// Weights lie one after the other, in large pages where the system has them: a step reads all of them in turn, and a
// processor reads ahead of what goes on, no further than a page.
class Shelves {
  public:
    // Zeros. May throw std::bad_alloc.
    void *take(size_t bytes) {
        const size_t size = size_t(padded(int64_t(std::max<size_t>(bytes, 1)), 64));
        std::lock_guard<std::mutex> lock(mutex_);
        if (shelves_.empty() || shelves_.back().size - shelves_.back().used < size) shelves_.push_back(shelf(size));
        Shelf &last = shelves_.back();
        char *memory = last.start + last.used;
        last.used += size, last.taken++;
        return std::memset(memory, 0, size);
    }

    void give_back(const void *memory) {
        if (!memory) return;
        std::lock_guard<std::mutex> lock(mutex_);
        const auto one = std::find_if(shelves_.begin(), shelves_.end(), [&](const Shelf &shelf) {
            return memory >= shelf.start && memory < shelf.start + shelf.size;
        });
        if (--one->taken) return;
        std::free(one->start);
        shelves_.erase(one);
    }

  private:
    struct Shelf {
        char *start;
        size_t size, used, taken;
    };

    static Shelf shelf(size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)  // which sees who reads beyond a shelf, not beyond its neighbour on it
        constexpr int64_t page = 64, least = 1;
#else
        constexpr int64_t page = int64_t(2) << 20, least = 16 * page;
#endif
        const size_t size = size_t(padded(std::max(int64_t(bytes), least), page));
        void *start = std::aligned_alloc(size_t(page), size);
        if (!start) throw std::bad_alloc();
#if defined(__linux__)
        madvise(start, size, MADV_HUGEPAGE);
#endif
        return {static_cast<char *>(start), size, 0, 0};
    }

    std::mutex mutex_;
    std::vector<Shelf> shelves_;
};

Shelves &shelves() {
    static auto &all = *new Shelves;  // never freed: matrices may be, when the process ends
    return all;
}

template <class T>
void pack_floats(const Matrix &m, const T *from) {
    T *to = static_cast<T *>(m.weights);
    for (int64_t o = 0; o < m.outputs; o++)
        for (int64_t i = 0; i < m.inputs; i++) to[(o / PANEL * m.inputs + i) * PANEL + o % PANEL] = from[o * m.inputs + i];
}

void pack_int8(const Matrix &m, const int8_t *from) {
    int8_t *to = static_cast<int8_t *>(m.weights);
    const int64_t pairs = (m.inputs + 1) / 2;
    for (int64_t o = 0; o < m.outputs; o++)
        for (int64_t i = 0; i < m.inputs; i++)
            to[((o / PANEL * pairs + i / 2) * PANEL + o % PANEL) * 2 + i % 2] = from[o * m.inputs + i];
}

void pack_int4(const Matrix &m, const int8_t *from) {
    uint8_t *to = static_cast<uint8_t *>(m.weights);
    for (int64_t o = 0; o < m.outputs; o++) {
        const int64_t place = o % PANEL, shift = place < 8 ? 0 : 4;
        for (int64_t i = 0; i < m.inputs; i++) {
            const int64_t group = o / PANEL * groups_of(m) + i / GROUP, four = i % GROUP / 4;
            to[group * 256 + four * 32 + place % 8 * 4 + i % 4] |= uint8_t(from[o * m.inputs + i] + 8) << shift;
        }
    }
}

// `scale` (outputs, groups of `group_size` inputs); INT8 has one group.
void pack_scales(const Matrix &m, const float *scale, int64_t group_size) {
    if (m.format == INT8) {
        std::copy(scale, scale + m.outputs, static_cast<float *>(m.scales));
        return;
    }
    uint16_t *to = static_cast<uint16_t *>(m.scales);
    const int64_t groups = groups_of(m), given = m.inputs / group_size;
    for (int64_t o = 0; o < m.outputs; o++) {
        for (int64_t g = 0; g < groups; g++) {
            uint32_t bits;
            std::memcpy(&bits, scale + o * given + g * GROUP / group_size, 4);
            to[(o / PANEL * groups + g) * PANEL + o % PANEL] = uint16_t(bits >> 16);  // they are bfloat16 already
        }
    }
}

size_t weight_bytes(const Matrix &m) {
    const size_t outputs = size_t(m.panels * PANEL), inputs = size_t(m.inputs);
    switch (m.format) {
        case FLOAT32: return outputs * inputs * 4;
        case FLOAT16: return outputs * inputs * 2;
        case INT8: return outputs * padded(inputs, 2);
        default: return outputs * inputs / 2;
    }
}

size_t scale_bytes(const Matrix &m) {
    if (m.format == INT8) return size_t(m.panels * PANEL) * 4;
    return m.format == INT4 ? size_t(m.panels * PANEL * groups_of(m)) * 2 : 0;
}

void destroy(Matrix *m) {
    for (const void *memory : {m->weights, m->scales, static_cast<void *>(m->bias)}) shelves().give_back(memory);
    delete m;
}

// ---- the step -------------------------------------------------------------------------------------------------------

template <class T>
void grow(std::vector<T> &memory, int64_t size) {
    if (int64_t(memory.size()) < size) memory.resize(size_t(size));
}

// Room for rounded rows of the widest matrix, and which matrix reads what.
struct Rounded {
    std::vector<char> data;
    std::vector<float> scales;
    std::vector<int32_t> sums;

    void reserve(int64_t rows, int64_t width) {
        grow(data, rows * padded(width, 32) * 2);
        grow(scales, rows * (width / GROUP + 1));
        grow(sums, rows * (width / GROUP + 1));
    }
};

// Between the parts of a step, and for each thread what it needs in one. Kept for the next step.
struct Space {
    std::vector<float> x, h, y, qkv, heads, cut, up, room;
    Rounded rounded;
};

bool rounds(const Matrix &m) { return m.format == INT8 || m.format == INT4; }

// From 0 to 1: the sigmoid of a product.
float gate(const float *w, const float *x, int64_t size) {
    float total = 0.0f;
    for (int64_t i = 0; i < size; i++) total += w[i] * x[i];
    return 1.0f / (1.0f + std::exp(-total));
}

constexpr int64_t ROWS = 126;  // of a product's task

// Tasks that need nothing of each other.
struct alignas(64) Part {
    int64_t tasks = 0;
    std::atomic<int64_t> claimed{0}, finished{0};
};

// Parts, one after the other, each by whoever is there. What tasks read may be gone for a thread that comes when all are
// done.
class Parts : public Job {
  public:
    explicit Parts(size_t count) : parts_(count) {}

    void work(int thread) override {
        for (size_t number = 0; number < parts_.size(); number++) {
            Part &part = parts_[number];
            int64_t task, mine = 0;
            for (; (task = part.claimed.fetch_add(1, std::memory_order_relaxed)) < part.tasks; mine++)
                perform(int64_t(number), task, thread);
            if (mine) part.finished.fetch_add(mine, std::memory_order_acq_rel);
            for (int spins = 0; part.finished.load(std::memory_order_acquire) < part.tasks; spins++) rest(spins);
        }
    }

  protected:
    virtual void perform(int64_t part, int64_t task, int thread) = 0;
    std::vector<Part> parts_;
};

// How a product of so many rows is cut into tasks: enough that threads end together, not so many that coming for them
// costs; and no more rows at a time than caches hold, in blocks of about the same size.
struct Cut {
    int64_t panels, cuts, rows, tasks;

    Cut(const Matrix &m, int64_t all_rows, int threads) : panels(std::max<int64_t>(2, m.panels / (threads * 6) / 2 * 2)) {
        const int64_t blocks = (all_rows + ROWS - 1) / ROWS;
        rows = blocks < 2 ? ROWS : padded((all_rows + blocks - 1) / blocks, 6);
        cuts = (m.panels + panels - 1) / panels;
        tasks = cuts * ((all_rows + rows - 1) / rows);
    }
};

enum Kind { QKV, PLACE, ATTEND, JOIN, OUTPUT, BETWEEN, UP, ACTIVATE, DOWN, END, KINDS };

// All of a step, and the numbers between its parts.
class Run : public Parts {
  public:
    Run(const Model &model, const Step &step, int threads, Space &space)
        : Parts(size_t(step.last_layer - step.first_layer) * KINDS + 3), m_(model), s_(step), k_(kernels()), threads_(threads),
          x_(space.x), h_(space.h), y_(space.y), qkv_(space.qkv), heads_(space.heads), cut_(space.cut), up_(space.up), room_(space.room), rounded_(space.rounded) {
        const int64_t rows = step.rows;
        heads_size_ = int64_t(m_.heads) * m_.head_dim;
        qkv_size_ = int64_t(m_.heads + 2 * m_.kv_heads) * m_.head_dim;
        up_size_ = int64_t(m_.gated ? 2 : 1) * m_.intermediate;
        rows_at_once_ = rows > 64 ? 8 : 1;
        for (int r = 0; r < rows; r++) {
            const bool joins = step.in_blocks && r && step.text[r] == step.text[r - 1] && units_.back().count < QUERIES;
            joins ? (void)units_.back().count++ : units_.push_back({r, 1});
        }
        if (!step.stream) grow(x_, rows * m_.hidden * (m_.mixes ? 2 : 1));
        grow(h_, rows * m_.hidden);
        grow(y_, rows * m_.hidden);
        grow(qkv_, rows * qkv_size_);
        grow(heads_, rows * heads_size_);
        grow(up_, rows * up_size_);
        rounded_.reserve(rows, std::max<int64_t>({m_.intermediate, heads_size_, m_.hidden}));
        int64_t longest = 1;
        for (int r = 0; r < rows; r++) longest = std::max<int64_t>(longest, step.position[r] + 1);
        most_parts_ = std::min(PARTS, (longest + SPAN - 1) / SPAN);
        room_size_ = padded(step.in_blocks ? block_room(m_, longest) : part_room(m_, span_of(longest)), 16);
        if (!step.in_blocks) grow(cut_, rows * most_parts_ * part_size(m_));
        grow(room_, room_size_ * threads);
        parts_.front().tasks = groups_of_rows(0);
        for (int l = s_.first_layer, part = 1; l < s_.last_layer; l++)
            for (int kind = 0; kind < KINDS; kind++) parts_[size_t(part++)].tasks = tasks_of(l, kind);
        if (s_.last_layer < m_.layers) return;
        parts_[parts_.size() - 2].tasks = tasks_of(*m_.head, s_.skipped);
        parts_.back().tasks = s_.logs ? s_.rows - s_.skipped : 0;
    }

  private:
    float *x(int r) { return (s_.stream ? s_.stream : x_.data()) + int64_t(r) * m_.hidden; }
    float *begun(int r) { return x(s_.rows + r); }  // the stream before all layers
    float *h(int r) { return h_.data() + int64_t(r) * m_.hidden; }
    float *y(int r) { return y_.data() + int64_t(r) * m_.hidden; }

    int64_t tasks_of(const Matrix &m, int64_t first) const { return Cut(m, s_.rows - first, threads_).tasks; }
    int64_t groups_of_rows(int64_t first) const { return (s_.rows - first + rows_at_once_ - 1) / rows_at_once_; }

    // The first row that a part computes: once keys and values of the last layer are there, only what is asked for.
    int first_row(int l, int kind) const { return l + 1 == m_.layers && kind >= ATTEND ? s_.skipped : 0; }

    int64_t first_unit(int l) const {
        int64_t unit = 0;
        while (unit < int64_t(units_.size()) && units_[size_t(unit)].row + units_[size_t(unit)].count <= first_row(l, ATTEND)) unit++;
        return unit;
    }

    int64_t tasks_of(int l, int kind) const {
        const Layer &layer = m_.layer[l];
        const int64_t first = first_row(l, kind);
        switch (kind) {
            case QKV: return tasks_of(*layer.qkv, first);
            case ATTEND: return (int64_t(units_.size()) - first_unit(l)) * (s_.in_blocks ? m_.heads : most_parts_);
            case JOIN: return s_.in_blocks && !rounds(*layer.output) ? 0 : groups_of_rows(first);
            case OUTPUT: return tasks_of(*layer.output, first);
            case UP: return tasks_of(*layer.up, first);
            case DOWN: return tasks_of(*layer.down, first);
            default: return groups_of_rows(first);
        }
    }

    void perform(int64_t number, int64_t task, int thread) override {
        const int64_t part = number - 1;
        if (part < 0) return each(task, 0, [this](int r) { begin(r); });
        const int l = s_.first_layer + int(part / KINDS), kind = int(part % KINDS), first = first_row(l, kind);
        if (number + 1 == int64_t(parts_.size()))
            return k_.sum_up(s_.logits + task * m_.vocabulary, m_.vocabulary, s_.logs + task, s_.best + task);
        if (l == m_.layers) return product(*m_.head, h_.data(), m_.hidden, s_.skipped, task, s_.logits, m_.vocabulary);
        const Layer &layer = m_.layer[l];
        const auto multiplied = [&](const Matrix &m, std::vector<float> &x, int64_t x_stride, std::vector<float> &y, int64_t y_stride) {
            product(m, x.data(), x_stride, first, task, y.data() + first * y_stride, y_stride);
        };
        switch (kind) {
            case QKV: return multiplied(*layer.qkv, h_, m_.hidden, qkv_, qkv_size_);
            case PLACE: return each(task, first, [&](int r) { place(l, r); });
            case ATTEND: return s_.in_blocks ? attend_block(l, task, thread) : attend(l, first, task, thread);
            case JOIN: return each(task, first, [&](int r) { join(l, r); });
            case OUTPUT: return multiplied(*layer.output, heads_, heads_size_, y_, m_.hidden);
            case BETWEEN: return each(task, first, [&](int r) { between(layer, r); });
            case UP: return multiplied(*layer.up, h_, m_.hidden, up_, up_size_);
            case ACTIVATE: return each(task, first, [&](int r) { activate(layer, r); });
            case DOWN: return multiplied(*layer.down, up_, up_size_, y_, m_.hidden);
            default: return each(task, first, [&](int r) { end(l, r); });
        }
    }

    // f(row) for the rows of a task.
    template <class F>
    void each(int64_t task, int first, F f) const {
        const int64_t from = first + task * rows_at_once_, to = std::min<int64_t>(from + rows_at_once_, s_.rows);
        for (int64_t r = from; r < to; r++) f(int(r));
    }

    // Rows from `row` on, `stride` floats apart from x, or what `prepare` made of them.
    Input input_of(const Matrix &m, float *x, int64_t stride, int64_t row) {
        if (!rounds(m)) return {reinterpret_cast<char *>(x + row * stride), stride * 4, nullptr, nullptr, 0};
        const int64_t groups = m.format == INT4 ? groups_of(m) : 1, bytes = padded(m.inputs, 32) * 2;
        return {rounded_.data.data() + row * bytes, bytes, rounded_.scales.data() + row * groups, rounded_.sums.data() + row * groups, groups};
    }

    // Row r of x as `m` will read it.
    void prepare(const Matrix &m, float *x, int64_t stride, int r) {
        if (rounds(m)) k_.prepare(m, x + r * stride, r, input_of(m, x, stride, 0));
    }

    // Which of `count` cuts is taken when: threads that take turns each go through weights that lie together.
    int64_t apart(int64_t turn, int64_t count) const {
        const int64_t lane = turn % threads_;
        return lane * (count / threads_) + std::min(lane, count % threads_) + turn / threads_;
    }

    // Rows from `skip` on: y is where the first of them goes.
    void product(const Matrix &m, float *x, int64_t x_stride, int64_t skip, int64_t task, float *y, int64_t y_stride) {
        const Cut cut(m, s_.rows - skip, threads_);
        const int64_t first = apart(task % cut.cuts, cut.cuts) * cut.panels, last = std::min(first + cut.panels, m.panels);
        const int64_t row = task / cut.cuts * cut.rows, rows = std::min(cut.rows, s_.rows - skip - row);
        y += row * y_stride;
        k_.multiply(m, input_of(m, x, x_stride, skip + row), int(rows), y, y_stride, first, last);
        if (&m == m_.head && m_.logit_cap > 0.0f)
            for (int64_t r = 0; r < rows; r++)
                k_.cap(y + r * y_stride + first * PANEL, m_.logit_cap, std::min(last * PANEL, m.outputs) - first * PANEL);
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
        prepare(next, h_.data(), m_.hidden, r);
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
        float *gate = up_.data() + r * up_size_;
        k_.activate(m_.activation, gate, m_.gated ? gate + m_.intermediate : nullptr, gate, m_.intermediate);
        prepare(*layer.down, up_.data(), up_size_, r);
    }

    // The feed-forward's result joins the stream, and what comes next begins.
    void end(int l, int r) {
        add(x(r), normalised(m_.layer[l].feed_out, y(r), y(r)));
        if (l + 1 == s_.last_layer && l + 1 < m_.layers) return;
        if (l + 1 < m_.layers) enter(l + 1, r);
        else enter(m_.last_norm, *m_.head, r);
        if (l + 1 == m_.layers && s_.states && r >= s_.skipped)
            std::copy_n(h(r), m_.hidden, s_.states + int64_t(r - s_.skipped) * m_.hidden);
    }

    // Queries and keys normalised and rotated, token values added, keys and values stored.
    void place(int l, int r) {
        const Layer &layer = m_.layer[l];
        const int64_t dim = m_.head_dim;
        float *query = qkv_.data() + r * qkv_size_, *key = query + m_.heads * dim, *value = key + m_.kv_heads * dim;
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

    // The positions that a row sees in a layer, and the parts that they are cut into: a matter of the row alone.
    struct Seen {
        int64_t first, count, span, parts;
    };

    Seen seen(int l, int r) const {
        const int64_t end = s_.position[r] + 1, window = m_.layer[l].window, first = window && end > window ? end - window : 0;
        const int64_t span = span_of(end - first);
        return {first, end - first, span, (end - first + span - 1) / span};
    }

    float *parts_of(int r) { return cut_.data() + r * most_parts_ * part_size(m_); }

    void attend(int l, int first, int64_t task, int thread) {
        const int r = first + int(task / most_parts_);
        const Seen row = seen(l, r);
        const int64_t part = task % most_parts_, from = row.first + part * row.span;
        if (part >= row.parts) return;
        const int64_t last = std::min(from + row.span, row.first + row.count) - 1;
        k_.attend(m_, s_, l, r, from, last, qkv_.data() + r * qkv_size_, room(thread), parts_of(r) + part * part_size(m_));
    }

    // Attention's result of a row, as `output` reads it.
    void join(int l, int r) {
        if (!s_.in_blocks) k_.join(m_, parts_of(r), seen(l, r).parts, heads_.data() + r * heads_size_);
        prepare(*m_.layer[l].output, heads_.data(), heads_size_, r);
    }

    // A head of a block of rows; the last ones first, for they see most.
    void attend_block(int l, int64_t task, int thread) {
        const Unit unit = units_[units_.size() - 1 - size_t(task / m_.heads)];
        const int number = int(task % m_.heads);
        const float *query = qkv_.data() + unit.row * qkv_size_ + number * m_.head_dim;
        float *out = heads_.data() + unit.row * heads_size_ + number * m_.head_dim;
        k_.attend_block(m_, s_, l, unit.row, unit.count, number, query, qkv_size_, room(thread), out, heads_size_);
    }

    float *room(int thread) { return room_.data() + room_size_ * thread; }

    struct Unit {
        int row, count;
    };

    const Model &m_;
    const Step &s_;
    const Kernels &k_;
    const int threads_;
    int64_t qkv_size_, up_size_, heads_size_, room_size_, rows_at_once_, most_parts_;
    std::vector<Unit> units_;
    std::vector<float> &x_, &h_, &y_, &qkv_, &heads_, &cut_, &up_, &room_;
    Rounded &rounded_;
};

// A product by itself.
class Product : public Parts {
  public:
    Product(const Matrix &m, const float *x, int64_t rows, float *y, int threads)
        : Parts(2), m_(m), x_(x), y_(y), rows_(rows), cut_(m, rows, threads) {
        input_ = {const_cast<char *>(reinterpret_cast<const char *>(x)), m.inputs * 4, nullptr, nullptr, 0};
        if (rounds(m)) {
            rounded_.reserve(rows, m.inputs);
            const int64_t groups = m.format == INT4 ? groups_of(m) : 1;
            input_ = {rounded_.data.data(), padded(m.inputs, 32) * 2, rounded_.scales.data(), rounded_.sums.data(), groups};
            parts_[0].tasks = rows;
        }
        parts_[1].tasks = cut_.tasks;
    }

  private:
    void perform(int64_t part, int64_t task, int) override {
        if (part == 0) return kernels().prepare(m_, x_ + task * m_.inputs, task, input_);
        const int64_t first = task % cut_.cuts * cut_.panels, row = task / cut_.cuts * cut_.rows;
        Input from = input_;
        from.data += row * from.stride, from.scales += row * from.groups, from.sums += row * from.groups;
        kernels().multiply(m_, from, int(std::min(cut_.rows, rows_ - row)), y_ + row * m_.outputs, m_.outputs, first,
                           std::min(first + cut_.panels, m_.panels));
    }

    const Matrix &m_;
    const float *x_;
    float *y_;
    const int64_t rows_;
    const Cut cut_;
    Input input_;
    Rounded rounded_;
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
    const size_t all[] = {sizeof(Norm), sizeof(Layer), sizeof(Model), sizeof(Step), sizeof(Matrix)};
    std::copy(std::begin(all), std::end(all), sizes);
}

// `weights` (outputs, inputs): float32, float16, or int8 codes for INT8 and INT4 (-8 .. 7); `scale` (outputs, groups)
// and `bias` (outputs) float32 or null. Null if there is no memory.
BLOOMERY_API Matrix *bloomery_matrix(int32_t format, int64_t outputs, int64_t inputs, int64_t group_size,
                                     const void *weights, const float *scale, const float *bias) {
    const int64_t widest = std::numeric_limits<int32_t>::max() / (128 * padded(inputs, 2));
    Matrix *m = new (std::nothrow) Matrix{};
    if (!m) return nullptr;
    m->format = format;
    m->steps = int32_t(std::min<int64_t>(std::max<int64_t>(widest, 1), 32767));
    m->outputs = outputs;
    m->inputs = inputs;
    m->panels = (outputs + PANEL - 1) / PANEL;
    m->bytes = weight_bytes(*m) + scale_bytes(*m);
    try {
        m->weights = shelves().take(weight_bytes(*m));
        if (scale_bytes(*m)) m->scales = shelves().take(scale_bytes(*m));
        if (bias) m->bias = static_cast<float *>(shelves().take(size_t(m->panels * PANEL) * 4));
    } catch (const std::bad_alloc &) {
        destroy(m);
        return nullptr;
    }
    switch (format) {
        case FLOAT32: pack_floats(*m, static_cast<const float *>(weights)); break;
        case FLOAT16: pack_floats(*m, static_cast<const uint16_t *>(weights)); break;
        case INT8: pack_int8(*m, static_cast<const int8_t *>(weights)); break;
        default: pack_int4(*m, static_cast<const int8_t *>(weights));
    }
    if (scale_bytes(*m)) pack_scales(*m, scale, group_size);
    if (bias) std::copy(bias, bias + outputs, m->bias);
    return m;
}

BLOOMERY_API void bloomery_free(Matrix *matrix) { destroy(matrix); }
BLOOMERY_API size_t bloomery_bytes(const Matrix *matrix) { return matrix->bytes; }

// y (rows, outputs) = x (rows, inputs) W^T + b, by so many threads, as a step. 0, or 1 if there is no memory.
BLOOMERY_API int32_t bloomery_multiply(const Matrix *m, const float *x, int32_t rows, float *y, int32_t threads,
                                       int64_t spin_nanoseconds) try {
    const auto product = std::make_shared<Product>(*m, x, rows, y, threads);
    if (threads < 2) return product->work(0), 0;
    std::lock_guard<std::mutex> lock(one_at_a_time);
    team_of(threads).run(product, spin_nanoseconds);
    return 0;
} catch (const std::exception &) {
    return 1;
}

// One step by so many threads, which spin for so long after it before they sleep. 0, or 1 if there is no memory.
BLOOMERY_API int32_t bloomery_step(const Model *model, const Step *step, int32_t threads, int64_t spin_nanoseconds) try {
    std::lock_guard<std::mutex> lock(one_at_a_time);
    static auto &space = *new Space;
    team_of(threads).run(std::make_shared<Run>(*model, *step, threads, space), spin_nanoseconds);
    return 0;
} catch (const std::exception &) {
    return 1;
}
