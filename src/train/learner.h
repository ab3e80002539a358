// A model in training: its parameters, their gradients and moments, and the two halves of a step. It knows no
// files, schedules or clocks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/policy.h"
#include "base/thread_pool.h"
#include "base/token_set.h"
#include "kernels/adamw.h"
#include "model/decoder.h"
#include "tensor/tape.h"
#include "train/parameters.h"
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
  Learner(const ModelSpec& spec, ThreadPool& pool);

  const ModelSpec& spec() const { return spec_; }
  Parameters& parameters() { return parameters_; }
  std::span<float> gradients() { return span_of(gradients_); }
  std::span<float> first_moments() { return span_of(first_moments_); }
  std::span<float> second_moments() { return span_of(second_moments_); }
  void set_patterns(TrainingPatterns patterns) { patterns_ = std::move(patterns); }
  // Activations of a layer are made again in the backward pass instead of kept.
  void set_replay_layers(bool replay) { replay_layers_ = replay; }
  // Where accumulate() adds up the seconds by kind of op; null: nowhere.
  void set_times(OpTimes* times) { times_ = times; }

  void clear_gradients();
  // Adds the gradient of factor * (sum of the losses of all targets) of these samples, which go through the
  // model together; all of one length. Returns that sum, natural-log.
  double accumulate(std::span<const Sample> samples, double factor);
  // The sum of the losses alone.
  double evaluate(std::span<const Sample> samples);
  double gradient_norm();
  // One step of AdamW over all parameters; weight_decay is for matrices and embeddings alone.
  void step(const AdamwStep& step);

  // Multiply-adds x 2 of one forward and backward pass: the products with weights, and attention's visible
  // pairs apart.
  struct Flops {
    double dense = 0, attention = 0;
  };
  const Flops& flops() const { return flops_; }  // of all samples accumulated so far
  void set_flops(const Flops& flops) { flops_ = flops; }

  int64_t scratch_bytes() const { return arena_.reserved_bytes(); }

 private:
  std::span<float> span_of(Buffer& buffer) {
    return {buffer.as<float>(), static_cast<size_t>(parameters_.size())};
  }
  // Hidden states of the samples' first tokens, which stay until the arena's scope ends.
  Matrix forward(const Context& ctx, std::span<const Sample> samples);
  void count_flops(std::span<const Sample> samples);

  ModelSpec spec_;
  ThreadPool& pool_;
  Parameters parameters_;
  Buffer gradients_, first_moments_, second_moments_;
  Decoder decoder_;
  Arena arena_;
  Tape tape_;
  TrainingPatterns patterns_;
  bool replay_layers_ = false;
  OpTimes* times_ = nullptr;
  Flops flops_;
  // Of the forward pass that is on the tape.
  std::vector<Pattern> patterns_of_samples_;
  std::vector<Sequence> sequences_;
};

}  // namespace sepllm
