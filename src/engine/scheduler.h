// Several sequences at once: their decoding steps share each pass over the weights (continuous batching).
// Sequences enter and leave at any step; a prompt goes in chunk by chunk between the others' steps.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/continuation.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace sepllm {

// One text to make. `on_text` as in generate(); `on_end` gets the result once, after the last text.
struct SchedulerRequest {
  GenerateRequest generate{};
  SamplingSettings sampling{};
  PolicySettings policy{};
  std::function<bool(const std::string&)> on_text{};
  std::function<void(const GenerateResult&)> on_end{};
};

// What every sequence computes is what generate() computes for it alone, to the last bit: a prompt's chunks
// run one sequence at a time, and rows of a decoding step do not depend on each other. Used from one thread.
class Scheduler {
 public:
  // At most `max_active` sequences hold a cache at once (>= 1); others wait in order.
  Scheduler(const Model& model, const Context& ctx, int64_t max_active);
  ~Scheduler();

  // Queues a request and returns its number. Error as Session's constructor.
  int64_t add(SchedulerRequest request);
  // Ends a sequence ("cancelled"), if it has not ended.
  void cancel(int64_t id);
  // One chunk of one prompt, if any waits, then one decoding step of all running sequences. False: there was
  // nothing to do. An Error that concerns one sequence (a prompt that cannot be fed, learned positions that
  // end) ends that one ("error", with its exception in the result).
  bool step();
  // Steps until all have ended.
  void run() {
    while (step()) {
    }
  }

  int64_t n_active() const { return static_cast<int64_t>(active_.size()); }
  int64_t n_waiting() const { return static_cast<int64_t>(waiting_.size()); }

 private:
  struct Slot;
  using Slots = std::vector<std::unique_ptr<Slot>>;

  void admit();
  bool feed_prompt();
  bool decode();
  void decode_rows(size_t begin, size_t end);
  void take(Slot& slot, std::span<const float> logits);
  void fail(Slot& slot);
  void retire();

  const Model& model_;
  Context ctx_;
  int64_t max_active_;
  int64_t next_id_ = 0;
  std::deque<std::unique_ptr<Slot>> waiting_;
  Slots active_;
  size_t next_prompt_ = 0;   // which active sequence's prompt is next, in turn
  std::vector<Slot*> rows_;  // of the decoding step
  std::vector<Sequence> batch_;
  std::vector<float> logits_;
};

}  // namespace sepllm
