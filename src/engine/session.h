// One sequence in progress: tokens go in, logits come out, the cache keeps what the policy keeps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "cache/kv_cache.h"
#include "engine/model.h"
#include "engine/state_file.h"
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

  // --- States (session_state.cc) ---
  // Writes all that is needed to go on, at once or not at all. `extra`: what the caller wants to find again
  // (an object). Error (kIo).
  void save(const std::string& path, const Json& extra = Json::object()) const;
  // Goes on where the saved session was, with the same bits in every later result (if its tokens come in
  // chunks that end where its own would have ended), and returns `extra`. Error (kBadFile), and the session
  // as it was, for a file that is damaged or was saved with another model, weights, policy, type of cache,
  // separators or prefill chunk.
  Json restore(const StateFile& file);
  Json restore(const std::string& path) { return restore(StateFile(path)); }

  KvCache& cache() { return cache_; }
  const KvCache& cache() const { return cache_; }
  const Model& model() const { return model_; }
  const Context& context() const { return ctx_; }

 private:
  Json identity() const;

  const Model& model_;
  PolicySettings settings_;
  Context ctx_;
  KvCache cache_;
  std::vector<float> logits_;
};

}  // namespace sepllm
