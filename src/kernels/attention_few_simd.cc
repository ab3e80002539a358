// Attention of one row and a few heads of one kv head (decode): vectors along the head dimension, each key
// read once for up to two heads at a time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_few_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>

#include "kernels/attention_task.h"
#include "kernels/element.h"
#include "kernels/simd-inl.h"

#ifndef SEPLLM_KERNELS_ATTENTION_FEW_ONCE
#define SEPLLM_KERNELS_ATTENTION_FEW_ONCE
namespace sepllm {
namespace {

constexpr int64_t kPad = 64;  // floats: at least a vector of any instruction set

int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

}  // namespace
}  // namespace sepllm
#endif

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kKeys = 4;  // that are multiplied side by side

// Scratch of a task, for each head: the scaled query (two of them), the sums, the scores of a key tile.
struct FewState {
  float* query[2];
  float* sums;
  float* scores;
  float top;
  float total;
};

// scores[q][j] = query q . key j for kKeys keys. Queries are padded with zeros to whole vectors.
template <typename T, int kQueries>
HWY_INLINE void few_scores(const float* const (&q)[kQueries], const T* const (&k)[kKeys], int64_t n,
                           float* const (&scores)[kQueries], int64_t n_valid) {
  VF acc[kQueries][kKeys];
  HWY_UNROLL(4)
  for (int a = 0; a < kQueries; ++a) {
    HWY_UNROLL(4)
    for (int j = 0; j < kKeys; ++j) acc[a][j] = hn::Zero(DF());
  }
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) {
    const VF k0 = load(k[0] + d), k1 = load(k[1] + d), k2 = load(k[2] + d), k3 = load(k[3] + d);
    HWY_UNROLL(4)
    for (int a = 0; a < kQueries; ++a) {
      const VF v = load(q[a] + d);
      acc[a][0] = hn::MulAdd(k0, v, acc[a][0]);
      acc[a][1] = hn::MulAdd(k1, v, acc[a][1]);
      acc[a][2] = hn::MulAdd(k2, v, acc[a][2]);
      acc[a][3] = hn::MulAdd(k3, v, acc[a][3]);
    }
  }
  if (d < n) {
    for (int j = 0; j < kKeys; ++j) {
      const VF tail = load_n(k[j] + d, n - d);
      for (int a = 0; a < kQueries; ++a) acc[a][j] = hn::MulAdd(tail, load(q[a] + d), acc[a][j]);
    }
  }
  for (int a = 0; a < kQueries; ++a) {
    for (int64_t j = 0; j < n_valid; ++j) scores[a][j] = reduce_sum(acc[a][j]);
  }
}

// Scores of `n` keys from `k` on for kQueries heads.
template <typename T, int kQueries>
void score_tile(FewState* states, bool second, const T* k, int64_t stride, int64_t n, int64_t head_dim) {
  const float* q[kQueries];
  for (int a = 0; a < kQueries; ++a) q[a] = states[a].query[second ? 1 : 0];
  for (int64_t j = 0; j < n; j += kKeys) {
    const T* keys[kKeys];
    float* scores[kQueries];
    // Beyond the last key: the last again; its score is dropped.
    for (int64_t i = 0; i < kKeys; ++i) keys[i] = k + std::min(j + i, n - 1) * stride;
    for (int a = 0; a < kQueries; ++a) scores[a] = states[a].scores + j;
    few_scores<T, kQueries>(q, keys, head_dim, scores, std::min(kKeys, n - j));
  }
}

// Turns the scores of n keys into weights relative to the largest so far, and returns the factor for what was
// summed before.
HWY_INLINE float weights_of(FewState& s, int64_t n) {
  const int64_t n_padded = (n + kLanes - 1) / kLanes * kLanes;
  for (int64_t j = n; j < n_padded; ++j) s.scores[j] = kMasked;
  VF top = hn::Set(DF(), s.top);
  for (int64_t j = 0; j < n_padded; j += kLanes) top = hn::Max(top, load(s.scores + j));
  const float new_top = reduce_max(top);
  const VF shift = hn::Set(DF(), new_top);
  VF total = hn::Zero(DF());
  for (int64_t j = 0; j < n_padded; j += kLanes) {
    const VF p = exp2_fast(hn::Sub(load(s.scores + j), shift));
    total = hn::Add(total, p);
    store(p, s.scores + j);
  }
  const float factor = hn::GetLane(exp2_fast(hn::Set(DF(), s.top - new_top)));
  s.total = s.total * factor + reduce_sum(total);
  s.top = new_top;
  return factor;
}

// sums[d, d + kVectors * Lanes) = factor * sums + weights . values.
template <typename T, int kVectors>
HWY_INLINE void add_values(FewState& s, float factor, const T* v, int64_t stride, int64_t n, int64_t d) {
  VF acc[kVectors];
  HWY_UNROLL(4)
  for (int i = 0; i < kVectors; ++i) {
    acc[i] = hn::Mul(load(s.sums + d + i * kLanes), hn::Set(DF(), factor));
  }
  for (int64_t j = 0; j < n; ++j) {
    const VF p = hn::Set(DF(), s.scores[j]);
    const T* row = v + j * stride + d;
    HWY_UNROLL(4)
    for (int i = 0; i < kVectors; ++i) acc[i] = hn::MulAdd(load(row + i * kLanes), p, acc[i]);
  }
  for (int i = 0; i < kVectors; ++i) store(acc[i], s.sums + d + i * kLanes);
}

template <typename T>
void value_tile(FewState& s, float factor, const T* v, int64_t stride, int64_t n, int64_t head_dim) {
  int64_t d = 0;
  for (; d + 4 * kLanes <= head_dim; d += 4 * kLanes) add_values<T, 4>(s, factor, v, stride, n, d);
  for (; d + kLanes <= head_dim; d += kLanes) add_values<T, 1>(s, factor, v, stride, n, d);
  if (d < head_dim) {
    VF acc = hn::Mul(load(s.sums + d), hn::Set(DF(), factor));
    for (int64_t j = 0; j < n; ++j) {
      acc = hn::MulAdd(load_n(v + j * stride + d, head_dim - d), hn::Set(DF(), s.scores[j]), acc);
    }
    store(acc, s.sums + d);
  }
}

void start(const AttentionTask& t, FewState* states) {
  const int64_t n = padded(t.args->head_dim);
  float* p = t.scratch;
  for (int64_t h = 0; h < t.n_heads; ++h) {
    FewState& s = states[h];
    s.query[0] = p;
    s.query[1] = p + n;
    s.sums = p + 2 * n;
    s.scores = p + 3 * n;
    p += 3 * n + kAttentionKeyTile + kPad;
    std::fill_n(s.query[0], 3 * n, 0.0F);
    for (int second = 0; second < 2; ++second) {
      const float* q = t.query(second != 0, 0, h);
      for (int64_t d = 0; d < t.args->head_dim; ++d) s.query[second][d] = q[d] * t.score_scale();
    }
    s.top = kLowest;
    s.total = 0;
  }
}

void finish(const AttentionTask& t, const FewState* states) {
  const int64_t n = t.args->head_dim;
  for (int64_t h = 0; h < t.n_heads; ++h) {
    const FewState& s = states[h];
    if (t.partial != nullptr) {
      float* to = t.partial_at(0, h);
      std::copy_n(s.sums, n, to);
      to[n] = s.top;
      to[n + 1] = s.total;
    } else {
      const float inverse = 1.0F / s.total;
      float* to = t.output(0, h);
      for (int64_t d = 0; d < n; ++d) to[d] = s.sums[d] * inverse;
    }
  }
}

void add_alibi(const AttentionTask& t, const KeySpan& span, int64_t key, int64_t n, FewState* states) {
  const int64_t place = t.place(span, 0);
  for (int64_t h = 0; h < t.n_heads; ++h) {
    const float slope = t.slope(h);
    for (int64_t j = 0; j < n; ++j) {
      states[h].scores[j] += slope * static_cast<float>(span.encoded_at(key + j) - place);
    }
  }
}

template <typename T>
void few(const AttentionTask& t) {
  FewState states[kAttentionFewLanes];
  start(t, states);
  for_each_range(t, [&](const KeySpan& span, int64_t lo, int64_t hi) {
    const int64_t base = t.kv_head() * span.head_stride;
    for (int64_t key = lo; key < hi; key += kAttentionKeyTile) {
      const int64_t n = std::min(kAttentionKeyTile, hi - key);
      const T* k = static_cast<const T*>(span.k) + base + key * span.slot_stride;
      const T* v = static_cast<const T*>(span.v) + base + key * span.slot_stride;
      int64_t h = 0;
      for (; h + 2 <= t.n_heads; h += 2) {
        score_tile<T, 2>(states + h, span.second_query, k, span.slot_stride, n, t.args->head_dim);
      }
      if (h < t.n_heads) {
        score_tile<T, 1>(states + h, span.second_query, k, span.slot_stride, n, t.args->head_dim);
      }
      if (t.args->alibi_slopes != nullptr) add_alibi(t, span, key, n, states);
      for (h = 0; h < t.n_heads; ++h) {
        const float factor = weights_of(states[h], n);
        value_tile(states[h], factor, v, span.slot_stride, n, t.args->head_dim);
      }
    }
  });
  finish(t, states);
}

void AttentionFew(const AttentionTask& t) {
  switch (t.sequence->kv_type) {
    case DType::kF32:
      return few<float>(t);
    case DType::kF16:
      return few<f16>(t);
    case DType::kBF16:
      return few<bf16>(t);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(AttentionFew);
}  // namespace

void attention_few(const AttentionTask& t) { HWY_DYNAMIC_DISPATCH(AttentionFew)(t); }

int64_t attention_few_scratch(int64_t head_dim) {
  return kAttentionFewLanes * (3 * padded(head_dim) + kAttentionKeyTile + kPad);
}

}  // namespace sepllm
#endif  // HWY_ONCE
