#include <sepllm/sepllm.h>

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
    request.go_on = [this] { return allowed_ = session_->go_on(); };
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
    const int64_t before = session_->session().cache().length();
    if (before != length_) {
      throw Refusal(SEPLLM_INVALID_STATE, "the session was changed since the generation's last token");
    }
    std::exception_ptr failure;
    try {
      ended_ = !generation_->step();
    } catch (...) {
      failure = std::current_exception();
      ended_ = true;
    }
    remember(session_->session().cache().length() - before);
    if (ended_) generation_->finish();
    const GenerateResult& result = generation_->result();
    if (failure == nullptr) failure = result.failure;
    if (failure != nullptr) std::rethrow_exception(failure);
    if (!allowed_) throw Refusal(SEPLLM_CANCELLED, "the call was cancelled");
    return !ended_;
  }

  // The text ends here, because its reader wants no more.
  void cancel() { ended_ = cancelled_ = true; }

  const std::string& piece() const { return piece_; }
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
  std::string piece_;
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
