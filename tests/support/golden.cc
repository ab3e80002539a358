#include "tests/support/golden.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "base/file.h"
#include "base/options.h"

namespace sepllm::test {
namespace {

template <typename T>
std::span<const T> values(const SafetensorsFile& file, const std::string& name, const char* dtype) {
  const auto it = file.entries().find(name);
  SEPLLM_CHECK(it != file.entries().end() && it->second.dtype == dtype);
  return {reinterpret_cast<const T*>(it->second.data), static_cast<size_t>(it->second.bytes) / sizeof(T)};
}

}  // namespace

std::string golden_folder() { return std::string(SEPLLM_SOURCE_DIR) + "/tests/golden"; }

std::string golden_model(const std::string& name) { return golden_folder() + "/models/" + name; }

std::vector<std::string> golden_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder() + "/models"))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> golden_cases(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder() + "/" + folder))
    names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

Json read_json(const std::string& path) { return parse_json(read_file(path), path); }

std::span<const int32_t> GoldenFile::ints(const std::string& name) const {
  return values<int32_t>(file_, name, "I32");
}

std::span<const float> GoldenFile::floats(const std::string& name) const {
  return values<float>(file_, name, "F32");
}

std::vector<int64_t> GoldenFile::list(const std::string& name, const std::string& offsets, size_t t) const {
  const std::span<const int32_t> at = ints(offsets);
  const std::span<const int32_t> all = ints(name);
  SEPLLM_CHECK(t + 1 < at.size());
  return {all.begin() + at[t], all.begin() + at[t + 1]};
}

Policy golden_policy(const Json& settings, int64_t unbounded_start) {
  Json own = settings;
  own.erase("smallest_gap");
  const bool unbounded = own.contains("seps") && own["seps"] == "unbounded";
  if (unbounded) own["seps"] = unbounded_start;
  PolicySettings out;
  OptionSet options;
  declare_policy_options(&options, &out);
  finish_policy_options(&options, &out, own, "golden.json");
  out.policy.seps_unbounded = unbounded;
  return out.policy;
}

TokenSet golden_separators(const Json& ids, int64_t vocab_size) {
  TokenSet out(vocab_size);
  for (const Json& id : ids) out.insert(id.get<int32_t>());
  return out;
}

float max_difference(std::span<const float> a, std::span<const float> b) {
  SEPLLM_CHECK(a.size() == b.size());
  float worst = 0.0F;
  for (size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= worst)) worst = difference;  // keeps a NaN
    if (std::isnan(worst)) return std::numeric_limits<float>::infinity();
  }
  return worst;
}

std::vector<Pattern> Runner::patterns(std::span<const int32_t> tokens, const Policy& policy,
                                      const TokenSet& separators) const {
  const int64_t n_layers = decoder_.config().n_layers;
  std::vector<Pattern> out;
  for (int64_t l = 0; l < n_layers; ++l)
    out.push_back(policy.rule(l, n_layers, decoder_.config().layer(l).window)
                      .pattern(tokens.data(), static_cast<int64_t>(tokens.size()), separators));
  return out;
}

Logits Runner::whole(std::span<const int32_t> tokens, const Policy& policy, const TokenSet& separators) {
  const std::vector<Pattern> layers = patterns(tokens, policy, separators);
  const Sequence sequence{.tokens = tokens, .patterns = layers};
  return batch({&sequence, 1});
}

Logits Runner::chunked(std::span<const int32_t> tokens, KvCache& cache, int64_t chunk) {
  Logits out;
  while (!tokens.empty()) {
    const int64_t n = std::min({static_cast<int64_t>(tokens.size()), chunk, cache.max_chunk()});
    const Sequence sequence{.tokens = tokens.first(static_cast<size_t>(n)), .cache = &cache};
    const Logits part = batch({&sequence, 1});
    out.insert(out.end(), part.begin(), part.end());
    tokens = tokens.subspan(static_cast<size_t>(n));
  }
  return out;
}

Logits Runner::batch(std::span<const Sequence> sequences) {
  const Arena::Scope scope(arena_);
  const Matrix hidden = decoder_.forward(ctx_, sequences);
  Logits out(static_cast<size_t>(hidden.n_rows * vocab_size()));
  decoder_.logits(ctx_, hidden, {out.data(), hidden.n_rows, vocab_size(), vocab_size()});
  return out;
}

}  // namespace sepllm::test
