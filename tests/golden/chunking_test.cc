// One forward pass, many ways to feed it: whole sequences under a pattern, chunks, single tokens and mixed
// batches must give the same logits, for every family and policy.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <ostream>

#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

constexpr float kChunkTolerance = 1e-4F;
constexpr size_t kTokens = 112;  // GPT-2's positions end there
const char* const kModels[] = {"llama_gqa", "llama_tied",       "neox_parallel", "neox_sequential",
                               "gpt2",      "falcon_7b",        "falcon_40b",    "falcon_11b",
                               "falcon_rw", "falcon_rw_6_heads"};

const std::vector<std::pair<std::string, Json>>& policies() {
  static const std::vector<std::pair<std::string, Json>> all = {
      {"full", {{"policy", "full"}}},
      {"sep", {{"policy", "sep"}, {"init", 3}, {"window", 9}}},
      {"sep_no_initial", {{"policy", "sep"}, {"init", 0}, {"window", 1}}},
      {"sink", {{"policy", "sink"}, {"init", 4}, {"window", 12}}},
      {"fixed", {{"policy", "fixed"}, {"init", 2}, {"window", 7}, {"interval", 5}}},
      // (Sizes for which no two scores of a block are so near that rounding decides in one of these models.)
      {"moba", {{"policy", "moba"}, {"block-size", 6}, {"blocks", 3}}},
      {"sep_moba", {{"policy", "sep-moba"}, {"block-size", 6}, {"blocks", 4}, {"layer-policy", "-1=full"}}},
      {"layered", {{"policy", "sep"}, {"init", 2}, {"window", 8}, {"layer-window", "0=full,1=3,-1=full"}}},
      {"segments", {{"policy", "sep"}, {"init", 2}, {"window", 6}, {"max-segment", 3}}},
      {"rules",
       {{"policy", "sep"}, {"init", 2}, {"window", 8}, {"layer-policy", "0=fixed:5/4,1=sep:3,-1=sink:11"}}},
      {"sep_stream_segments",
       {{"policy", "sep-stream"},
        {"init", 2},
        {"seps", 5},
        {"window", 5},
        {"capacity", 16},
        {"max-segment", 2}}},
      {"sep_stream", {{"policy", "sep-stream"}, {"init", 2}, {"seps", 3}, {"window", 5}, {"capacity", 16}}},
      {"sep_stream_original",
       {{"policy", "sep-stream"},
        {"init", 2},
        {"seps", 3},
        {"window", 5},
        {"capacity", 16},
        {"positions", "original"}}},
      {"sep_stream_unbounded",
       {{"policy", "sep-stream"}, {"init", 1}, {"seps", "unbounded"}, {"window", 4}, {"capacity", 12}}},
      {"sep_stream_replace",
       {{"policy", "sep-stream"},
        {"init", 1},
        {"seps", 4},
        {"window", 6},
        {"capacity", 18},
        {"sep-replace", true}}},
      {"sink_stream", {{"policy", "sink-stream"}, {"init", 3}, {"capacity", 14}}},
      {"sink_stream_original",
       {{"policy", "sink-stream"}, {"init", 3}, {"capacity", 14}, {"positions", "original"}}},
  };
  return all;
}

Policy policy_of(const Json& settings) { return golden_policy(settings, 3); }

// Whether a pattern can express it: all policies but the streams whose positions move.
bool has_pattern(const Policy& policy) {
  return policy.kind != PolicyKind::kSepStream && policy.positions == PositionMode::kOriginal;
}

struct ChunkCase {
  std::string model;
  std::string policy;
  Json settings;
  friend void PrintTo(const ChunkCase& c, std::ostream* out) { *out << c.model << " " << c.policy; }
};

std::vector<ChunkCase> chunk_cases() {
  std::vector<ChunkCase> out;
  for (const char* model : kModels) {
    for (const auto& [name, settings] : policies()) out.push_back({model, name, settings});
  }
  return out;
}

std::vector<int32_t> text(size_t n, size_t skip = 0) {
  const GoldenFile golden(golden_folder() + "/streaming/slots.safetensors");
  const std::span<const int32_t> ids = golden.ints("ids").subspan(skip, n);
  return {ids.begin(), ids.end()};
}

TokenSet separators_of(const Runner& runner) { return golden_separators({5, 11, 17}, runner.vocab_size()); }

class Chunking : public testing::TestWithParam<ChunkCase> {
 protected:
  Chunking()
      : runner_(golden_model(GetParam().model)),
        separators_(separators_of(runner_)),
        policy_(policy_of(GetParam().settings)),
        tokens_(text(kTokens)) {}

  Logits through_cache(int64_t chunk, DType type = DType::kF32) {
    KvCache cache = runner_.cache(policy_, separators_, type);
    return runner_.chunked(tokens_, cache, chunk);
  }

  Runner runner_;
  TokenSet separators_;
  Policy policy_;
  std::vector<int32_t> tokens_;
};

TEST_P(Chunking, WholeEqualsChunksEqualsTokens) {
  const Logits tokens = through_cache(1);
  for (const int64_t chunk : {7, 64, 1000}) {
    EXPECT_LE(max_difference(through_cache(chunk), tokens), kChunkTolerance) << "chunks of " << chunk;
  }
  if (!has_pattern(policy_)) return;
  EXPECT_LE(max_difference(runner_.whole(tokens_, policy_, separators_), tokens), kChunkTolerance) << "whole";
}

// Keys and values are rounded to half precision, 2^-11 of their size, or to int8, half of 1 / 127 of the
// largest in their row; the layers multiply the error a few times.
TEST_P(Chunking, RoundedCachesAreClose) {
  if (policy_.has_blocks()) return;  // rounded keys may choose other blocks (ops/cached_blocks_test.cc)
  const Logits exact = through_cache(64);
  for (const auto& [type, tolerance] : {std::pair{DType::kF16, 0.03F}, {DType::kI8, 0.2F}}) {
    for (const int64_t chunk : {1, 7, 1000}) {
      const Logits rounded = through_cache(chunk, type);
      const float difference = max_difference(rounded, exact);
      EXPECT_LE(difference, tolerance) << dtype_name(type) << " in chunks of " << chunk;
      EXPECT_GT(difference, type == DType::kF16 ? 0.0F : 1e-4F) << "the cache is not " << dtype_name(type);
    }
  }
}

// Decoding after a prefill in chunks of other sizes.
TEST_P(Chunking, MixedChunks) {
  KvCache cache = runner_.cache(policy_, separators_);
  Logits mixed;
  const std::span<const int32_t> all(tokens_);
  size_t at = 0;
  for (const size_t n : {30, 1, 1, 17, 2, 40, 1, 1, 1, 18}) {
    const Logits part = runner_.chunked(all.subspan(at, n), cache, 1000);
    mixed.insert(mixed.end(), part.begin(), part.end());
    at += n;
  }
  ASSERT_EQ(at, kTokens);
  EXPECT_LE(max_difference(mixed, through_cache(1)), kChunkTolerance);
}

INSTANTIATE_TEST_SUITE_P(All, Chunking, testing::ValuesIn(chunk_cases()),
                         [](const auto& info) { return info.param.model + "_" + info.param.policy; });

// Sequences of all policies in one batch, each at its own length and pace, some under a pattern.
class Batches : public testing::TestWithParam<const char*> {
 protected:
  struct Stream {
    Policy policy;
    std::vector<int32_t> tokens;
    std::unique_ptr<KvCache> cache;  // null: it runs under its pattern, in the first pass
    std::vector<Pattern> patterns{};
    size_t done = 0;
    Logits logits{};
  };

  Batches() : runner_(golden_model(GetParam()), 2), separators_(separators_of(runner_)) {
    size_t k = 0;
    for (const auto& [name, settings] : policies()) {
      Stream s{policy_of(settings), text(20 + 5 * k, k), nullptr};
      s.cache = std::make_unique<KvCache>(runner_.cache(s.policy, separators_));
      streams_.push_back(std::move(s));
      if (has_pattern(streams_.back().policy)) {
        Stream whole{streams_.back().policy, text(31 + 3 * k, 2), nullptr};
        whole.patterns = runner_.patterns(whole.tokens, whole.policy, separators_);
        streams_.push_back(std::move(whole));
      }
      ++k;
    }
  }

  // The number of tokens that stream k adds to pass number `pass`.
  size_t share(const Stream& s, size_t k, size_t pass) const {
    const size_t left = s.tokens.size() - s.done;
    if (s.cache == nullptr) return left;
    const size_t wish = (k + pass) % 3 == 0 ? 1 : 1 + (5 * k + 3 * pass) % 11;  // decoding and prefill
    return std::min({left, wish, static_cast<size_t>(s.cache->max_chunk())});
  }

  // Runs one forward pass over every stream that has tokens left; false if none has.
  bool step(size_t pass) {
    std::vector<Sequence> sequences;
    std::vector<Stream*> members;
    for (size_t k = 0; k < streams_.size(); ++k) {
      Stream& s = streams_[k];
      const size_t n = share(s, k, pass);
      if (n == 0) continue;
      sequences.push_back({.tokens = std::span<const int32_t>(s.tokens).subspan(s.done, n),
                           .cache = s.cache.get(),
                           .patterns = s.patterns});
      members.push_back(&s);
    }
    if (members.empty()) return false;
    const Logits logits = runner_.batch(sequences);
    auto at = logits.begin();
    for (size_t k = 0; k < members.size(); ++k) {
      const size_t n = sequences[k].tokens.size();
      const auto end = at + static_cast<std::ptrdiff_t>(n) * runner_.vocab_size();
      members[k]->logits.insert(members[k]->logits.end(), at, end);
      members[k]->done += n;
      at = end;
    }
    return true;
  }

  Runner runner_;
  TokenSet separators_;
  std::vector<Stream> streams_;
};

TEST_P(Batches, EachSequenceAsIfAlone) {
  for (size_t pass = 0; step(pass); ++pass) {
  }
  for (Stream& s : streams_) {
    ASSERT_EQ(s.done, s.tokens.size());
    KvCache alone = runner_.cache(s.policy, separators_);
    EXPECT_LE(max_difference(s.logits, runner_.chunked(s.tokens, alone, 1)), kChunkTolerance)
        << policy_name(s.policy.kind) << (s.cache ? "" : " as a pattern");
    if (!s.cache) continue;
    EXPECT_EQ(s.cache->length(), alone.length());
    EXPECT_EQ(s.cache->n_separators(), alone.n_separators());
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Batches, testing::ValuesIn(kModels),
                         [](const auto& info) { return std::string(info.param); });

// The number of threads changes no bit.
TEST(Threads, SameLogits) {
  const std::vector<int32_t> tokens = text(kTokens);
  const Policy policy = policy_of(policies()[1].second);
  Logits one;
  for (const int n_threads : {1, 2, 5}) {
    Runner runner(golden_model("llama_gqa"), n_threads);
    KvCache cache = runner.cache(policy, separators_of(runner));
    const Logits logits = runner.chunked(tokens, cache, 50);
    if (one.empty()) one = logits;
    EXPECT_EQ(logits, one) << n_threads << " threads";
  }
}

}  // namespace
}  // namespace sepllm::test
