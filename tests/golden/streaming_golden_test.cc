// Compares the streaming policies with streaming_reference.py: slot lists, positions and logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

constexpr float kStreamingTolerance = 1e-4F;

std::string streaming(const std::string& file) { return golden_folder() + "/streaming/" + file; }
Json description() { return read_json(streaming("streaming.json")); }

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> out;
  for (const auto& [key, value] : object.items()) out.push_back(key);
  return out;
}

// The positions of all keys that query i of the chunk in flight sees, minus the query's own position: the
// distances that a rotary or ALiBi model computes with. In the order of the slots.
std::vector<int64_t> distances(KvCache& cache, int64_t layer, int64_t i) {
  const auto t = static_cast<size_t>(i - cache.length());
  std::vector<int64_t> out;
  for (const KeySpan& span : cache.spans(layer)) {
    const KeySpan::Range range = span.range(i);
    const int64_t query = span.second_query ? cache.second_encoded()[t] : cache.encoded()[t];
    for (int64_t r = range.lo; r < range.hi; ++r) out.push_back(span.encoded_at(r) - query);
  }
  return out;
}

// Carries a cache without a model through a chunk; `see` runs while the chunk is in flight.
template <typename F>
void pass_chunk(KvCache& cache, std::span<const int32_t> tokens, F see) {
  cache.begin_chunk(tokens);
  for (int64_t l = 0; l < cache.layout().n_layers; ++l) cache.rows_written(l);
  see();
  cache.end_chunk();
}

constexpr KvLayout kTinyLayout{.n_layers = 2, .n_kv_heads = 1, .head_dim = 4};

class StreamingSlots : public testing::TestWithParam<std::string> {
 protected:
  StreamingSlots()
      : golden_(streaming("slots.safetensors")),
        json_(description()),
        policy_(golden_policy(json_["small"][GetParam()], json_["unbounded_start"]["small"].get<int64_t>())),
        cache_(kTinyLayout, policy_, golden_separators(json_["separators"], 96)) {}

  std::vector<int64_t> list(const std::string& what, int64_t t) const {
    return golden_.list(GetParam() + "/" + what, GetParam() + "/offsets", static_cast<size_t>(t));
  }
  int64_t value(const std::string& what, int64_t t) const {
    return golden_.ints(GetParam() + "/" + what)[static_cast<size_t>(t)];
  }
  void expect_state(int64_t t) {
    for (int64_t l = 0; l < kTinyLayout.n_layers; ++l) {
      EXPECT_EQ(held(l), list("slots", t)) << "before token " << t;
    }
    if (policy_.kind == PolicyKind::kSepStream) {
      EXPECT_EQ(cache_.n_separators(), value("separators", t)) << "before token " << t;
    }
  }
  // sink-stream drops its oldest slot only when the next token comes; this is what that token will see.
  std::vector<int64_t> held(int64_t layer) const {
    std::vector<int64_t> out = cache_.slot_positions(layer);
    if (policy_.kind != PolicyKind::kSinkStream) return out;
    const int64_t oldest = cache_.length() - (policy_.capacity - policy_.init);
    std::erase_if(out, [&](int64_t p) { return p >= policy_.init && p < oldest; });
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }
  // The position of the keys that token t sees, as golden: distances from its own, its own at the end.
  std::vector<int64_t> golden_distances(int64_t t) const {
    std::vector<int64_t> out = list("key_positions", t);
    for (int64_t& p : out) p -= value("query_positions", t);
    out.push_back(0);
    return out;
  }

  GoldenFile golden_;
  Json json_;
  Policy policy_;
  KvCache cache_;
};

TEST_P(StreamingSlots, TokenByToken) {
  const std::span<const int32_t> ids = golden_.ints("ids");
  for (int64_t t = 0; t < static_cast<int64_t>(ids.size()); ++t) {
    expect_state(t);
    pass_chunk(cache_, ids.subspan(static_cast<size_t>(t), 1), [&] {
      EXPECT_EQ(cache_.learned()[0], value("query_positions", t));
      EXPECT_EQ(distances(cache_, 1, t), golden_distances(t)) << "token " << t;
    });
  }
  expect_state(static_cast<int64_t>(ids.size()));
}

TEST_P(StreamingSlots, ChunksSeeTheSame) {
  const std::span<const int32_t> ids = golden_.ints("ids");
  const auto total = static_cast<int64_t>(ids.size());
  int64_t chunks = 0;
  for (int64_t t = 0; t < total; ++chunks) {
    const int64_t n = std::min({total - t, cache_.max_chunk(), 1 + (chunks * 5) % 9});
    pass_chunk(cache_, ids.subspan(static_cast<size_t>(t), static_cast<size_t>(n)), [&] {
      for (int64_t i = t; i < t + n; ++i) {
        EXPECT_EQ(cache_.learned()[static_cast<size_t>(i - t)], value("query_positions", i));
        EXPECT_EQ(distances(cache_, 0, i), golden_distances(i)) << "token " << i;
      }
    });
    t += n;
    expect_state(t);
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, StreamingSlots, testing::ValuesIn(keys_of(description()["small"])),
                         [](const auto& info) { return info.param; });

// With (4, 64, 256, 800): when compressions come, and what they keep.
TEST(StreamingLarge, CompressionsAndSlots) {
  const GoldenFile golden(streaming("large_slots.safetensors"));
  const Json json = description();
  for (const std::string stream : {"dense", "sparse"}) {
    const std::span<const int32_t> ids = golden.ints(stream + "/ids");
    for (const char* name : {"bounded", "unbounded", "replace"}) {
      const std::string prefix = stream + "/" + name;
      KvCache cache(kTinyLayout,
                    golden_policy(json["large"][name], json["unbounded_start"]["large"].get<int64_t>()),
                    golden_separators(json["separators"], 96));
      const std::span<const int32_t> times = golden.ints(prefix + "/times");
      size_t seen = 0;  // compressions
      for (size_t t = 0; t < ids.size();) {
        const int64_t before = cache.n_slots(0);
        const auto n = std::min(static_cast<int64_t>(ids.size() - t), cache.max_chunk());
        pass_chunk(cache, ids.subspan(t, static_cast<size_t>(n)), [] {});
        t += static_cast<size_t>(n);
        if (cache.n_slots(0) == before + n) continue;
        ASSERT_LT(seen, times.size()) << prefix;
        EXPECT_EQ(cache.length(), times[seen]) << prefix;
        EXPECT_EQ(cache.slot_positions(0), golden.list(prefix + "/slots", prefix + "/offsets", seen))
            << prefix;
        ++seen;
      }
      EXPECT_EQ(seen, times.size()) << prefix;
    }
  }
}

struct ModelCase {
  std::string model;
  std::string settings;
  friend void PrintTo(const ModelCase& c, std::ostream* out) { *out << c.model << " " << c.settings; }
};

std::vector<ModelCase> model_cases() {
  std::vector<ModelCase> out;
  const Json json = description();
  for (const Json& model : json["models"]) {
    for (const std::string& settings : keys_of(json["small"]))
      out.push_back({model.get<std::string>(), settings});
  }
  return out;
}

class StreamingModel : public testing::TestWithParam<ModelCase> {};

TEST_P(StreamingModel, Logits) {
  const auto& [model, name] = GetParam();
  const Json json = description();
  const GoldenFile slots(streaming("slots.safetensors"));
  const GoldenFile golden(streaming(model + ".safetensors"));
  const Policy policy = golden_policy(json["small"][name], json["unbounded_start"]["small"].get<int64_t>());
  Runner runner(golden_model(model));
  const std::span<const int32_t> steps = golden.ints(name + "/steps");
  const std::span<const int32_t> ids = slots.ints("ids").first(static_cast<size_t>(steps.back()) + 1);
  const auto vocab = static_cast<size_t>(runner.vocab_size());
  for (const int64_t chunk : {1, 5, 1000}) {
    KvCache cache = runner.cache(policy, golden_separators(json["separators"], runner.vocab_size()));
    const Logits logits = runner.chunked(ids, cache, chunk);
    for (size_t k = 0; k < steps.size(); ++k) {
      const std::span<const float> row(logits.data() + static_cast<size_t>(steps[k]) * vocab, vocab);
      EXPECT_LE(max_difference(row, golden.floats(name + "/logits").subspan(k * vocab, vocab)),
                kStreamingTolerance)
          << "step " << steps[k] << ", chunks of " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StreamingModel, testing::ValuesIn(model_cases()),
                         [](const auto& info) { return info.param.model + "_" + info.param.settings; });

}  // namespace
}  // namespace sepllm::test
