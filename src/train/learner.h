// A model in training: its parameters, their gradients and moments, and the two halves of a step. It knows no
// files, schedules or clocks. In a run with several ranks, each rank has all parameters and the gradients of
// its own samples, but only the moments of its shard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
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

// Which keys the queries of a training run see.
struct TrainingPatterns {
  Policy policy;  // static, or sink-stream (checked)
  TokenSet separators;
  bool document_mask = false;  // tokens see only their own document
};

class Learner {
 public:
  // All parameters are zero at first: call load() or initialise() them. Error (kOutOfRange) if there is not
  // enough memory. `comm`: the ranks of the run; null: only this one. With Memory::kAddresses and an idle
  // pool it computes nothing, but finds out how much memory it would take.
  Learner(const ModelSpec& spec, ThreadPool& pool, Comm* comm = nullptr, Memory memory = Memory::kZeros);
  ~Learner();
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;

  const ModelSpec& spec() const { return spec_; }
  // Complete: waits for the values that other ranks are sending.
  Parameters& parameters() {
    complete_parameters();
    return parameters_;
  }
  // The same for those who hold views of the parameters.
  void complete_parameters() { complete_parameters(parameters_.size()); }
  std::span<float> gradients() { return span_of(gradients_); }
  Comm& comm() { return comm_; }
  int64_t moment_bytes() const { return first_moments_.bytes() + second_moments_.bytes(); }  // on this rank
  void set_patterns(TrainingPatterns patterns) { patterns_ = std::move(patterns); }
  // Activations of a layer are recomputed in the backward pass instead of kept.
  void set_replay_layers(bool replay) { replay_layers_ = replay; }
  // How matrix products are computed; set to bf16 only where the processor has such products.
  void set_float_products(FloatProducts products) { float_products_ = products; }
  // The type in which activations are kept: f32, or bf16 in half the memory (each layer computes in f32 in
  // both cases).
  void set_activation_storage(DType type);
  // The type in which products read the weights: f32, or bf16 copies of them (Parameters::set_storage). Call
  // it before anyone has views of the parameters.
  void set_weight_storage(DType type);
  // Where accumulate() adds up the seconds by kind of op; null: times are not taken.
  void set_times(OpTimes* times) { times_ = times; }

  void clear_gradients();
  // Adds the gradient of factor * (sum of the losses of all targets) of these samples, which go through the
  // model together and must have the same length. Returns that sum (natural logarithm). `last`: the ranks'
  // gradients are summed after it; those of the last layers already while the backward pass continues to the
  // first.
  double accumulate(std::span<const Sample> samples, double factor, bool last = true);
  // The sum of the losses, without gradients.
  double evaluate(std::span<const Sample> samples);
  // Call on all ranks, after the last samples. The norm of the sum of all ranks' gradients.
  double gradient_norm();
  // Call on all ranks. One step of AdamW over all parameters; weight_decay applies only to matrices and
  // embeddings. Each rank updates its shard and sends it to the others while it continues: the next forward
  // pass waits for the values of a layer only before it computes that layer, and whoever asks for
  // parameters() gets complete ones.
  void step(const AdamwStep& step);

  // Call on all ranks. Passes the first or second moments of all parameters, in order, to rank 0's `take` (or
  // lets its `give` fill them), in pieces that add up to parameters().size().
  enum class Moment { kFirst, kSecond };
  void gather_moments(Moment which, const std::function<void(std::span<const float>)>& take);
  void scatter_moments(Moment which, const std::function<void(std::span<float>)>& give);

  // Multiply-adds x 2 of one forward and backward pass: separately for products with weights and for
  // attention's visible pairs.
  struct Flops {
    double dense = 0, attention = 0;
  };
  const Flops& flops() const { return flops_; }  // of all samples accumulated so far
  void set_flops(const Flops& flops) { flops_ = flops; }
  // FLOPs of attention if every token of a sample of `length` saw all tokens before it.
  double full_attention_flops(int64_t length) const;

  // Memory that a pass over samples takes in addition to parameters, gradients and moments: the maximum so
  // far.
  struct PassBytes {
    int64_t activations = 0;           // kept for the backward pass
    int64_t loss = 0;                  // in addition: logits of a block of rows, scratch
    int64_t activation_gradients = 0;  // in the backward pass, in addition to the activations
    int64_t backward = 0;              // in addition to both: scratch, a layer's recomputed activations
    // the peak of all these; loss and backward do not exist at the same time
    int64_t arena = 0;
    int64_t workspace = 0;  // in addition: the activations of one layer, if they are kept packed
  };
  const PassBytes& pass_bytes() const { return pass_bytes_; }
  // Takes the memory of passes in one piece. Call it before the first pass.
  void reserve(const PassBytes& bytes);

 private:
  std::span<float> span_of(Buffer& buffer) {
    return {buffer.as<float>(), static_cast<size_t>(parameters_.size())};
  }
  // Hidden states of the samples' first tokens, which stay valid until the arena's scope ends.
  Matrix forward(const Context& ctx, std::span<const Sample> samples);
  Buffer& moments(Moment which) { return which == Moment::kFirst ? first_moments_ : second_moments_; }
  void complete_parameters(int64_t end);  // those of the elements before `end`
  void set_gradients_out(int64_t from);   // gradients from this element on are final
  void count_flops(std::span<const Sample> samples);
  void count_bytes(int64_t activations, int64_t loss, int64_t backward);

  ModelSpec spec_;
  ThreadPool& pool_;
  Comm alone_;
  Comm& comm_;
  Parameters parameters_;
  std::vector<Shard> shards_;
  std::vector<int64_t> layer_begins_;  // elements
  size_t n_kept_ = 0;                  // the first buckets, whose gradients have not been sent yet
  // The gathers of the buckets' new values (Comm::start_all_gather), and how many of them have certainly
  // ended.
  std::vector<int64_t> gathers_;
  size_t n_complete_ = 0;
  Buffer gradients_, first_moments_, second_moments_;
  std::optional<Decoder> decoder_;  // reads the views that the storage of the weights gives
  Arena arena_, workspace_;
  Tape tape_;
  TrainingPatterns patterns_;
  bool replay_layers_ = false;
  FloatProducts float_products_ = FloatProducts::kF32;
  OpTimes* times_ = nullptr;
  Flops flops_;
  PassBytes pass_bytes_;
  // For the forward pass that is on the tape.
  std::vector<Pattern> patterns_of_samples_;
  std::vector<Sequence> sequences_;
};

}  // namespace sepllm
