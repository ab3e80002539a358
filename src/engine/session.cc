#include "engine/session.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {

void refuse_output(const Model& model) {
  throw Error(
      ErrorCode::kBadFile, "the model's output is NaN or infinite",
      {.file = model.folder,
       .hint = "`sepllm inspect --check` names a weight that is; a cache of f16 may overflow (--kv)"});
}

Session::Session(const Model& model, const PolicySettings& settings, const Context& ctx)
    : model_(model),
      settings_(settings),
      ctx_(ctx),
      cache_(model.decoder.kv_layout(settings.kv), settings.policy, model.separators(settings)),
      logits_(static_cast<size_t>(model.config().vocab_size)) {
  SEPLLM_CHECK(settings_.prefill_chunk >= 1);
}

void Session::feed(std::span<const int32_t> tokens,
                   FunctionRef<bool(int64_t first, const Matrix& hidden)> on_hidden) {
  cache_.reserve(static_cast<int64_t>(tokens.size()));
  for (size_t at = 0; at < tokens.size();) {
    const auto left = static_cast<int64_t>(tokens.size() - at);
    const int64_t n = std::min({left, settings_.prefill_chunk, cache_.max_chunk()});
    const Sequence sequence{.tokens = tokens.subspan(at, static_cast<size_t>(n)), .cache = &cache_};
    const Arena::Scope scope(ctx_.arena);
    const Matrix hidden = model_.decoder.forward(ctx_, {&sequence, 1});
    if (marks_) {
      marks_->append(sequence.tokens);
      if (marks_->due()) add_mark(/*asked=*/false);
    }
    if (!on_hidden(static_cast<int64_t>(at), hidden)) return;
    at += static_cast<size_t>(n);
  }
}

std::span<const float> Session::advance(std::span<const int32_t> tokens, FunctionRef<bool()> go_on) {
  SEPLLM_CHECK(!tokens.empty());
  const auto n = static_cast<int64_t>(tokens.size());
  const auto vocab = static_cast<int64_t>(logits_.size());
  if (!go_on()) return {};
  bool complete = false;
  feed(tokens, [&](int64_t first, const Matrix& hidden) {
    complete = first + hidden.n_rows == n;
    if (!complete) return go_on();
    model_.decoder.logits(ctx_, hidden.rows(hidden.n_rows - 1, 1), {logits_.data(), 1, vocab, vocab});
    return true;
  });
  if (!complete) return {};
  for (const float x : logits_) {
    if (!std::isfinite(x)) refuse_output(model_);
  }
  return logits_;
}

}  // namespace sepllm
