#include "engine/session.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {

void refuse_output(const Model& model) {
  throw Error(ErrorCode::kBadFile, "the model's output is NaN or infinite",
              {.file = model.name,
               .hint = "`sepllm inspect --check` names a weight that is; a cache of f16 may overflow (" +
                       option_name("kv") + ")"});
}

Session::Session(const Model& model, const PolicySettings& settings, const Context& ctx)
    : model_(model),
      settings_(settings),
      ctx_(ctx),
      cache_(model.decoder.kv_layout(settings.kv), settings.policy, model.separators(settings)),
      logits_(static_cast<size_t>(model.config().vocab_size)) {
  SEPLLM_CHECK(settings_.prefill_chunk >= 1);
}

Session::Session(const Session& other, const Context& ctx, KvCache cache, std::optional<Marks> marks)
    : model_(other.model_),
      settings_(other.settings_),
      ctx_(ctx),
      cache_(std::move(cache)),
      marks_(std::move(marks)),
      logits_(other.logits_.size()) {}

Session Session::fork(const Context& ctx, CopyMarks marks) const {
  SEPLLM_CHECK(usable());
  return {*this, ctx, cache_.copy(), marks == CopyMarks::kYes ? marks_ : std::nullopt};
}

Sequence Session::prepare(std::span<const int32_t> tokens) {
  SEPLLM_CHECK(usable());
  const Sequence sequence{.tokens = tokens, .cache = &cache_};
  model_.decoder.check({&sequence, 1});
  whole_chunk_ = next_chunk();
  in_pass_ = true;
  return sequence;
}

void Session::entered(std::span<const int32_t> tokens) {
  in_pass_ = false;
  if (!marks_) return;
  marks_->append(tokens, static_cast<int64_t>(tokens.size()) == whole_chunk_);
  if (marks_->due()) add_mark(/*asked=*/false);
}

void Session::run(std::span<const int32_t> chunk, FunctionRef<void(const Matrix& hidden)> on_hidden) {
  const Arena::Scope scope(ctx_.arena);
  const Sequence sequence = prepare(chunk);
  const Matrix hidden = model_.decoder.forward(ctx_, {&sequence, 1});
  entered(chunk);
  on_hidden(hidden);
}

void Session::feed(std::span<const int32_t> tokens, OnHidden on_hidden) {
  const auto n_known = static_cast<int64_t>(tokens.size());
  // What fits into one chunk may be followed by many more: growing by halves is for these.
  if (n_known > next_chunk()) cache_.reserve(n_known);
  bool more = true;
  for (size_t at = 0; more && at < tokens.size();) {
    const auto n = static_cast<size_t>(next_chunk(static_cast<int64_t>(tokens.size() - at)));
    run(tokens.subspan(at, n),
        [&](const Matrix& hidden) { more = on_hidden(static_cast<int64_t>(at), hidden); });
    at += n;
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
