// A model in training: its parameters, their gradients and moments, and the two halves of a step. It knows no
// files, schedules or clocks. Where a run has several ranks, each has all parameters and its own samples'
// gradients, but only the moments of its shard.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attention/policy.h"
#include "base/thread_pool.h"
#include "base/token_set.h"
#include "kernels/rowwise/adamw.h"
#include "model/decoder.h"
#include "tensor/tape.h"
#include "train/comm.h"
#include "train/parameters.h"
#include "train/shards.h"
#include "train/token_data.h"

namespace sepllm {

// What the queries of a training run see.
struct TrainingPatterns {
  Policy policy;  // static, or sink-stream (a check)
  TokenSet separators;
  bool document_mask = false;  // tokens see their own document only
};

class Learner {
 public:
  // All parameters zero: load() or initialise() them. Error (kOutOfRange) where memory is not enough.
  // `comm`: the ranks of the run; null: only this one. With Memory::kAddresses and an idle pool it computes
  // nothing and finds out what memory it would take.
  Learner(const ModelSpec& spec, ThreadPool& pool, Comm* comm = nullptr, Memory memory = Memory::kZeros);

  const ModelSpec& spec() const { return spec_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  std::span<float> gradients() { return span_of(gradients_); }
  Comm& comm() { return comm_; }
  int64_t moment_bytes() const { return first_moments_.bytes() + second_moments_.bytes(); }  // on this rank
  void set_patterns(TrainingPatterns patterns) { patterns_ = std::move(patterns); }
  // Activations of a layer are made again in the backward pass instead of kept.
  void set_replay_layers(bool replay) { replay_layers_ = replay; }
  // How they are kept: f32, or bf16 in half the memory (each layer computes in f32 all the same).
  void set_activation_storage(DType type);
  // What products read the weights in: f32, or copies of them in bf16 (Parameters::set_storage). Before
  // anyone has views of the parameters.
  void set_weight_storage(DType type);
  // Where accumulate() adds up the seconds by kind of op; null: nowhere.
  void set_times(OpTimes* times) { times_ = times; }

  void clear_gradients();
  // Adds the gradient of factor * (sum of the losses of all targets) of these samples, which go through the
  // model together; all of one length. Returns that sum, natural-log. `last`: the ranks' gradients are summed
  // after it, those of the last layers already while the backward pass continues to the first.
  double accumulate(std::span<const Sample> samples, double factor, bool last = true);
  // Only the sum of the losses.
  double evaluate(std::span<const Sample> samples);
  // All ranks, after the last samples: of the sum of all ranks' gradients.
  double gradient_norm();
  // All ranks: one step of AdamW over all parameters; weight_decay is only for matrices and embeddings.
  void step(const AdamwStep& step);

  // All ranks: hand rank 0's `take` (or have its `give` fill) the first or second moments of all parameters,
  // in order, in pieces that add up to parameters().size().
  enum class Moment { kFirst, kSecond };
  void gather_moments(Moment which, const std::function<void(std::span<const float>)>& take);
  void scatter_moments(Moment which, const std::function<void(std::span<float>)>& give);

  // Multiply-adds x 2 of one forward and backward pass: the products with weights, and attention's visible
  // pairs apart.
  struct Flops {
    double dense = 0, attention = 0;
  };
  const Flops& flops() const { return flops_; }  // of all samples accumulated so far
  void set_flops(const Flops& flops) { flops_ = flops; }
  // Of attention, if every token of a sample of `length` saw all before it.
  double full_attention_flops(int64_t length) const;

  // What a pass over samples takes in addition to parameters, gradients and moments: the most of all so far.
  struct PassBytes {
    int64_t activations = 0;           // kept for the backward pass
    int64_t loss = 0;                  // in addition: logits of a block of rows, scratch
    int64_t activation_gradients = 0;  // in the backward pass, in addition to activations
    int64_t backward = 0;              // in addition to both: scratch, a layer's activations made again
    int64_t arena = 0;                 // the most of all that; loss and backward are not there at one time
    int64_t workspace = 0;             // the activations of one layer, where they are kept packed
  };
  const PassBytes& pass_bytes() const { return pass_bytes_; }
  // Takes the memory of passes in one piece. Before the first of them.
  void reserve(const PassBytes& bytes);

 private:
  std::span<float> span_of(Buffer& buffer) {
    return {buffer.as<float>(), static_cast<size_t>(parameters_.size())};
  }
  // Hidden states of the samples' first tokens, which stay until the arena's scope ends.
  Matrix forward(const Context& ctx, std::span<const Sample> samples);
  Buffer& moments(Moment which) { return which == Moment::kFirst ? first_moments_ : second_moments_; }
  void set_gradients_out(int64_t from);  // gradients from this element on are final
  void count_flops(std::span<const Sample> samples);
  void count_bytes(int64_t activations, int64_t loss, int64_t backward);

  ModelSpec spec_;
  ThreadPool& pool_;
  Comm alone_;
  Comm& comm_;
  Parameters parameters_;
  std::vector<Shard> shards_;
  std::vector<int64_t> layer_begins_;  // elements
  size_t n_kept_ = 0;                  // the first buckets, whose gradients are not on their way
  Buffer gradients_, first_moments_, second_moments_;
  std::optional<Decoder> decoder_;  // of the views that the storage of the weights gives
  Arena arena_, workspace_;
  Tape tape_;
  TrainingPatterns patterns_;
  bool replay_layers_ = false;
  OpTimes* times_ = nullptr;
  Flops flops_;
  PassBytes pass_bytes_;
  // Of the forward pass that is on the tape.
  std::vector<Pattern> patterns_of_samples_;
  std::vector<Sequence> sequences_;
};

}  // namespace sepllm
