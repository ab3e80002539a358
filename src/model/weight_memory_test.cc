// What a load says that it will take, before it takes it.
#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "model/random_model.h"
#include "model/shapes.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

// What a load takes is what was said before.
void expect_kept(const std::string& folder, const WeightOptions& options) {
  std::vector<WeightMemory> told;
  WeightOptions with_plan = options;
  with_plan.before_memory = [&](const ModelConfig& config, const WeightMemory& memory) {
    EXPECT_GT(config.n_layers, 0);
    told.push_back(memory);
  };
  const ModelWeights w = load_weights(folder, read_model_spec(folder), with_plan);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].owned, weight_memory(w).owned);
  EXPECT_EQ(told[0].mapped, weight_memory(w).mapped);
  EXPECT_EQ(told[0].owned + told[0].mapped, weight_bytes(w));
}

TEST(WeightMemory, IsWhatALoadTakes) {
  for (const std::string& variant : random_model_variants()) {
    for (const DType stored : {DType::kF32, DType::kBF16}) {
      const test::TemporaryFolder folder;
      write_random_model(folder.path(), {.variant = variant, .n_layers = 2, .dtype = stored});
      for (const std::optional<DType> type :
           {std::optional<DType>(), std::optional(DType::kF32), std::optional(DType::kF16),
            std::optional(DType::kBF16), std::optional(DType::kQ8_0), std::optional(DType::kQ4_0)}) {
        SCOPED_TRACE(variant + " " + dtype_name(stored) + " as " + (type ? dtype_name(*type) : "stored"));
        expect_kept(folder.path(), {.type = type});
      }
    }
  }
}

// A header whose length is odd puts every tensor where it is not aligned: all is copied.
TEST(WeightMemory, CopiesOfUnalignedTensorsCount) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.variant = "llama", .n_layers = 1});
  std::string bytes = read_file(folder.file("model.safetensors"));
  const auto length = static_cast<unsigned char>(bytes[0]);
  bytes[0] = static_cast<char>(length + 1);
  ASSERT_NE(length, 255);
  bytes.insert(8 + static_cast<size_t>(length) + 256 * static_cast<unsigned char>(bytes[1]), " ");
  folder.write("model.safetensors", bytes);
  expect_kept(folder.path(), {});
  const ModelWeights w = load_weights(folder.path(), read_model_spec(folder.path()));
  EXPECT_GT(w.store.copied_bytes(), 0) << "the fixture must be unaligned";
}

TEST(WeightMemory, RandomWeightsAreAllOwned) {
  ThreadPool pool(1);
  for (const std::string& variant : random_model_variants()) {
    const test::TemporaryFolder folder;
    write_random_model(folder.path(), {.variant = variant, .n_layers = 2});
    const ModelSpec spec = read_model_spec(folder.path());
    for (const DType type : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(variant + " " + dtype_name(type));
      const ModelWeights made = make_random_weights(spec, type, 1, pool);
      EXPECT_EQ(random_weight_memory(spec, type).owned, weight_bytes(made));
      EXPECT_EQ(weight_memory(made).owned, weight_bytes(made));
      EXPECT_EQ(weight_memory(made).mapped, 0);
    }
  }
  const ModelSpec blocks = shape_spec("sepllm-5m");  // (blocks need wide rows)
  EXPECT_EQ(random_weight_memory(blocks, DType::kQ4_0).owned,
            weight_bytes(make_random_weights(blocks, DType::kQ4_0, 1, pool)));
}

TEST(WeightMemory, WhoHasTooLittleEndsTheLoading) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {});
  const auto refuse = [](const ModelConfig&, const WeightMemory& memory) {
    throw Error(ErrorCode::kOutOfRange, "too much", {.got = std::to_string(memory.owned)});
  };
  test::expect_error(
      [&] {
        load_weights(folder.path(), read_model_spec(folder.path()),
                     {.type = DType::kQ8_0, .before_memory = refuse});
      },
      ErrorCode::kOutOfRange, {"too much"});
}

}  // namespace
}  // namespace sepllm
