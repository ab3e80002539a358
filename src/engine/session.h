// One sequence in progress: tokens go in, logits come out, the cache keeps what the policy keeps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "cache/kv_cache.h"
#include "checkpoint/state_file.h"
#include "engine/marks.h"
#include "engine/model.h"
#include "tensor/context.h"

namespace sepllm {

// Ends a run whose logits or losses are NaN or infinite: Error (kBadFile) that names the model.
[[noreturn]] void refuse_output(const Model& model);

class Session {
 public:
  // Error as Policy::validate and validate_layers.
  Session(const Model& model, const PolicySettings& settings, const Context& ctx);

  // Length of the chunk that comes next of `n_known` known tokens: settings.prefill_chunk at most, and up to
  // the next compression. The bits of all later results depend on where chunks end: whoever feeds a session
  // cuts here.
  int64_t next_chunk(int64_t n_known = kUnlimited) const {
    return std::min({n_known, settings_.prefill_chunk, cache_.max_chunk()});
  }
  // Feeds known tokens in chunks of next_chunk(). `on_hidden` gets the index of a chunk's first token within
  // `tokens` and its hidden states [n, hidden_size]; where it returns false, the rest is not fed.
  using OnHidden = FunctionRef<bool(int64_t first, const Matrix& hidden)>;
  void feed(std::span<const int32_t> tokens, OnHidden on_hidden);
  void feed(std::span<const int32_t> tokens) {
    feed(tokens, [](int64_t, const Matrix&) { return true; });
  }
  // Feeds tokens and returns the logits [vocab_size] after the last one; valid until the next call. `go_on`
  // is asked before each chunk: where it says no, the rest is not fed and the result is empty. Error
  // (kBadFile) if a logit is NaN or infinite.
  std::span<const float> advance(
      std::span<const int32_t> tokens, FunctionRef<bool()> go_on = [] { return true; });

  // --- Passes that several sessions share (Scheduler) ---
  // These tokens, at most next_chunk(), as one sequence of a pass; they must stay where they are until
  // entered(). Error as Decoder::check, and nothing changed: the pass itself does not fail for this session.
  Sequence prepare(std::span<const int32_t> tokens);
  // After Decoder::forward with them.
  void entered(std::span<const int32_t> tokens);
  // Whether the session can continue: not after a pass that ended with an exception.
  bool usable() const { return !in_pass_; }

  // A session that gives the same bits as this one for whatever follows: the cache is copied, the marks too.
  // `ctx` may be another one, for another thread. Error (kOutOfRange) out of memory.
  Session fork(const Context& ctx) const;

  // --- States (session_state.cc) ---
  // Writes all that is needed to continue, at once or not at all. `extra`: what the caller wants to find
  // again (an object). Error (kIo).
  void save(const std::string& path, const Json& extra = Json::object()) const;
  // Continues where the saved session was, with the same bits in every later result (if its tokens come in
  // chunks that end where its own would have ended), and returns `extra`. Error (kBadFile), and the session
  // as it was, for a file that is damaged or was saved with another model, weights, policy, type of cache,
  // separators or prefill chunk; (kUnsupported) for one of another version that this program does not read. A
  // session that keeps marks finds those that were saved, and has one here.
  Json restore(const StateFile& file);
  Json restore(const std::string& path) { return restore(StateFile(path)); }

  // --- Going back (session_state.cc) ---
  // From now on remembers tokens and keeps marks of the cache, the first one here, so that rewind() can go
  // back. Costs a copy of what the cache holds per mark (of a cache that drops nothing: next to nothing).
  void keep_marks(const MarkSettings& settings = {});
  bool keeps_marks() const { return marks_.has_value(); }
  // A mark here, in addition to the periodic ones: rewind() to it is exact and needs no replay.
  void mark();
  // Back to when `position` tokens had entered, 0 <= position <= cache().length(): to the last mark until
  // there, and from it on by feeding the tokens again (about an interval at most, for a recent position). At
  // a mark, and with kSameChunks where a chunk ended, the session gives the same bits as it would have given
  // then, elsewhere the same but for the order of sums. Error (kOutOfRange), and nothing changed, for a
  // position before the oldest mark. The logits of the last token are not kept: to have them, go one token
  // further back and advance() by it.
  enum class Replay {
    kSameChunks,  // in the chunks in which they entered: generated tokens one by one
    kFast,        // in chunks as long as they may be
  };
  void rewind(int64_t position, Replay replay = Replay::kSameChunks);
  // How many tokens of a prompt this session could begin with, if it were rewound to there: the prompt's last
  // token, of which the logits are wanted, is never among them. With `same_bits` only what gives all later
  // results the bits that they have in a session that is fed the whole prompt: up to the end of a chunk.
  // Without, generated tokens too. 0 where no mark reaches. keeps_marks().
  int64_t reusable(std::span<const int32_t> prompt, bool same_bits) const;
  const Marks& marks() const { return *marks_; }  // keeps_marks()

  KvCache& cache() { return cache_; }
  const KvCache& cache() const { return cache_; }
  const Model& model() const { return model_; }
  const Context& context() const { return ctx_; }

 private:
  void run(std::span<const int32_t> chunk, FunctionRef<void(const Matrix& hidden)> on_hidden);
  Session(const Session& other, const Context& ctx);
  Json identity() const;
  void add_mark(bool asked);

  const Model& model_;
  PolicySettings settings_;
  Context ctx_;
  KvCache cache_;
  std::optional<Marks> marks_;
  std::vector<float> logits_;
  bool in_pass_ = false;
  int64_t whole_chunk_ = 0;  // next_chunk() before the pass
};

}  // namespace sepllm
