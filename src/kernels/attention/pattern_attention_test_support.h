// Random cases of attention by a pattern for the tests: patterns of all kinds, and operands in all layouts
// that the interface allows, surrounded by words that must neither be used nor change.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention/pattern_attention.h"
#include "kernels/kernel_test_support.h"

namespace sepllm::test {

using Random = std::mt19937;

// Uniform in [low, high].
inline int64_t draw(Random& rng, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(rng() % static_cast<uint32_t>(high - low + 1));
}
inline bool chance(Random& rng, int percent) { return draw(rng, 1, 100) <= percent; }

// ---- Patterns ----

inline std::vector<int64_t> random_positions(Random& rng, int64_t n, double share) {
  std::vector<int64_t> out;
  for (int64_t j = 0; j < n; ++j) {
    if (static_cast<double>(rng()) < share * 4294967296.0) out.push_back(j);
  }
  return out;
}

inline std::vector<int64_t> every_kth(int64_t n, int64_t k, int64_t first) {
  std::vector<int64_t> out;
  for (int64_t j = first; j < n; j += k) out.push_back(j);
  return out;
}

// Separators of a text of n_tokens; some lists continue beyond its end.
inline std::vector<int64_t> random_extra(Random& rng, int64_t n_tokens) {
  const int64_t n = n_tokens + (chance(rng, 20) ? 9 : 0);
  switch (draw(rng, 0, 5)) {
    case 0:
      return {};
    case 1:
      return every_kth(n, 1, 0);
    case 2:
      return every_kth(n, draw(rng, 2, 9), draw(rng, 0, 3));
    case 3:
      return random_positions(rng, n, 0.5);
    case 4: {  // runs: dense here, empty there
      std::vector<int64_t> out;
      for (int64_t j = draw(rng, 0, 20); j < n; j += draw(rng, 1, 60)) {
        for (int64_t end = j + draw(rng, 1, 20); j < std::min(end, n); ++j) out.push_back(j);
      }
      return out;
    }
    default:
      return random_positions(rng, n, 0.165);  // as in English text
  }
}

inline Pattern random_pattern(Random& rng, int64_t n_tokens) {
  Pattern p;
  p.n_initial = chance(rng, 25) ? 0 : draw(rng, 0, 10);
  p.extra = random_extra(rng, n_tokens);
  const int64_t windows[] = {1,
                             draw(rng, 1, 8),
                             draw(rng, 1, n_tokens),
                             draw(rng, 1, n_tokens),
                             draw(rng, 1, std::min<int64_t>(n_tokens, 64)),
                             n_tokens,
                             n_tokens + draw(rng, 1, 9),
                             kUnlimited};
  p.window = windows[draw(rng, 0, 7)];
  if (chance(rng, 60)) return p;
  const double shares[] = {0.01, 0.05, 0.3, 1.0};
  p.document_starts = random_positions(rng, n_tokens + 2, shares[draw(rng, 0, 3)]);
  const bool from_zero = chance(rng, 50);
  if (from_zero && (p.document_starts.empty() || p.document_starts.front() != 0))
    p.document_starts.insert(p.document_starts.begin(), 0);
  return p;
}

inline std::string describe(const std::vector<int64_t>& list) {
  std::string out = "[";
  for (size_t i = 0; i < list.size() && i < 12; ++i) out += (i == 0 ? "" : " ") + std::to_string(list[i]);
  return out + (list.size() > 12 ? " ... " + std::to_string(list.size()) + " in all]" : "]");
}

// ---- Where things lie ----

// Floats of which some belong to tensors; all others are `filler`.
struct Storage {
  explicit Storage(float f) : filler(f) {}
  float filler;
  std::vector<float> values{};
  std::vector<char> owned{};

  void grow(int64_t n) {
    if (n <= static_cast<int64_t>(values.size())) return;
    values.resize(static_cast<size_t>(n), filler);
    values.shrink_to_fit();  // so that AddressSanitizer knows the end
    owned.resize(static_cast<size_t>(n), 0);
  }
  int64_t damaged() const {
    int64_t n = 0;
    for (size_t i = 0; i < values.size(); ++i)
      n += owned[i] == 0 && std::bit_cast<uint32_t>(values[i]) != std::bit_cast<uint32_t>(filler) ? 1 : 0;
    return n;
  }
  bool same_bits(const Storage& other) const {
    return std::equal(
        values.begin(), values.end(), other.values.begin(), other.values.end(),
        [](float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); });
  }
};

// Row r of head h of a tensor, in elements of its storage.
struct Places {
  HeadLayout heads{};
  int64_t row_stride = 0;
  int64_t at(int64_t r, int64_t h) const { return r * row_stride + heads.at(h); }
};

struct Tensor {
  std::shared_ptr<Storage> storage;
  Places places;
  Heads heads() const { return {storage->values.data(), places.row_stride, places.heads}; }
  const float* row(int64_t r, int64_t h) const { return storage->values.data() + places.at(r, h); }
  // Marks the rows of the list as the tensor's own: random values in [-size, size], or the filler.
  void own(const std::vector<int64_t>& rows, Random* rng = nullptr, float size = 1.0F) {
    const Places& p = places;
    std::uniform_real_distribution<float> value(-size, size);
    for (const int64_t r : rows) {
      for (int64_t h = 0; h < p.heads.n; ++h) {
        for (int64_t d = 0; d < p.heads.dim; ++d) {
          const auto at = static_cast<size_t>(p.at(r, h) + d);
          storage->owned[at] = 1;
          if (rng != nullptr) storage->values[at] = value(*rng);
        }
      }
    }
  }
};

struct AttentionShape {
  int64_t n_heads, n_kv_heads, head_dim;
};

struct QkvTensors {
  Tensor q, k, v;
  std::vector<const Storage*> storages() const { return {q.storage.get(), k.storage.get(), v.storage.get()}; }
  int64_t damaged() const {
    int64_t n = 0;
    for (const Storage* s : storages()) n += s->damaged();
    return n;
  }
  bool same_bits(const QkvTensors& other) const {
    return q.storage->same_bits(*other.q.storage) && k.storage->same_bits(*other.k.storage) &&
           v.storage->same_bits(*other.v.storage);
  }
};

inline Tensor make_tensor(const std::shared_ptr<Storage>& storage, const Places& places, int64_t n_rows,
                          int64_t slack) {
  const HeadLayout& heads = places.heads;
  const int64_t last = n_rows > 0 ? places.at(n_rows - 1, heads.n - 1) + heads.dim : 0;
  // In general, the largest place need not be that of the last row and head, but it is in every layout here.
  storage->grow(last + slack);
  return {storage, places};
}

// A random one of the layouts in which q, k and v occur. `guard` fills the gaps; slack: words after the end.
inline QkvTensors random_layout(Random& rng, const AttentionShape& s, int64_t n_rows, float filler,
                                int64_t slack) {
  const int64_t d = s.head_dim, n_kv = s.n_kv_heads, group = s.n_heads / n_kv;
  const int64_t lead = draw(rng, 0, 9);
  const int64_t pad = chance(rng, 50) ? 0 : draw(rng, 1, 5);
  const int64_t gap = chance(rng, 50) ? 0 : draw(rng, 1, 19);
  Places q{{.n = s.n_heads, .dim = d, .group = group, .stride = d, .offset = lead}};
  Places k{HeadLayout::even(n_kv, d, 0, lead)};
  auto first = std::make_shared<Storage>(filler);
  int64_t v_offset = 0;
  switch (draw(rng, 0, 4)) {
    case 0:  // fused by group: q q .. k v | q q .. k v
      q.heads.group_stride = k.heads.group_stride = (group + 2) * d + pad;
      q.row_stride = k.row_stride = n_kv * q.heads.group_stride + gap;
      k.heads.offset += group * d;
      v_offset = k.heads.offset + d;
      break;
    case 1:  // fused by kind: all q | all k | all v
      q.heads.group_stride = group * d;
      k.heads.group_stride = d;
      q.row_stride = k.row_stride = (s.n_heads + 2 * n_kv) * d + gap;
      k.heads.offset += s.n_heads * d;
      v_offset = k.heads.offset + n_kv * d;
      break;
    case 2: {  // three matrices
      q.heads.group_stride = group * d + pad;
      q.row_stride = n_kv * q.heads.group_stride + gap;
      k.heads.offset = draw(rng, 0, 9);
      k.heads.group_stride = d + (chance(rng, 50) ? 0 : draw(rng, 1, 5));
      k.row_stride = n_kv * k.heads.group_stride + draw(rng, 0, 9);
      Places v = k;
      v.heads.offset = draw(rng, 0, 9);
      return {make_tensor(first, q, n_rows, slack),
              make_tensor(std::make_shared<Storage>(filler), k, n_rows, slack),
              make_tensor(std::make_shared<Storage>(filler), v, n_rows, slack)};
    }
    case 3: {  // head by head, each [rows][head_dim], as in PyTorch; groups do not matter for the layout
      q.heads.group = draw(rng, 1, s.n_heads);
      q.row_stride = d + pad;
      q.heads.stride = n_rows * q.row_stride + gap;
      q.heads.group_stride = q.heads.group * q.heads.stride;
      k.row_stride = d + pad;
      k.heads.group_stride = n_rows * k.row_stride + gap;
      k.heads.offset += s.n_heads * q.heads.stride;
      v_offset = k.heads.offset + n_kv * k.heads.group_stride;
      break;
    }
    default: {  // group by group, each [rows][heads of the group][head_dim]
      q.row_stride = group * d + pad;
      q.heads.group_stride = n_rows * q.row_stride + gap;
      k.row_stride = d + pad;
      k.heads.group_stride = n_rows * k.row_stride + gap;
      k.heads.offset += n_kv * q.heads.group_stride;
      v_offset = k.heads.offset + n_kv * k.heads.group_stride;
      break;
    }
  }
  Places v = k;
  v.heads.offset = v_offset;
  return {make_tensor(first, q, n_rows, slack), make_tensor(first, k, n_rows, slack),
          make_tensor(first, v, n_rows, slack)};
}

// A tensor with the heads of `out`: next to each other in rows, or one after the other.
inline Tensor random_rows(Random& rng, int64_t n_heads, int64_t head_dim, int64_t n_rows, float filler,
                          int64_t slack) {
  const int64_t gap = chance(rng, 50) ? 0 : draw(rng, 1, 19);
  const int64_t lead = draw(rng, 0, 9);
  const Places p =
      chance(rng, 70)
          ? Places{HeadLayout::dense(n_heads, head_dim, lead), n_heads * head_dim + gap}
          : Places{HeadLayout::even(n_heads, head_dim, n_rows * (head_dim + gap), lead), head_dim + gap};
  return make_tensor(std::make_shared<Storage>(filler), p, n_rows, slack);
}

// ---- A case ----

inline constexpr float kGuard = -12345.5F;

struct CaseOptions {
  AttentionShape shape{1, 1, 8};
  bool alibi = false;
  float key_size = 1.0F;  // keys are in [-key_size, key_size], so scores reach about as far
  // Sequences lie in this order, with up to 3 unused rows before each.
  std::vector<Pattern> patterns{};
  std::vector<int64_t> lengths{};
  std::string seed{};  // for messages
};

// A call of forward and backward: operands with NaN in all gaps, and fresh outputs for each call.
class AttentionCase {
 public:
  struct Forward {
    Tensor out, log_sum_exp;
  };

  AttentionCase(CaseOptions options, Random& rng) : options_(std::move(options)), layout_seed_(rng()) {
    const AttentionShape& s = options_.shape;
    for (size_t i = 0; i < options_.patterns.size(); ++i) {
      n_rows_ += draw(rng, 0, 3);
      sequences_.push_back({n_rows_, options_.lengths[i], &options_.patterns[i]});
      for (int64_t r = 0; r < options_.lengths[i]; ++r) rows_.push_back(n_rows_++);
    }
    n_rows_ += draw(rng, 0, 2);
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    qkv_ = random_layout(rng, s, n_rows_, kNan, 0);
    qkv_.q.own(rows_, &rng);
    qkv_.k.own(rows_, &rng, options_.key_size);
    qkv_.v.own(rows_, &rng);
    d_out_ = random_rows(rng, s.n_heads, s.head_dim, n_rows_, kNan, 0);
    d_out_.own(rows_, &rng);
    for (int64_t h = 0; h < s.n_heads; ++h)
      slopes_.push_back(std::exp2(-8.0F * static_cast<float>(h + 1) / static_cast<float>(s.n_heads)));
  }
  AttentionCase(const AttentionCase&) = delete;
  AttentionCase& operator=(const AttentionCase&) = delete;

  const CaseOptions& options() const { return options_; }
  const std::vector<int64_t>& rows() const { return rows_; }
  const std::vector<PatternSequence>& sequences() const { return sequences_; }
  const QkvTensors& qkv() const { return qkv_; }
  const Tensor& d_out() const { return d_out_; }
  float slope(int64_t head) const { return options_.alibi ? slopes_[static_cast<size_t>(head)] : 0.0F; }
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(options_.shape.head_dim)); }

  // `fn`: pattern_attention or its reference. The outputs have the same layout every time.
  template <typename Fn>
  Forward forward(const Context& ctx, const Fn& fn, bool statistics = true) const {
    Random rng(layout_seed_);
    const AttentionShape& s = options_.shape;
    Forward f{random_rows(rng, s.n_heads, s.head_dim, n_rows_, kGuard, 16), {}};
    f.out.own(rows_);
    f.log_sum_exp = random_rows(rng, s.n_heads, 1, n_rows_, kGuard, 16);
    f.log_sum_exp.own(rows_);
    PatternAttentionArgs a = args(f);
    if (!statistics) a.log_sum_exp = {};
    fn(ctx, a);
    return f;
  }

  template <typename Fn>
  QkvTensors backward(const Context& ctx, const Fn& fn, const Forward& f, bool any_threads) const {
    Random rng(layout_seed_ + 1);
    QkvTensors g = random_layout(rng, options_.shape, n_rows_, kGuard, 16);
    g.q.own(rows_);
    g.k.own(rows_);
    g.v.own(rows_);
    fn(ctx, args(f),
       AttentionGradients{.d_out = d_out_.heads(),
                          .d_q = g.q.heads(),
                          .d_k = g.k.heads(),
                          .d_v = g.v.heads(),
                          .same_for_any_threads = any_threads});
    return g;
  }

  std::string describe() const {
    const AttentionShape& s = options_.shape;
    std::string out = "seed " + options_.seed + ": " + std::to_string(s.n_heads) + "/" +
                      std::to_string(s.n_kv_heads) + " heads of " + std::to_string(s.head_dim) +
                      (options_.alibi ? ", ALiBi" : "") + ", keys to " + std::to_string(options_.key_size);
    for (const PatternSequence& q : sequences_) {
      const Pattern& p = *q.pattern;
      out += "\n  " + std::to_string(q.n_rows) + " tokens: initial " + std::to_string(p.n_initial) +
             ", window " + std::to_string(p.window) + ", extra " + test::describe(p.extra) + ", documents " +
             test::describe(p.document_starts);
    }
    return out;
  }

 private:
  PatternAttentionArgs args(const Forward& f) const {
    return {.scale = scale(),
            .q = qkv_.q.heads(),
            .k = qkv_.k.heads(),
            .v = qkv_.v.heads(),
            .out = f.out.heads(),
            .log_sum_exp = f.log_sum_exp.heads(),
            .alibi_slopes = options_.alibi ? slopes_.data() : nullptr,
            .sequences = sequences_};
  }

  CaseOptions options_;
  uint32_t layout_seed_;
  int64_t n_rows_ = 0;
  std::vector<PatternSequence> sequences_;
  std::vector<int64_t> rows_;  // rows that belong to a sequence
  QkvTensors qkv_;
  Tensor d_out_;
  std::vector<float> slopes_;
};

// ---- Comparison ----

// The largest difference over the rows of the case, infinite if there is a NaN; and the largest value of `b`.
struct Difference {
  double worst = 0, largest = 0;
};

inline Difference difference(const Tensor& a, const Tensor& b, const std::vector<int64_t>& rows) {
  Difference out;
  for (const int64_t r : rows) {
    for (int64_t h = 0; h < a.places.heads.n; ++h) {
      for (int64_t d = 0; d < a.places.heads.dim; ++d) {
        const double expected = b.row(r, h)[d];
        const double error = std::abs(static_cast<double>(a.row(r, h)[d]) - expected);
        if (std::isnan(error)) return {std::numeric_limits<double>::infinity(), 0};
        out.worst = std::max(out.worst, error);
        out.largest = std::max(out.largest, std::abs(expected));
      }
    }
  }
  return out;
}

}  // namespace sepllm::test
