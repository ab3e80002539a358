// One sequence in progress: tokens go in, logits come out, and the cache keeps the keys that the policy
// keeps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/function_ref.h"
#include "cache/kv_cache.h"
#include "checkpoint/state_file.h"
#include "engine/marks.h"
#include "engine/model.h"
#include "tensor/context.h"

namespace sepllm {

// Ends a run whose logits or losses are NaN or infinite, with an Error (kBadFile) that names the model.
[[noreturn]] void refuse_output(const Model& model);

class Session {
 public:
  // Error as for Policy::validate and validate_layers.
  Session(const Model& model, const PolicySettings& settings, const Context& ctx);

  // The length of the next chunk if `n_known` tokens are known: at most settings.prefill_chunk, and up to the
  // next compression. The bits of all later results depend on where chunks end: code that feeds a session
  // must cut here.
  int64_t next_chunk(int64_t n_known = kUnlimited) const {
    return std::min({n_known, settings_.prefill_chunk, cache_.max_chunk()});
  }
  // Feeds known tokens in chunks of next_chunk(). `on_hidden` gets the index of a chunk's first token within
  // `tokens` and its hidden states [n, hidden_size]; if it returns false, the rest is not fed.
  using OnHidden = FunctionRef<bool(int64_t first, const Matrix& hidden)>;
  void feed(std::span<const int32_t> tokens, OnHidden on_hidden);
  void feed(std::span<const int32_t> tokens) {
    feed(tokens, [](int64_t, const Matrix&) { return true; });
  }
  // Feeds tokens and returns the logits [vocab_size] after the last one, which are valid until the next call.
  // `go_on` is asked before each chunk: if it returns false, the rest is not fed and the result is empty.
  // Error (kBadFile) if a logit is NaN or infinite.
  std::span<const float> advance(
      std::span<const int32_t> tokens, FunctionRef<bool()> go_on = [] { return true; });

  // --- Passes that several sessions share (Scheduler) ---

  // Makes these tokens, at most next_chunk(), one sequence of a pass; they must stay where they are until
  // entered(). Error as for Decoder::check, and then nothing has changed: the pass itself does not fail
  // because of this session.
  Sequence prepare(std::span<const int32_t> tokens);
  // Call it after Decoder::forward with these tokens.
  void entered(std::span<const int32_t> tokens);
  // Whether the session can continue: false after a pass that ended with an exception.
  bool usable() const { return !in_pass_; }

  // A copy of this session that gives the same bits for whatever follows; the cache and, with kYes, the marks
  // are copied. `ctx` may be another one, for another thread. Error (kOutOfRange) if there is not enough
  // memory.
  enum class CopyMarks { kNo, kYes };
  Session fork(const Context& ctx, CopyMarks marks = CopyMarks::kYes) const;
  // The same as fork(ctx) and rewind(position), without copies of what would be dropped.
  Session fork_at(const Context& ctx, int64_t position) const;

  // --- States (session_state.cc) ---

  // Writes everything that is needed to continue, completely or not at all. `extra`: data of the caller (an
  // object). Error (kIo).
  void save(const std::string& path, const Json& extra = Json::object()) const;
  // Continues where the saved session was, with the same bits in every later result (if its tokens come in
  // chunks that end where they would have ended in the saved session), and returns `extra`. Error (kBadFile),
  // and the session does not change, for a file that is damaged or was saved with another model, weights,
  // policy, type of cache, separators or prefill chunk; (kUnsupported) for another version that this program
  // does not read. A session that keeps marks gets the saved marks, and one at this point.
  Json restore(const StateFile& file);
  Json restore(const std::string& path) { return restore(StateFile(path)); }

  // --- Going back (session_state.cc) ---

  // From now on the session remembers tokens and keeps marks of the cache, the first one here, so that
  // rewind() can go back. Each mark costs a copy of what the cache holds (almost nothing for a cache that
  // drops nothing).
  void keep_marks(const MarkSettings& settings = {});
  bool keeps_marks() const { return marks_.has_value(); }
  // Sets a mark here, in addition to the periodic ones: rewind() to it is exact and needs no replay.
  void mark();
  // Drops all marks but the first one, and with them the memory that they take.
  void drop_marks();
  // Goes back to when `position` tokens had entered, 0 <= position <= cache().length(): to the last mark
  // before it, and from there by feeding the tokens again (for a recent position at most about one interval).
  // At a mark, and with kSameChunks where a chunk ended, the session gives the same bits as it would have
  // given then; elsewhere, the same except for the order of sums. A cache that drops nothing goes back
  // without feeding anything again. Error (kOutOfRange), and nothing changes, for a position before the
  // oldest mark. The logits of the last token are not kept: to get them, go back one token further and
  // advance() by that token.
  enum class Replay {
    kSameChunks,  // in the chunks in which they entered: generated tokens one by one
    kFast,        // in chunks that are as long as possible
  };
  void rewind(int64_t position, Replay replay = Replay::kSameChunks);
  // The number of tokens of a prompt that this session could begin with, after rewinding to that place. The
  // prompt's last token is never included, because its logits are needed. With `same_bits`, only as far as
  // all later results have the bits of a session that is fed the whole prompt: up to the end of a chunk.
  // Without, generated tokens count too. 0 if no mark reaches. Requires keeps_marks().
  int64_t reusable(std::span<const int32_t> prompt, bool same_bits) const;
  // The number of tokens with which both this session and a prompt begin; 0 if the session no longer knows
  // how it began. Requires keeps_marks().
  int64_t in_common(std::span<const int32_t> prompt) const;
  // The last place at or before `position` to which rewind() goes back without feeding anything again; -1:
  // none. Requires keeps_marks().
  int64_t rewinds_to(int64_t position) const;
  const Marks& marks() const {  // requires keeps_marks()
    SEPLLM_CHECK(marks_.has_value());
    return *marks_;
  }

  KvCache& cache() { return cache_; }
  const KvCache& cache() const { return cache_; }
  const Model& model() const { return model_; }
  const Context& context() const { return ctx_; }

 private:
  void run(std::span<const int32_t> chunk, FunctionRef<void(const Matrix& hidden)> on_hidden);
  Session(const Session& other, const Context& ctx, KvCache cache, std::optional<Marks> marks);
  Json identity() const;
  void go_back_to(const Marks::Mark& mark);
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
