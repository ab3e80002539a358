// The only forward pass: for decoding, scoring, serving and, with a tape, training.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention/pattern.h"
#include "cache/kv_cache.h"
#include "model/config.h"
#include "model/weights.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm {

// The tokens that one sequence adds to a batch, and what they attend to: its cache (which they enter), or a
// pattern over themselves.
struct Sequence {
  std::span<const int32_t> tokens{};
  KvCache* cache = nullptr;
  std::span<const Pattern> patterns{};  // without a cache: one for all layers, or one per layer
};

// Gets the rotated queries and keys of each layer during a forward pass (for `inspect attention`).
class AttentionProbe {
 public:
  virtual ~AttentionProbe() = default;
  // q: [n, n_heads * head_dim], k: [n, n_kv_heads * head_dim]; both are valid during the call. The scores are
  // q k^T times `scale`.
  virtual void layer(int64_t layer, const Matrix& q, const Matrix& k, float scale) = 0;
};

class Decoder {
 public:
  // Reads a HF folder. Error as for read_model_spec and load_weights.
  static Decoder load(const std::string& folder, const WeightOptions& options = {});
  Decoder(ModelConfig config, ModelWeights weights);
  Decoder(Decoder&& other) noexcept
      : config_(std::move(other.config_)), weights_(std::move(other.weights_)) {}

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  // The matrices of products, for setting how they are read (Weight::walk); nothing else of them may be
  // changed.
  std::vector<Weight*> multiplied_matrices() { return sepllm::multiplied_matrices(&weights_); }
  KvLayout kv_layout(DType type) const;

  // Returns the hidden states after the final norm, [total tokens, hidden_size], of all sequences, one after
  // the other and without padding; they live in ctx.arena until the caller's Arena::Scope ends. Caches
  // advance by their tokens. Error (kInvalidArgument, kOutOfRange) for token ids outside the vocabulary,
  // learned positions beyond the limit and caches that cannot grow, before anything has changed. Error
  // (kOutOfRange) if there is no scratch memory; then the caches of the batch are unusable. One warning if
  // rotary or ALiBi positions pass the limit. With a tape (training) the sequences must not have caches;
  // they, their patterns, the context and the decoder must live until the backward pass, which adds to the
  // gradients of the parameters that the tape knows by their addresses in weights(). With `replay_layers` the
  // activations of a layer are recomputed in the backward pass instead of kept.
  Matrix forward(const Context& ctx, std::span<const Sequence> sequences, AttentionProbe* probe = nullptr,
                 bool replay_layers = false) const;

  // Checks everything that forward() refuses, without running it, and takes the memory that the caches need:
  // afterwards forward() can fail only if there is no scratch memory. Error as for forward().
  void check(std::span<const Sequence> sequences) const;

  // logits[r] = head(hidden[r]): out is [n_rows, vocab_size].
  void logits(const Context& ctx, const Matrix& hidden, const Matrix& out) const;
  // The negative log likelihood, in nats, of target[r] after hidden[r], computed in blocks of rows, so that
  // the logits of all rows never exist at once. out: [n_rows].
  void nll(const Context& ctx, const Matrix& hidden, std::span<const int32_t> targets, double* out) const;
  // The same with a tape: records where the gradient of sum_r factors[r] * nll[r] begins.
  void loss(const Context& ctx, const Matrix& hidden, std::span<const int32_t> targets, const float* factors,
            double* out) const;

 private:
  void check_place(int64_t place, int64_t text_length) const;
  void check_patterns(const Sequence& sequence) const;

  ModelConfig config_;
  ModelWeights weights_;
  mutable std::atomic<bool> warned_of_limit_{false};
};

}  // namespace sepllm
