// A KV cache for models that are computed elsewhere.
#include <sepllm/sepllm.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention/policy.h"
#include "base/error.h"
#include "base/options.h"
#include "cache/kv_cache.h"
#include "capi/guard.h"
#include "capi/kv_figures.h"
#include "capi/runtime.h"
#include "capi/tensor.h"
#include "ops/cached_attention.h"
#include "text/separators.h"

namespace sepllm::capi {
namespace {

KvCache make_cache(const char* json) {
  PolicySettings settings;
  KvLayout layout;
  int64_t vocab_size = 0;
  OptionSet options;
  options.add_int("layers", &layout.n_layers, 1, 1 << 16, "");
  options.add_int("kv-heads", &layout.n_kv_heads, 1, 1 << 16, "");
  options.add_int("head-dim", &layout.head_dim, 1, 1024, "");
  options.add_int("vocab-size", &vocab_size, 0, INT32_MAX, "");
  declare_policy_options(&options, &settings);
  apply_options(&options, json);
  finish_policy_options(&options, &settings, Json(), "");
  for (const char* name : {"layers", "kv-heads", "head-dim"}) {
    if (options.was_set(name)) continue;
    throw Error(ErrorCode::kInvalidArgument, "a cache needs " + option_name(name));
  }
  settings.policy.validate_layers(layout.n_layers);
  if (settings.policy.has(PolicyKind::kNsa)) {
    throw Error(ErrorCode::kUnsupported, "a cache of its own has no gates for policy nsa",
                {.hint = "use a session of a model that was trained under nsa"});
  }
  layout.type = settings.kv;
  TokenSet separators(vocab_size);
  if (settings.policy.uses_separators()) {
    if (separators_need_tokenizer(settings.separators)) {
      throw Error(ErrorCode::kInvalidArgument,
                  "a cache without a tokenizer needs its " + option_name("separators") + " as ids",
                  {.expected = "ids:1,2,3", .got = settings.separators});
    }
    separators = separators_from_ids(settings.separators, vocab_size);
  }
  return {layout, settings.policy, separators};
}

}  // namespace

// A cache behind its handle.
class SharedCache {
 public:
  SharedCache(std::shared_ptr<Runtime> runtime, KvCache cache)
      : runtime_(std::move(runtime)), cache_(std::move(cache)) {}

  SharedCache fork() {
    require_state(State::kBetween);
    return {runtime_, cache_.copy()};
  }

  void begin(std::span<const int32_t> ids) {
    require_state(State::kBetween);
    require(!ids.empty() && std::ssize(ids) <= cache_.max_chunk(),
            "the chunk is not of 1 to max_chunk tokens");
    const std::vector<int32_t> tokens(ids.begin(), ids.end());
    cache_.make_room(tokens);  // what can fail, before anything changes
    tokens_ = tokens;
    attended_.assign(static_cast<size_t>(cache_.layout().n_layers), false);
    state_ = State::kBroken;
    ops::begin_chunks(rows());
    state_ = State::kWithin;
  }

  void places(int64_t layer, const int64_t** first, const int64_t** second) {
    require_state(State::kWithin);
    require_layer(layer);
    *first = cache_.encoded(layer).data();
    const std::span<const int64_t> others = cache_.second_encoded(layer);
    if (second != nullptr) *second = others.empty() ? nullptr : others.data();
  }

  void attend(int64_t layer, const sepllm_cache_operands& o) {
    require_state(State::kWithin);
    require_layer(layer);
    require(!attended_[static_cast<size_t>(layer)], "the layer has attended in this chunk already");
    const int64_t kv_heads = cache_.layout().n_kv_heads, dim = cache_.layout().head_dim,
                  n = std::ssize(tokens_);
    require(o.heads >= 1 && o.heads < int64_t{1} << 31 && o.heads % kv_heads == 0,
            "kv-heads does not divide heads");
    require(std::isfinite(o.scale), "scale is not finite");
    const TensorShape of_q{1, o.heads, n, dim}, of_kv{1, kv_heads, n, dim};
    ops::CachedAttentionOperands operands{
        .layer = layer,
        .scale = o.scale != 0.0F ? o.scale : 1.0F / std::sqrt(static_cast<float>(dim)),
        .q = checked_heads(o.q, of_q, "q", false),
        .k = checked_heads(o.k, of_kv, "k", false),
        .v = checked_heads(o.v, of_kv, "v", false),
        .out = checked_heads(o.out, of_q, "out", true)};
    const bool has_second = !cache_.second_encoded(layer).empty();
    require(has_second || o.second_q.data == nullptr, "second_q was given, and there are no second places");
    if (o.second_q.data != nullptr) operands.second_q = checked_heads(o.second_q, of_q, "second_q", false);
    const Turn turn(runtime_->mutex());
    state_ = State::kBroken;
    ops::cached_attend(runtime_->context(), operands, rows());
    attended_[static_cast<size_t>(layer)] = true;
    state_ = State::kWithin;
  }

  void end(std::span<const double> frequencies, bool interleaved) {
    require_state(State::kWithin);
    require(std::find(attended_.begin(), attended_.end(), false) == attended_.end(),
            "not every layer has attended in this chunk");
    require(2 * std::ssize(frequencies) <= cache_.layout().head_dim,
            "more frequencies than pairs of head_dim");
    const ops::RopeSpec rope{frequencies, interleaved ? RopePairing::kInterleaved : RopePairing::kHalf};
    const Turn turn(runtime_->mutex());
    state_ = State::kBroken;
    ops::end_chunks(runtime_->context(), rope, rows());
    state_ = State::kBetween;
  }

  const KvCache& cache() const { return cache_; }
  InUse& in_use() { return in_use_; }

 private:
  enum class State { kBetween, kWithin, kBroken };

  void require_state(State wanted) const {
    if (state_ == wanted) return;
    const char* why = state_ == State::kBroken   ? "an earlier call failed within a chunk"
                      : state_ == State::kWithin ? "a chunk has begun and not ended"
                                                 : "no chunk has begun";
    throw Refusal(SEPLLM_INVALID_STATE, std::string("the cache is not ready for this call: ") + why);
  }
  void require_layer(int64_t layer) const {
    require(layer >= 0 && layer < cache_.layout().n_layers, "the cache has no such layer");
  }
  std::span<const ops::CachedRows> rows() {
    rows_ = {.cache = &cache_, .tokens = tokens_};
    return {&rows_, 1};
  }

  std::shared_ptr<Runtime> runtime_;
  KvCache cache_;
  InUse in_use_ = false;
  State state_ = State::kBetween;
  std::vector<int32_t> tokens_;  // of the chunk
  std::vector<bool> attended_;   // [layers]
  ops::CachedRows rows_;
};

}  // namespace sepllm::capi

struct sepllm_cache {
  sepllm::capi::SharedCache shared;
};

using namespace sepllm;        // NOLINT(google-build-using-namespace)
using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

namespace {

template <typename Body>
sepllm_status with_cache(sepllm_cache* cache, const Body& body) noexcept {
  return guarded([&] {
    SharedCache& shared = given(cache, "cache").shared;
    const Use use(shared.in_use(), "cache");
    body(shared);
  });
}

}  // namespace

sepllm_status sepllm_cache_new(sepllm_runtime* runtime, const char* options, sepllm_cache** out) {
  return guarded([&] {
    given(out, "out");
    *out = new sepllm_cache{{given(runtime, "runtime").shared, make_cache(options)}};
  });
}

void sepllm_cache_free(sepllm_cache* cache) { delete cache; }

sepllm_status sepllm_cache_fork(sepllm_cache* cache, sepllm_cache** out) {
  return with_cache(cache, [&](SharedCache& c) {
    given(out, "out");
    *out = new sepllm_cache{c.fork()};
  });
}

int64_t sepllm_cache_length(const sepllm_cache* cache) {
  return cache == nullptr ? 0 : cache->shared.cache().length();
}

int64_t sepllm_cache_max_chunk(const sepllm_cache* cache) {
  return cache == nullptr ? 0 : cache->shared.cache().max_chunk();
}

sepllm_status sepllm_cache_begin(sepllm_cache* cache, const int32_t* ids, size_t n) {
  return with_cache(cache, [&](SharedCache& c) { c.begin(array(ids, n, "ids")); });
}

sepllm_status sepllm_cache_places(sepllm_cache* cache, int64_t layer, const int64_t** places,
                                  const int64_t** second_places) {
  return with_cache(cache, [&](SharedCache& c) {
    given(places, "places");
    c.places(layer, places, second_places);
  });
}

sepllm_status sepllm_cache_attend(sepllm_cache* cache, int64_t layer, const sepllm_cache_operands* operands) {
  return with_cache(cache, [&](SharedCache& c) { c.attend(layer, given(operands, "operands")); });
}

sepllm_status sepllm_cache_end(sepllm_cache* cache, const double* inverse_frequencies, size_t n_frequencies,
                               int interleaved) {
  return with_cache(cache, [&](SharedCache& c) {
    c.end(array(inverse_frequencies, n_frequencies, "inverse_frequencies"), interleaved != 0);
  });
}

sepllm_status sepllm_cache_kv_stats(sepllm_cache* cache, sepllm_kv_stats* out) {
  return with_cache(cache, [&](SharedCache& c) { given(out, "out") = stats_of(c.cache()); });
}
