// Runs several sequences at once: their decoding steps share each pass over the weights (continuous
// batching). Sequences enter and leave at any step; prompts are fed chunk by chunk between the others' steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "engine/continuation.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "engine/token_score.h"

namespace sepllm {

// A chunk of a prompt has been fed.
struct PromptStep {
  int64_t fed = 0;  // tokens of the prompt that are in the session now
  int64_t total = 0;
  // With score_prompt: the scores of the prompt's tokens from `first` on, as far as the chunk predicts them.
  int64_t first = 0;
  std::span<const TokenScore> scores{};
  // Once the whole prompt is fed: the hidden state of its last token [hidden_size], from which its logits
  // follow.
  std::span<const float> last_hidden{};
  Session& session;
};

// A token was sampled, or text that was held back has become certain.
struct TextStep {
  int64_t choice = 0;
  const std::string& text;               // whole characters; empty: there are only scores
  std::span<const TokenScore> scores{};  // with n_top >= 0, of the tokens since the last step of this choice
  const Session& session;
};

// A choice has ended.
struct EndStep {
  int64_t choice = 0;
  const GenerateResult& result;
  const Session* session = nullptr;  // null: it never got one
};

// A text to generate. on_text works as in generate(); on_end gets the result of each choice once, after its
// last text. Both may add and cancel requests, and must not throw.
struct SchedulerRequest {
  GenerateRequest generate{};  // its go_on is asked at every step, also while the request waits
  SamplingSettings sampling{};
  PolicySettings policy{};
  // The session to continue. It has `generate.n_fed` tokens of the prompt (Session::reusable, rewind), and
  // nobody else uses it until the end; afterwards it may serve another request. If null, a new session of
  // `policy` is created.
  std::shared_ptr<Session> session{};
  // If given, it replaces `session` and `generate.n_fed`. It is called when the first chunk of the prompt is
  // due, so that the session can be chosen at that time. It may throw an Error, which ends this request.
  struct Start {
    std::shared_ptr<Session> session;  // not null
    int64_t n_fed = 0;
    // With PromptStep::last_hidden of an older request, n_fed may be the whole prompt: then nothing is fed,
    // and on_prompt is not called.
    std::vector<float> last_hidden{};
    // A chunk of the prompt ends here, wherever else it would have ended (then the bits may be others). 0:
    // nowhere.
    int64_t cut = 0;
  };
  std::function<Start()> on_start{};
  // Continuations of one prompt (>= 1), which is fed once; choice c is sampled with seed sampling.seed + c.
  int64_t n_choices = 1;
  // Scores of sampled tokens, also of the one that ends the text; -1: none, k: their own and the k most
  // likely.
  int64_t n_top = -1;
  bool score_prompt = false;  // scores of the tokens of the prompt after the first one that is fed
  std::function<void(const PromptStep&)> on_prompt{};
  std::function<bool(const TextStep&)> on_text{};
  std::function<void(const EndStep&)> on_end{};
};

// Every sequence computes the same as generate() would for it without others, to the last bit: the chunks of
// a prompt run one sequence at a time, and rows of a decoding step (which short chunks of prompts may join)
// do not depend on each other. Must be used from one thread.
class Scheduler {
 public:
  // At most `max_active` sequences (>= 1) have a cache at the same time; others wait in order. (A request
  // with more choices than that runs when nothing else does.)
  Scheduler(const Model& model, const Context& ctx, int64_t max_active);
  ~Scheduler();

  // Queues a request and returns its number. Error as for Session's constructor.
  int64_t add(SchedulerRequest request);
  // Ends a request (kCancelled) if it has not ended: in the queue, in its prompt or during decoding. Its
  // on_end is called at the end of the next step, and it gets no text before.
  void cancel(int64_t id);
  // Runs one chunk of one prompt (or several short ones), if any waits, then one decoding step of all running
  // sequences. False: there was nothing to do. An Error that concerns one sequence (a prompt that cannot be
  // fed, learned positions that end, no memory for its cache) ends only that one (kError, with its exception
  // in the result).
  bool step();
  // Runs steps until all requests have ended.
  void run() {
    while (step()) {
    }
  }

  int64_t n_active() const;  // sequences, including the choices of prompts that are still being fed
  int64_t n_waiting() const { return static_cast<int64_t>(waiting_.size()); }  // requests
  // The active sequences.
  struct SequenceState {
    int64_t id = 0, choice = 0;
    int64_t fed = 0, total = 0;  // tokens of the prompt
    int64_t new_tokens = 0;
    const Session* session = nullptr;  // null before its first chunk
  };
  void visit(FunctionRef<void(const SequenceState&)> fn) const;
  // What the last step did.
  struct LastStep {
    bool fed_prompt = false;
    int64_t rows = 0;  // sequences that decoded
  };
  const LastStep& last_step() const { return last_step_; }

 private:
  struct Job;
  struct Slot;
  using Slots = std::vector<std::unique_ptr<Slot>>;
  // What one sequence adds to a pass: the token that it has sampled, or a chunk of its prompt.
  struct Row {
    Slot* slot;
    std::span<const int32_t> tokens;
  };

  void admit();
  bool feed_prompt();
  bool repeats_joined(const Slot& slot) const;
  void begin_prompt(Slot& slot);
  static std::span<const int32_t> next_chunk(const Slot& slot);
  void feed_chunk(Slot& slot, std::span<const int32_t> chunk);
  void chunk_entered(Slot& slot, std::span<const int32_t> chunk, const Matrix& hidden, const Matrix& logits);
  void score_chunk(Slot& slot, const Matrix& hidden) const;
  void begin_decoding(Slot& slot, const Matrix& logits);
  bool decode();
  void run_rows(size_t begin, size_t end);
  bool forward_batch();
  void retire();

  const Model& model_;
  Context ctx_;
  int64_t max_active_;
  int64_t next_id_ = 0;
  std::deque<std::unique_ptr<Slot>> waiting_;
  Slots active_;
  size_t next_prompt_ = 0;       // the active sequence whose prompt is next
  std::vector<Row> joined_;      // short chunks of prompts that wait for the decoding step
  std::vector<Row> rows_;        // of the decoding step
  std::vector<Row> batch_rows_;  // of one pass
  std::vector<Sequence> batch_;
  std::vector<float> hidden_, logits_;  // after the last token of each row of a pass
  LastStep last_step_;
};

}  // namespace sepllm
