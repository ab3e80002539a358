// One sequence in progress: tokens go in, logits come out, the cache keeps what the policy keeps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/function_ref.h"
#include "cache/kv_cache.h"
#include "engine/model.h"
#include "kernels/context.h"

namespace sepllm {

// Ends a run whose logits or losses are NaN or infinite: Error (kBadFile) that names the model.
[[noreturn]] void refuse_output(const Model& model);

class Session {
 public:
  // Error as Policy::validate and validate_layers.
  Session(const Model& model, const PolicySettings& settings, const Context& ctx);

  // Feeds known tokens in chunks of at most settings.prefill_chunk (and up to the next compression).
  // `on_hidden` gets the index of a chunk's first token within `tokens` and its hidden states [n,
  // hidden_size].
  void feed(std::span<const int32_t> tokens,
            FunctionRef<bool(int64_t first, const Matrix& hidden)> on_hidden);
  // Feeds tokens and returns the logits [vocab_size] after the last one; valid until the next call. `go_on`
  // is asked before each chunk: where it says no, the rest is not fed and the result is empty. Error
  // (kBadFile) if a logit is NaN or infinite.
  std::span<const float> advance(
      std::span<const int32_t> tokens, FunctionRef<bool()> go_on = [] { return true; });

  KvCache& cache() { return cache_; }
  const KvCache& cache() const { return cache_; }
  const Model& model() const { return model_; }
  const Context& context() const { return ctx_; }

 private:
  const Model& model_;
  int64_t prefill_chunk_;
  Context ctx_;
  KvCache cache_;
  std::vector<float> logits_;
};

}  // namespace sepllm
