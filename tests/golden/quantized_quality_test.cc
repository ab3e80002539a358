// What weights of 8 and 4 bits and keys and values of 8 bits cost in quality: perplexity compared with f32.
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/rng.h"
#include "engine/scorer.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm::test {
namespace {

struct Setting {
  const char* name;
  std::optional<DType> weights;
  DType kv;
  BlockProducts products;
  double trained, golden;  // bounds of the change in perplexity: for trained models, for random ones
};
constexpr Setting kF32{"f32", std::nullopt, DType::kF32, BlockProducts::kInteger, 0, 0};
// The random models' logits are large and their layers few: the 8 bits of the activations cost them as much
// as those of the weights (none with kExact). 4 bits cost models this small several percent: that bound only
// says that nothing is broken.
constexpr Setting kSettings[] = {{"q8_0", DType::kQ8_0, DType::kF32, BlockProducts::kInteger, 1e-3, 2e-3},
                                 {"q8_0_exact", DType::kQ8_0, DType::kF32, BlockProducts::kExact, 1e-3, 1e-3},
                                 {"kv_q8", std::nullopt, DType::kI8, BlockProducts::kInteger, 2e-3, 2e-3},
                                 {"q4_0", DType::kQ4_0, DType::kF32, BlockProducts::kInteger, 0.12, 0.25}};

struct PolicyCase {
  const char* name;
  const char* settings;
};
constexpr PolicyCase kPolicies[] = {
    {"full", R"({"policy": "full"})"},
    {"sep", R"({"policy": "sep", "window": 32})"},
    {"sep_stream", R"({"policy": "sep-stream", "seps": 16, "window": 32, "capacity": 100})"}};

Policy policy_of(const PolicyCase& c) { return golden_policy(parse_json(c.settings, "parameter"), 3); }

// Perplexity of tokens in pieces as long as the model's positions, or as one stream.
double perplexity(const Model& model, std::span<const int32_t> ids, const Policy& policy, const Setting& s) {
  const size_t piece = policy.streaming() ? ids.size() : 500;
  ThreadPool pool(2);
  Arena arena;
  Context ctx{pool, arena};
  ctx.block_products = s.products;
  double sum = 0.0;
  int64_t n = 0;
  for (size_t at = 0; at < ids.size(); at += piece) {
    std::vector<int32_t> part = {model.start_token()};
    const auto rest = ids.subspan(at, std::min(piece, ids.size() - at));
    part.insert(part.end(), rest.begin(), rest.end());
    PolicySettings settings;
    settings.policy = policy;
    settings.kv = s.kv;
    Session session(model, settings, ctx);
    const ScoreResult result = score(session, part, /*has_bos=*/true, {});
    sum += result.nll_sum;
    n += result.predicted;
  }
  return std::exp(sum / static_cast<double>(n));
}

class Quality : public testing::TestWithParam<PolicyCase> {};

// Compares a trained model's perplexity of the first n tokens of a text for different types of weights and
// cache.
void expect_little_loss(const std::string& folder, const std::string& tokenizer, const std::string& text,
                        size_t n, const Policy& policy) {
  const auto load = [&](std::optional<DType> weights) {
    return load_model(folder, tokenizer, {.type = weights, .n_threads = 2});
  };
  const Model model = load(std::nullopt);
  std::vector<int32_t> ids = model.encode(text, "off");
  ASSERT_GE(ids.size(), n);
  ids.resize(n);
  const double exact = perplexity(model, ids, policy, kF32);
  for (const Setting& s : kSettings) {
    const double rounded = perplexity(load(s.weights), ids, policy, s);
    EXPECT_NEAR(rounded / exact, 1.0, s.trained) << s.name << ": " << rounded << ", as stored: " << exact;
    EXPECT_NE(rounded, exact) << s.name;
    testing::Test::RecordProperty(s.name, std::to_string(rounded / exact));
  }
}

TEST_P(Quality, PerplexityOfStories) {
  SEPLLM_DATA_OR_SKIP(data);
  expect_little_loss(data + "/derived/stories260k-hf", data + "/weights/stories260k/tok512.bin",
                     read_file(data + "/text/tinystories/tiny_stories.txt").substr(0, 60'000), 12'000,
                     policy_of(GetParam()));
}

TEST_P(Quality, PerplexityOfTheEmbeddedModel) {
  SEPLLM_EMBEDDED_MODEL_OR_SKIP(model);
  expect_little_loss(model, "", read_file(demo_text_file()), 4'000, policy_of(GetParam()));
}

// The golden models' weights are random: no text is likely to them except for the one that they write
// themselves. So this uses the ratio of the perplexities of a next token drawn by the f32 model, as its
// expectation: exp(mean over contexts of the sum of p log(p / q)).
class OwnTexts {
 public:
  explicit OwnTexts(const Decoder& decoder, const Policy& policy) : policy_(policy) {
    constexpr size_t kTokens = 112, kTexts = 4;  // GPT-2's positions end there
    const auto vocab = static_cast<uint64_t>(decoder.config().vocab_size);
    for (uint64_t text = 0; text < kTexts; ++text) {
      const Rng rng(5, text);
      auto& ids = texts_.emplace_back();
      for (uint64_t k = 0; k < kTokens; ++k) ids.push_back(static_cast<int32_t>(rng.bits(k) % vocab));
      exact_.push_back(logits(decoder, kF32, ids));
    }
  }
  double ratio(const Decoder& decoder, const Setting& s) const {
    double sum = 0.0;
    size_t n = 0;
    for (size_t text = 0; text < texts_.size(); ++text) {
      const Logits rounded = logits(decoder, s, texts_[text]);
      const auto vocab = static_cast<size_t>(decoder.config().vocab_size);
      for (size_t at = 0; at < rounded.size(); at += vocab, ++n)
        sum += divergence(std::span(exact_[text]).subspan(at, vocab), std::span(rounded).subspan(at, vocab));
    }
    return std::exp(sum / static_cast<double>(n));
  }

 private:
  static double log_sum(std::span<const float> logits) {
    double sum = 0.0;
    for (const float x : logits) sum += std::exp(double{x});
    return std::log(sum);
  }
  static double divergence(std::span<const float> p, std::span<const float> q) {
    const double log_p = log_sum(p), log_q = log_sum(q);
    double sum = 0.0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double own = double{p[i]} - log_p, other = double{q[i]} - log_q;
      sum += std::exp(own) * (own - other);
    }
    return sum;
  }
  Logits logits(const Decoder& decoder, const Setting& s, std::span<const int32_t> ids) const {
    const int64_t vocab = decoder.config().vocab_size;
    ThreadPool pool(2);
    Arena arena;
    Context ctx{pool, arena};
    ctx.block_products = s.products;
    KvCache cache(decoder.kv_layout(s.kv), policy_, golden_separators({5, 11, 17}, vocab));
    Logits out(ids.size() * static_cast<size_t>(vocab));
    for (size_t at = 0; at < ids.size();) {
      const size_t n = std::min({ids.size() - at, size_t{40}, static_cast<size_t>(cache.max_chunk())});
      const Arena::Scope scope(arena);
      const Sequence sequence{.tokens = ids.subspan(at, n), .cache = &cache};
      float* const to = out.data() + static_cast<int64_t>(at) * vocab;
      decoder.logits(ctx, decoder.forward(ctx, {&sequence, 1}), {to, static_cast<int64_t>(n), vocab, vocab});
      at += n;
    }
    return out;
  }

  Policy policy_;
  std::vector<std::vector<int32_t>> texts_;
  std::vector<Logits> exact_;
};

TEST_P(Quality, PerplexityOfGoldenModels) {
  double worst[std::size(kSettings)] = {};
  for (const std::string& name : golden_models()) {
    const std::string folder = golden_model(name);
    const Decoder decoder = Decoder::load(folder);
    const OwnTexts texts(decoder, policy_of(GetParam()));
    EXPECT_EQ(texts.ratio(decoder, kF32), 1.0) << name;
    for (size_t i = 0; i < std::size(kSettings); ++i) {
      const Setting& s = kSettings[i];
      const double ratio = texts.ratio(Decoder::load(folder, {.type = s.weights}), s);
      EXPECT_NEAR(ratio, 1.0, s.golden) << name << " " << s.name;
      EXPECT_NE(ratio, 1.0) << name << " " << s.name;
      worst[i] = std::max(worst[i], ratio);
    }
  }
  for (size_t i = 0; i < std::size(kSettings); ++i) {
    RecordProperty(kSettings[i].name, std::to_string(worst[i]));
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, Quality, testing::ValuesIn(kPolicies),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sepllm::test
