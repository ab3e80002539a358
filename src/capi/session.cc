#include "capi/session.h"

#include <sepllm/sepllm.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/options.h"
#include "capi/guard.h"
#include "capi/kv_figures.h"
#include "engine/score_tokens.h"
#include "engine/token_score.h"
#include "model/decoder.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm::capi {
namespace {

// -ln(softmax(logits)[id])
double nll_of(std::span<const float> logits, int32_t id) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - top);
  return std::log(sum) + top - static_cast<double>(logits[static_cast<size_t>(id)]);
}

int32_t best_of(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void nll_and_best(const Context& ctx, const Decoder& decoder, const Matrix& hidden,
                  std::span<const int32_t> targets, double* nll, int32_t* best) {
  std::vector<TokenScore> scores;
  score_hidden(ctx, decoder, hidden, targets, 1, &scores);
  for (const TokenScore& s : scores) {
    *nll++ = -static_cast<double>(s.logprob);
    *best++ = s.top.front().first;
  }
}

// A static policy's cache holds a kept token that is still in the window twice; one of them is enough for a
// caller.
void drop_second_copies(std::vector<int64_t>* places, std::vector<int32_t>* tokens) {
  std::unordered_set<int64_t> seen;
  size_t n = 0;
  for (size_t i = 0; i < places->size(); ++i) {
    if (!seen.insert((*places)[i]).second) continue;
    (*places)[n] = (*places)[i];
    (*tokens)[n++] = (*tokens)[i];
  }
  places->resize(n);
  tokens->resize(n);
}

BlockProducts products_of(const SessionSettings& settings) {
  return settings.exact ? BlockProducts::kExact : BlockProducts::kInteger;
}

void require_ids(std::span<const int32_t> ids, const Model& model) {
  require(!ids.empty(), "no token ids were given");
  const int64_t vocab_size = model.config().vocab_size;
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    throw Error(ErrorCode::kInvalidArgument, "token id outside the model's vocabulary",
                {.expected = "0 to " + std::to_string(vocab_size - 1), .got = std::to_string(id)});
  }
}

}  // namespace

SharedSession::SharedSession(std::shared_ptr<LoadedModel> model, const SessionSettings& settings,
                             std::shared_ptr<Runtime> runtime)
    : model_(std::move(model)),
      runtime_(std::move(runtime)),
      products_(products_of(settings)),
      session_(model_->model, settings.policy, runtime_->context(products_)) {
  if (settings.rewind) session_.keep_marks();
}

SharedSession::SharedSession(const SharedSession& other, std::shared_ptr<Runtime> runtime)
    : model_(other.model_),
      runtime_(std::move(runtime)),
      products_(other.products_),
      session_(other.session_.fork(runtime_->context(products_))),
      sampling_(other.sampling_),
      sampler_(other.sampler_),
      tokens_(other.tokens_),
      logits_(other.logits_) {}

void SharedSession::set_poll(sepllm_poll_function poll, void* user) {
  poll_ = poll;
  poll_user_ = user;
}

std::span<const float> SharedSession::logits() const {
  if (!logits_.empty()) return logits_;
  throw Refusal(SEPLLM_INVALID_STATE, "the session has no logits: feed at least one token first");
}

void SharedSession::entered(std::span<const int32_t> ids) {
  if (ids.empty()) return;
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  logits_.clear();
}

void SharedSession::feed(std::span<const int32_t> ids) { score(ids, 0, nullptr, nullptr); }

// Feeds the tokens in the session's chunks. What has entered is remembered also where a chunk ends in an
// Error. Only the rows before a token that is scored become logits: over a large vocabulary they cost as much
// as several layers.
void SharedSession::score(std::span<const int32_t> ids, int64_t n_scored, double* nll, int32_t* best) {
  require_ids(ids, model());
  const int64_t n = std::ssize(ids), before = session_.cache().length();
  require(n_scored >= 0 && n_scored <= n, "n_scored is not in 0 to n_ids");
  const int64_t first_scored = n - n_scored;
  if (first_scored == 0) {
    if (nll != nullptr) nll[0] = has_logits() ? nll_of(logits_, ids[0]) : std::nan("");
    if (best != nullptr) best[0] = has_logits() ? best_of(logits_) : -1;
  }
  const int64_t vocab = model().config().vocab_size;
  std::vector<float> after(static_cast<size_t>(vocab));
  bool more = may_continue(), finite = true;
  const auto on_hidden = [&](int64_t first, const Matrix& hidden) {
    const Context& ctx = session_.context();
    const int64_t end = first + hidden.n_rows;
    // Tokens [target, target_end) are predicted by this chunk's rows.
    const int64_t target = std::max(first + 1, first_scored), target_end = std::min(end + 1, n);
    if (nll != nullptr && target < target_end) {
      const int64_t predicted = target_end - target;
      double* out = nll + (target - first_scored);
      const Matrix rows = hidden.rows(target - 1 - first, predicted);
      const auto targets = ids.subspan(static_cast<size_t>(target), static_cast<size_t>(predicted));
      if (best == nullptr) {
        model().decoder.nll(ctx, rows, targets, out);
      } else {
        nll_and_best(ctx, model().decoder, rows, targets, out, best + (target - first_scored));
      }
      finite = finite && std::all_of(out, out + predicted, [](double x) { return std::isfinite(x); });
    }
    if (end == n) {
      model().decoder.logits(ctx, hidden.rows(hidden.n_rows - 1, 1), {after.data(), 1, vocab, vocab});
      return true;
    }
    more = finite && may_continue();
    return more;
  };
  const auto remember = [&] { entered(ids.first(static_cast<size_t>(session_.cache().length() - before))); };
  try {
    if (more) session_.feed(ids, on_hidden);
  } catch (...) {
    remember();
    throw;
  }
  remember();
  finite = finite && std::all_of(after.begin(), after.end(), [](float x) { return std::isfinite(x); });
  if (!finite) refuse_output(model());
  if (!more) throw Refusal(SEPLLM_CANCELLED, "the call was cancelled");
  logits_ = std::move(after);
}

void SharedSession::rewind(int64_t position) {
  require(position >= 0 && position <= session_.cache().length(),
          "the position is not in 0 to the session's length");
  if (!session_.keeps_marks()) throw Refusal(SEPLLM_INVALID_STATE, "the session was made without \"rewind\"");
  const int64_t first = session_.cache().length() - std::ssize(tokens_);  // of the known tokens
  session_.rewind(position);
  tokens_.resize(static_cast<size_t>(std::max<int64_t>(position - first, 0)));
  logits_.clear();
}

void SharedSession::restore(const std::string& path) {
  session_.restore(path);
  tokens_.clear();
  logits_.clear();
  if (!session_.keeps_marks()) return;
  const Marks& marks = session_.marks();
  const std::span<const int32_t> known = marks.tokens(marks.begin(), marks.end());
  tokens_.assign(known.begin(), known.end());
}

void SharedSession::set_sampling(const SamplingSettings& settings) {
  sampling_ = settings;
  sampler_.reset();
}

int32_t SharedSession::sample() {
  const std::span<const float> now = logits();
  if (!sampler_) sampler_.emplace(sampling_, model().config().vocab_size);
  return sampler_->sample(now, tokens_);
}

void SharedSession::check(int32_t id) {
  const Sequence sequence{.tokens = {&id, 1}, .cache = &session_.cache()};
  model().decoder.check({&sequence, 1});
  logits_.reserve(static_cast<size_t>(model().config().vocab_size));
  if (tokens_.size() == tokens_.capacity()) tokens_.reserve(2 * tokens_.size() + 16);
}

bool SharedSession::decoded(int32_t id, std::span<const float> logits) noexcept {
  entered({&id, 1});
  if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) return false;
  logits_.assign(logits.begin(), logits.end());
  return true;
}

void SharedSession::require_usable() const {
  if (session_.usable()) return;
  throw Refusal(SEPLLM_INVALID_STATE,
                "an earlier call failed within a pass, and the session cannot continue");
}

SessionCall::SessionCall(SharedSession& shared)
    : use_(shared.in_use(), "session"), turn_(shared.runtime()->mutex()) {
  shared.require_usable();
}

}  // namespace sepllm::capi

using namespace sepllm;        // NOLINT(google-build-using-namespace)
using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

sepllm_status sepllm_session_new(const sepllm_model* model, const char* options, sepllm_runtime* runtime,
                                 sepllm_session** out) {
  return guarded([&] {
    given(out, "out");
    const auto& loaded = given(model, "model").shared;
    const SessionSettings settings = session_settings(&loaded->model, options);
    const auto& shared = runtime != nullptr ? runtime->shared : loaded->runtime;
    *out = new sepllm_session{std::make_shared<SharedSession>(loaded, settings, shared)};
  });
}

void sepllm_session_free(sepllm_session* session) { delete session; }

int64_t sepllm_session_length(const sepllm_session* session) {
  return session == nullptr ? 0 : session->shared->session().cache().length();
}

namespace {

// Runs the body of a function that uses a session, while nobody else does.
template <typename Body>
sepllm_status with_session(sepllm_session* session, const Body& body) noexcept {
  return guarded([&] {
    SharedSession& shared = *given(session, "session").shared;
    const SessionCall call(shared);
    body(shared);
  });
}

}  // namespace

sepllm_status sepllm_session_feed(sepllm_session* session, const int32_t* ids, size_t n_ids) {
  return with_session(session, [&](SharedSession& s) { s.feed(array(ids, n_ids, "ids")); });
}

sepllm_status sepllm_session_logits(sepllm_session* session, float* logits, int64_t n) {
  return with_session(session, [&](SharedSession& s) {
    given(logits, "logits");
    require(n == s.model().config().vocab_size, "n is not the model's vocab_size");
    const std::span<const float> found = s.logits();
    std::copy(found.begin(), found.end(), logits);
  });
}

sepllm_status sepllm_session_set_sampling(sepllm_session* session, const char* json) {
  return with_session(session, [&](SharedSession& s) {
    SamplingSettings settings;
    OptionSet options;
    declare_sampling_options(&options, &settings);
    apply_options(&options, json);
    s.set_sampling(settings);
  });
}

sepllm_status sepllm_session_sample(sepllm_session* session, int32_t* id) {
  return with_session(session, [&](SharedSession& s) { given(id, "id") = s.sample(); });
}

sepllm_status sepllm_session_score(sepllm_session* session, const int32_t* ids, size_t n_ids, double* nll,
                                   int32_t* best) {
  return with_session(session, [&](SharedSession& s) {
    given(nll, "nll");
    s.score(array(ids, n_ids, "ids"), static_cast<int64_t>(n_ids), nll, best);
  });
}

sepllm_status sepllm_session_score_last(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                        size_t n_scored, double* nll, int32_t* best) {
  return with_session(session, [&](SharedSession& s) {
    require(n_scored <= n_ids, "n_scored is not in 0 to n_ids");
    if (n_scored > 0) given(nll, "nll");
    s.score(array(ids, n_ids, "ids"), static_cast<int64_t>(n_scored), nll, best);
  });
}

sepllm_status sepllm_session_fork(sepllm_session* session, sepllm_runtime* runtime, sepllm_session** out) {
  return with_session(session, [&](SharedSession& s) {
    given(out, "out");
    *out = new sepllm_session{
        std::make_shared<SharedSession>(s, runtime != nullptr ? runtime->shared : s.runtime())};
  });
}

sepllm_status sepllm_session_rewind(sepllm_session* session, int64_t position) {
  return with_session(session, [&](SharedSession& s) { s.rewind(position); });
}

sepllm_status sepllm_session_save(sepllm_session* session, const char* path) {
  return with_session(session, [&](SharedSession& s) {
    given(path, "path");
    s.session().save(path);
  });
}

// Also for a session that an earlier failure left unusable.
sepllm_status sepllm_session_restore(sepllm_session* session, const char* path) {
  return guarded([&] {
    SharedSession& shared = *given(session, "session").shared;
    given(path, "path");
    const Use use(shared.in_use(), "session");
    const Turn turn(shared.runtime()->mutex());
    shared.restore(path);
  });
}

sepllm_status sepllm_session_set_poll(sepllm_session* session, sepllm_poll_function poll, void* user) {
  return with_session(session, [&](SharedSession& s) { s.set_poll(poll, user); });
}

sepllm_status sepllm_session_kv_stats(sepllm_session* session, sepllm_kv_stats* out) {
  return with_session(session, [&](SharedSession& s) { given(out, "out") = stats_of(s.session().cache()); });
}

sepllm_status sepllm_session_kv_slots(sepllm_session* session, int64_t layer, int64_t** positions,
                                      int32_t** ids, size_t* n) {
  return with_session(session, [&](SharedSession& s) {
    given(n, "n");
    const KvCache& cache = s.session().cache();
    require(layer >= 0 && layer < cache.layout().n_layers, "the model has no such layer");
    std::vector<int64_t> places = cache.slot_positions(layer);
    std::vector<int32_t> tokens = cache.slot_tokens(layer);
    drop_second_copies(&places, &tokens);
    if (positions != nullptr) *positions = copy_array(std::span<const int64_t>(places));
    if (ids != nullptr) *ids = copy_array(std::span<const int32_t>(tokens));
    *n = tokens.size();
  });
}
