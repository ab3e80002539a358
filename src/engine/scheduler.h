// Runs several sequences at once: their decoding steps share each pass over the weights (continuous
// batching). Sequences enter and leave at any step; prompts are fed chunk by chunk between the others' steps.
#pragma once

#include <cstddef>
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

// A text to generate. `on_text` works as in generate(); `on_end` gets the result once, after the last text.
// Both may add and cancel requests, and must not throw.
struct SchedulerRequest {
  GenerateRequest generate{};  // its go_on is asked at every step, also while the request waits
  SamplingSettings sampling{};
  PolicySettings policy{};
  // The session to continue. It has `generate.n_fed` tokens of the prompt (Session::reusable, rewind), and
  // nobody else uses it until the end; afterwards it may serve another request. If null, a new session of
  // `policy` is created.
  std::shared_ptr<Session> session{};
  std::function<bool(const std::string&)> on_text{};
  std::function<void(const GenerateResult&)> on_end{};
};

// Every sequence computes the same as generate() would for it without others, to the last bit: the chunks of
// a prompt run one sequence at a time, and rows of a decoding step do not depend on each other. Must be used
// from one thread.
class Scheduler {
 public:
  // At most `max_active` sequences (>= 1) have a cache at the same time; others wait in order.
  Scheduler(const Model& model, const Context& ctx, int64_t max_active);
  ~Scheduler();

  // Queues a request and returns its number. Error as for Session's constructor.
  int64_t add(SchedulerRequest request);
  // Ends a request (kCancelled) if it has not ended: in the queue, in its prompt or during decoding. Its
  // on_end is called at the end of the next step, and it gets no text before.
  void cancel(int64_t id);
  // Runs one chunk of one prompt, if any waits, then one decoding step of all running sequences. False: there
  // was nothing to do. An Error that concerns one sequence (a prompt that cannot be fed, learned positions
  // that end, no memory for its cache) ends only that one (kError, with its exception in the result).
  bool step();
  // Runs steps until all requests have ended.
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
  void feed_chunk(Slot& slot);
  bool decode();
  void decode_rows(size_t begin, size_t end);
  bool forward_batch();
  void retire();

  const Model& model_;
  Context ctx_;
  int64_t max_active_;
  int64_t next_id_ = 0;
  std::deque<std::unique_ptr<Slot>> waiting_;
  Slots active_;
  size_t next_prompt_ = 0;          // the active sequence whose prompt is next
  std::vector<Slot*> rows_;         // of the decoding step
  std::vector<Slot*> batch_slots_;  // of one pass
  std::vector<Sequence> batch_;
  std::vector<float> logits_;
};

}  // namespace sepllm
