#include "model/random_model.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "model/weights.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

class RandomModelVariant : public testing::TestWithParam<std::string> {};

TEST_P(RandomModelVariant, LoadsFromOneFileAndFromShards) {
  for (const int n_shards : {1, 3}) {
    const test::TemporaryFolder folder;
    RandomModelOptions options{.variant = GetParam(), .hidden_size = 32, .n_layers = 2};
    options.n_shards = n_shards;
    write_random_model(folder.path(), options);
    const ModelSpec spec = read_model_spec(folder.path());
    const ModelWeights w = load_weights(folder.path(), spec);
    EXPECT_EQ(w.layers.size(), 2U);
    EXPECT_TRUE(w.store.unused_names().empty());
    EXPECT_EQ(w.store.copied_bytes(), 0);
    EXPECT_EQ(parameter_count(w) * 4, w.store.total_bytes());
    EXPECT_NO_THROW(check_finite(w));
  }
}

INSTANTIATE_TEST_SUITE_P(All, RandomModelVariant, testing::ValuesIn(random_model_variants()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '-') c = '_';
                           }
                           return name;
                         });

TEST(RandomModel, TheSeedDecidesTheBytes) {
  const test::TemporaryFolder folder;
  RandomModelOptions options{.variant = "gpt2", .hidden_size = 16, .n_layers = 1};
  write_random_model(folder.file("a"), options);
  write_random_model(folder.file("b"), options);
  options.seed = 2;
  write_random_model(folder.file("c"), options);
  const std::string a = read_file(folder.file("a/model.safetensors"));
  EXPECT_EQ(a, read_file(folder.file("b/model.safetensors")));
  EXPECT_NE(a, read_file(folder.file("c/model.safetensors")));
}

TEST(RandomModel, HalfTypesAreStored) {
  for (const DType type : {DType::kF16, DType::kBF16}) {
    const test::TemporaryFolder folder;
    write_random_model(folder.path(), {.hidden_size = 16, .n_layers = 1, .dtype = type});
    const ModelWeights w = load_weights(folder.path(), read_model_spec(folder.path()));
    EXPECT_EQ(w.token_embedding.type, type);
    EXPECT_EQ(w.store.dtype_counts().at(type == DType::kF16 ? "F16" : "BF16"),
              static_cast<int64_t>(w.store.names().size()));
  }
}

TEST(RandomModel, AnUnknownVariantIsAnError) {
  const test::TemporaryFolder folder;
  EXPECT_THROW(write_random_model(folder.path(), {.variant = "bert"}), Error);
}

}  // namespace
}  // namespace sepllm
