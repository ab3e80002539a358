// What keys and values of 8 bits cost in quality: perplexity beside that of an f32 cache.
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/rng.h"
#include "engine/scorer.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm::test {
namespace {

constexpr double kTolerance = 2e-3;  // of the perplexity

class Int8Cache : public testing::TestWithParam<const char*> {
 protected:
  PolicySettings settings(DType kv) const {
    PolicySettings out;
    out.policy = golden_policy(parse_json(GetParam(), "parameter"), 3);
    out.kv = kv;
    return out;
  }
};

TEST_P(Int8Cache, PerplexityOfStories) {
  SEPLLM_DATA_OR_SKIP(data);
  const Model model = load_model(data + "/derived/stories260k-hf", data + "/weights/stories260k/tok512.bin");
  const std::string text = read_file(data + "/text/tinystories/tiny_stories.txt").substr(0, 40'000);
  std::vector<int32_t> ids = model.encode(text, "off");
  ids.resize(6000);
  // Pieces as long as the model's positions, or one stream.
  const bool stream = settings(DType::kF32).policy.streaming();
  const size_t piece = stream ? ids.size() : 500;
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  const auto perplexity = [&](DType kv) {
    double sum = 0.0;
    int64_t n = 0;
    for (size_t at = 0; at < ids.size(); at += piece) {
      std::vector<int32_t> part = {model.start_token()};
      part.insert(part.end(), ids.begin() + static_cast<std::ptrdiff_t>(at),
                  ids.begin() + static_cast<std::ptrdiff_t>(at + piece));
      Session session(model, settings(kv), ctx);
      const ScoreResult result = score(session, part, /*has_bos=*/true, {});
      sum += result.nll_sum;
      n += result.predicted;
    }
    return std::exp(sum / static_cast<double>(n));
  };
  const double exact = perplexity(DType::kF32), rounded = perplexity(DType::kI8);
  EXPECT_NEAR(rounded / exact, 1.0, kTolerance) << exact << " " << rounded;
  EXPECT_NE(rounded, exact);
}

// Their weights are random, so single tokens may gain or lose several percent: over many the mean is told.
TEST_P(Int8Cache, PerplexityOfGoldenModels) {
  constexpr size_t kTokens = 112, kTexts = 20;  // GPT-2's positions end there
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  for (const std::string& name : golden_models()) {
    const Decoder decoder = Decoder::load(golden_model(name));
    const int64_t vocab = decoder.config().vocab_size;
    const TokenSet separators = golden_separators({5, 11, 17}, vocab);
    const auto nll_of = [&](std::span<const int32_t> ids, DType kv) {
      KvCache cache(decoder.kv_layout(kv), settings(kv).policy, separators);
      double sum = 0.0;
      for (size_t at = 0; at + 1 < ids.size();) {
        const size_t n = std::min({ids.size() - 1 - at, size_t{40}, static_cast<size_t>(cache.max_chunk())});
        const Arena::Scope scope(arena);
        const Sequence sequence{.tokens = ids.subspan(at, n), .cache = &cache};
        std::vector<double> nll(n);
        decoder.nll(ctx, decoder.forward(ctx, {&sequence, 1}), ids.subspan(at + 1, n), nll.data());
        for (const double x : nll) sum += x;
        at += n;
      }
      return sum;
    };
    double difference = 0.0;
    for (uint64_t text = 0; text < kTexts; ++text) {
      const Rng rng(5, text);
      std::vector<int32_t> ids;
      for (uint64_t k = 0; k < kTokens; ++k)
        ids.push_back(static_cast<int32_t>(rng.bits(k) % static_cast<uint64_t>(vocab)));
      difference += nll_of(ids, DType::kI8) - nll_of(ids, DType::kF32);
    }
    const double ratio = std::exp(difference / static_cast<double>(kTexts * (kTokens - 1)));
    EXPECT_NEAR(ratio, 1.0, kTolerance) << name;
    EXPECT_NE(ratio, 1.0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Policies, Int8Cache,
    testing::Values(R"({"policy": "full"})", R"({"policy": "sep", "window": 32})",
                    R"({"policy": "sep-stream", "seps": 16, "window": 32, "capacity": 100})"),
    [](const auto& info) {
      return std::string(info.index == 0 ? "full" : info.index == 1 ? "sep" : "sep_stream");
    });

}  // namespace
}  // namespace sepllm::test
