#include "apps/bench/speed_case.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"

namespace sepllm {

void choose_separators(const Model& model, PolicyOptions* policy) {
  if (!policy->options.was_set("separators") && model.tokenizer == nullptr)
    policy->settings.separators = "ids:1";
}

MadeUpTokens::MadeUpTokens(const TokenSet& separators, int64_t vocab_size, double share) : share_(share) {
  for (int64_t id = 0; id < vocab_size; ++id) {
    const auto token = static_cast<int32_t>(id);
    (separators.contains(token) ? separators_ : others_).push_back(token);
  }
  if (separators_.empty()) share_ = 0;
  if (others_.empty()) share_ = 1;
}

int32_t MadeUpTokens::at(int64_t position) const {
  const auto counter = static_cast<uint64_t>(2 * position);
  const std::vector<int32_t>& list = rng_.uniform(counter) < share_ ? separators_ : others_;
  return list[rng_.bits(counter + 1) % list.size()];
}

SpeedCase::SpeedCase(const Model& model, const PolicySettings& settings, const MadeUpTokens& tokens,
                     int64_t depth, int64_t n_tokens, bool decode, const Context& ctx)
    : session_(model, settings, ctx),
      sampler_({}, model.config().vocab_size),
      depth_(depth),
      decode_(decode) {
  KvCache& cache = session_.cache();
  cache.fill(
      depth, [&](int64_t position) { return tokens.at(position); }, 1);
  cache.reserve(n_tokens);
  StringWriter out(&mark_);
  cache.save_mark(out);
  for (int64_t t = 0; t < n_tokens; ++t) ids_.push_back(tokens.at(depth + t));
}

double SpeedCase::seconds(int64_t n) {
  SEPLLM_CHECK(n >= 1 && n <= n_tokens());
  ByteReader in(mark_, "memory", "mark");
  session_.cache().rewind(in);
  const std::span<const int32_t> ids(ids_.data(), static_cast<size_t>(n));
  const auto start = std::chrono::steady_clock::now();
  if (decode_) {
    for (const int32_t& id : ids) sampler_.sample(session_.advance({&id, 1}), {});
  } else {
    session_.advance(ids);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t SpeedCase::kv_bytes() const { return session_.cache().held_bytes(); }

double SpeedCase::kv_bytes_read() const {
  const KvCache& cache = session_.cache();
  return mean_keys() * static_cast<double>(cache.layout().n_layers * cache.slot_bytes());
}

}  // namespace sepllm
