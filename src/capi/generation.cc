#include <sepllm/sepllm.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/options.h"
#include "capi/batch.h"
#include "capi/guard.h"
#include "capi/session.h"
#include "engine/generator.h"

namespace sepllm::capi {

struct GenerationOptions {
  int64_t n = 256;
  std::vector<std::string> stops, stop_ids;
  bool ignore_eos = false, skip_special = false;
  SamplingSettings sampling;

  void read(const char* json) {
    OptionSet options;
    options.add_int("n", &n, 0, INT64_MAX, "");
    options.add_strings("stop", &stops, "");
    options.add_strings("stop-ids", &stop_ids, "");
    options.add_flag("ignore-eos", &ignore_eos, "");
    options.add_flag("skip-special", &skip_special, "");
    declare_sampling_options(&options, &sampling);
    apply_options(&options, json);
  }
};

namespace {

int32_t token_id(const std::string& text) {
  const auto value = parse_integer(text);
  if (!value || *value < 0 || *value > INT32_MAX) refuse_value("stop-ids", "token ids", text);
  return static_cast<int32_t>(*value);
}

sepllm_finish finish_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return SEPLLM_FINISH_LENGTH;
    case FinishReason::kStop:
      return SEPLLM_FINISH_STOP;
    case FinishReason::kCancelled:
      return SEPLLM_FINISH_CANCELLED;
    case FinishReason::kError:
      return SEPLLM_FINISH_ERROR;
  }
  return SEPLLM_FINISH_ERROR;
}

}  // namespace

// A text that is being generated, one token with each call of next().
class SharedGeneration {
 public:
  SharedGeneration(std::shared_ptr<SharedSession> session, std::span<const int32_t> ids,
                   const GenerationOptions& options)
      : session_(std::move(session)),
        sampler_(options.sampling, session_->model().config().vocab_size),
        n_fed_(std::ssize(ids)),
        length_(session_->session().cache().length()) {
    const Model& model = session_->model();
    GenerateRequest request;
    const std::span<const int32_t> before = session_->tokens();
    request.prompt.assign(before.begin(), before.end());
    request.prompt.insert(request.prompt.end(), ids.begin(), ids.end());
    request.n_fed = std::ssize(before);
    request.max_new_tokens = options.n;
    request.stop_ids = model.end_tokens();
    for (const std::string& id : options.stop_ids) request.stop_ids.push_back(token_id(id));
    request.stop_strings = options.stops;
    request.ignore_eos = options.ignore_eos;
    request.skip_special = options.skip_special;
    request.go_on = [this] { return allowed_ = session_->may_continue(); };
    to_feed_.assign(ids.begin(), ids.end());
    const auto on_text = [this](const std::string& text) {
      piece_ += text;
      return true;
    };
    generation_.emplace(session_->session(), sampler_, request, on_text,
                        ids.empty() ? session_->logits() : std::span<const float>());
  }

  // The caller holds the session. False: the text has ended. Throws what ended it, once.
  bool next() {
    piece_.clear();
    if (ended_) return false;
    require_unchanged();
    return advance([&] { return generation_->step(); });
  }

  // The same in three steps, for texts that share a pass. pending(): the token that the pass is to feed; -1:
  // next() has to be called instead. prepare(): false if the text cannot take part, because it has ended.
  // take(): with the logits after the token. Both throw as next() does.
  int32_t pending() const { return ended_ ? -1 : generation_->pending(); }
  bool prepare() {
    piece_.clear();
    require_unchanged();
    return advance([&] {
      allowed_ = session_->may_continue();
      if (allowed_) {
        session_->check(pending());
      } else {
        generation_->end(FinishReason::kCancelled);
      }
      return allowed_;
    });
  }
  bool take(std::span<const float> logits, double seconds) {
    return advance([&] {
      require_finite(logits);
      return generation_->step_after(logits, seconds);
    });
  }
  // Instead of take(): the pass has failed. Throws.
  bool fail(const std::exception_ptr& failure) {
    return advance([&]() -> bool { std::rethrow_exception(failure); });
  }

  // The text ends here, because its reader wants no more.
  void cancel() { ended_ = cancelled_ = true; }

  const std::string& piece() const { return piece_; }
  // What a call for several texts says about this one.
  const char* keep_error(const char* line) { return (error_ = line).c_str(); }
  SharedSession& session() { return *session_; }
  sepllm_generation_result get() const {
    const GenerateResult& r = generation_->result();
    const sepllm_finish finish = cancelled_ ? SEPLLM_FINISH_CANCELLED
                                 : ended_   ? finish_of(r.finish_reason)
                                            : SEPLLM_FINISH_NONE;
    return {.finish = finish,
            .ids = r.ids.data(),
            .n_ids = r.ids.size(),
            .text = r.text.c_str(),
            .n_bytes = r.text.size(),
            .n_fed = n_fed_,
            .prefill_seconds = r.prefill_seconds,
            .decode_seconds = r.decode_seconds};
  }

 private:
  void require_unchanged() const {
    if (session_->session().cache().length() == length_) return;
    throw Refusal(SEPLLM_INVALID_STATE, "the session was changed since the generation's last token");
  }
  void require_finite(std::span<const float> logits) const {
    if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }))
      refuse_output(session_->model());
  }

  // Runs a step, which says whether the text continues, and remembers what it did.
  template <typename Step>
  bool advance(const Step& step) {
    std::exception_ptr failure;
    try {
      ended_ = !step();
    } catch (...) {
      failure = std::current_exception();
      generation_->end(FinishReason::kError, failure);
      ended_ = true;
    }
    remember(session_->session().cache().length() - length_);
    if (ended_) generation_->finish();
    if (failure == nullptr) failure = generation_->result().failure;
    if (failure != nullptr) std::rethrow_exception(failure);
    if (!allowed_) throw Refusal(SEPLLM_CANCELLED, "the call was cancelled");
    return !ended_;
  }

  // Tells the session which of its tokens have entered: those of the prompt, then the new ones.
  void remember(int64_t n) {
    const std::vector<int32_t>& ids = generation_->result().ids;
    std::vector<int32_t> entered;
    for (; n > 0; --n) {
      const auto at = static_cast<size_t>(n_entered_++);
      entered.push_back(at < to_feed_.size() ? to_feed_[at] : ids.at(at - to_feed_.size()));
    }
    if (!entered.empty()) session_->entered(entered);
    length_ = session_->session().cache().length();
  }

  std::shared_ptr<SharedSession> session_;
  Sampler sampler_;
  std::optional<Generation> generation_;
  std::vector<int32_t> to_feed_;
  int64_t n_fed_, length_;
  int64_t n_entered_ = 0;
  std::string piece_, error_;
  bool ended_ = false, allowed_ = true, cancelled_ = false;
};

}  // namespace sepllm::capi

struct sepllm_generation {
  sepllm::capi::SharedGeneration shared;
};

using namespace sepllm;        // NOLINT(google-build-using-namespace)
using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

namespace {

std::unique_ptr<sepllm_generation> new_generation(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                                  const char* options) {
  const auto& shared = given(session, "session").shared;
  GenerationOptions read;
  read.read(options);
  const SessionCall call(*shared);
  return std::unique_ptr<sepllm_generation>(new sepllm_generation{{shared, array(ids, n_ids, "ids"), read}});
}

// Runs one text's part of a call for several: what it fails with concerns only this text. part: whether the
// text continues.
template <typename Part>
sepllm_generation_step step_of(SharedGeneration& g, const Part& part) {
  bool more = false;
  const sepllm_status status = guarded([&] { more = part(); });
  return {.status = status,
          .error = status != SEPLLM_OK ? g.keep_error(sepllm_last_error()) : nullptr,
          .text = g.piece().c_str(),
          .n_bytes = g.piece().size(),
          .more = more ? 1 : 0};
}

// Prompts are fed by themselves; all other texts share passes.
void step_together(std::span<SharedGeneration* const> texts, std::span<sepllm_generation_step> out) {
  std::vector<size_t> rows;
  std::vector<SharedSession*> sessions;
  std::vector<int32_t> ids;
  for (size_t i = 0; i < texts.size(); ++i) {
    SharedGeneration& g = *texts[i];
    const int32_t id = g.pending();
    out[i] = step_of(g, [&] { return id >= 0 ? g.prepare() : g.next(); });
    if (id < 0 || out[i].more == 0) continue;
    rows.push_back(i);
    sessions.push_back(&g.session());
    ids.push_back(id);
  }
  if (rows.empty()) return;
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  size_t n_taken = 0;
  const auto take = [&](size_t row, std::span<const float> logits) {
    SharedGeneration& g = *texts[rows[row]];
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    out[rows[row]] = step_of(g, [&] { return g.take(logits, seconds); });
    n_taken = row + 1;
  };
  std::exception_ptr failure;
  try {
    decode_together(sessions, ids, take);
  } catch (...) {
    failure = std::current_exception();
  }
  for (; n_taken < rows.size(); ++n_taken) {
    SharedGeneration& g = *texts[rows[n_taken]];
    out[rows[n_taken]] = step_of(g, [&] { return g.fail(failure); });
  }
}

}  // namespace

sepllm_status sepllm_generation_new(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                    const char* options, sepllm_generation** out) {
  return guarded([&] {
    given(out, "out");
    *out = new_generation(session, ids, n_ids, options).release();
  });
}

void sepllm_generation_free(sepllm_generation* generation) { delete generation; }

sepllm_status sepllm_generation_next(sepllm_generation* generation, const char** text, size_t* n_bytes,
                                     int* more) {
  return guarded([&] {
    SharedGeneration& shared = given(generation, "generation").shared;
    given(text, "text");
    given(more, "more");
    const SessionCall call(shared.session());
    const bool goes_on = shared.next();
    *text = shared.piece().c_str();
    if (n_bytes != nullptr) *n_bytes = shared.piece().size();
    *more = goes_on ? 1 : 0;
  });
}

sepllm_status sepllm_generations_next(sepllm_generation* const* generations, size_t n,
                                      sepllm_generation_step* out) {
  return guarded([&] {
    std::vector<SharedGeneration*> texts;
    std::vector<SharedSession*> sessions;
    for (sepllm_generation* g : array(generations, n, "generations")) {
      texts.push_back(&given(g, "a generation").shared);
      sessions.push_back(&texts.back()->session());
    }
    const SessionsCall call(sessions);
    given(out, "out");
    step_together(texts, {out, n});
  });
}

sepllm_status sepllm_generation_get(sepllm_generation* generation, sepllm_generation_result* out) {
  return guarded([&] {
    SharedGeneration& shared = given(generation, "generation").shared;
    const Use use(shared.session().in_use(), "session");
    given(out, "out") = shared.get();
  });
}

sepllm_status sepllm_session_generate(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                      const char* options, sepllm_text_function on_text, void* user,
                                      sepllm_generation** out) {
  std::unique_ptr<sepllm_generation> generation;
  sepllm_status status = guarded([&] { generation = new_generation(session, ids, n_ids, options); });
  if (status != SEPLLM_OK) return status;
  status = guarded([&] {
    SharedGeneration& shared = generation->shared;
    for (bool more = true; more;) {
      {
        const SessionCall call(shared.session());
        more = shared.next();
      }
      const std::string& piece = shared.piece();
      if (on_text == nullptr || on_text(piece.c_str(), piece.size(), user) == 0) continue;
      if (more) shared.cancel();
      more = false;
    }
  });
  if (out != nullptr) *out = generation.release();
  return status;
}
