// Blocks of every type in which GGUF files store weights: the values are those that the gguf package
// computes, bit for bit, also where scales are zero, subnormal or infinite (tests/golden/gguf).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "base/file.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/safetensors.h"
#include "kernels/formats/blocks.h"

namespace sepllm {
namespace {

struct StoredBlocks {
  std::string folder = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/gguf/";
  MappedFile file{folder + "types.gguf"};
  GgufContent content = parse_gguf(file.bytes(), file.path());
  SafetensorsFile values{folder + "values.safetensors"};

  // The tensor of a type, and the values of its blocks.
  const StoredTensor& blocks(DType type) const {
    for (const auto& [name, tensor] : content.entries) {
      if (tensor.type == type) return tensor;
    }
    throw std::runtime_error(dtype_name(type));
  }
};

// Those that GGUF has.
std::vector<DType> gguf_block_types() {
  std::vector<DType> types;
  for (const DType type : kPanelTypes) {
    if (gguf_has_type(type)) types.push_back(type);
  }
  for (const DType type : kStoredBlockTypes) types.push_back(type);
  return types;
}

TEST(StoredBlocksGolden, ValuesAreThoseOfTheGgufPackage) {
  const StoredBlocks golden;
  for (const DType type : gguf_block_types()) {
    const StoredTensor& blocks = golden.blocks(type);
    const StoredTensor& expected = golden.values.entries().at(blocks.name);
    ASSERT_EQ(expected.shape, blocks.shape) << blocks.name;
    const int64_t n = blocks.shape[1];
    std::vector<float> row(static_cast<size_t>(n));
    int n_infinite = 0;
    for (int64_t r = 0; r < blocks.shape[0]; ++r) {
      dequantize_blocks(type, blocks.data + r * row_bytes(type, n), n, row.data());
      for (int64_t k = 0; k < n; ++k) {
        float theirs = 0;
        std::memcpy(&theirs, expected.data + 4 * (r * n + k), 4);
        const float ours = row[static_cast<size_t>(k)];
        n_infinite += std::isinf(theirs) ? 1 : 0;
        if (std::isnan(theirs)) {
          ASSERT_TRUE(std::isnan(ours)) << blocks.name << ", row " << r << ", " << k;
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(ours), std::bit_cast<uint32_t>(theirs))
              << blocks.name << ", row " << r << ", " << k << ": " << ours << " for " << theirs;
        }
      }
    }
    EXPECT_GT(n_infinite, 0) << blocks.name;
  }
}

TEST(StoredBlocksGolden, ThePartOfARowIsItsBeginning) {
  const StoredBlocks golden;
  for (const DType type : gguf_block_types()) {
    const char* data = golden.blocks(type).data;
    const int64_t n = 2 * block_elements(type);
    std::vector<float> whole(static_cast<size_t>(n)), part(static_cast<size_t>(n), -7.0F);
    dequantize_blocks(type, data, n, whole.data());
    dequantize_blocks(type, data, n - 3, part.data());
    EXPECT_EQ(std::memcmp(whole.data(), part.data(), static_cast<size_t>(n - 3) * 4), 0) << dtype_name(type);
    for (int64_t k = n - 3; k < n; ++k) EXPECT_EQ(part[static_cast<size_t>(k)], -7.0F);
  }
}

// A scale is infinite or NaN exactly where a block has a value that is.
TEST(StoredBlocksGolden, BadScalesAreFound) {
  const StoredBlocks golden;
  for (const DType type : gguf_block_types()) {
    const StoredTensor& blocks = golden.blocks(type);
    const int64_t n_blocks = blocks.shape[0] * blocks.shape[1] / block_elements(type);
    std::vector<float> values(static_cast<size_t>(block_elements(type)));
    int n_bad = 0;
    for (int64_t b = 0; b < n_blocks; ++b) {
      const char* block = blocks.data + b * block_bytes(type);
      dequantize_blocks(type, block, block_elements(type), values.data());
      bool finite = true;
      for (const float x : values) finite = finite && std::isfinite(x);
      EXPECT_EQ(find_bad_block(type, block, 1), finite ? -1 : 0) << dtype_name(type) << ", block " << b;
      n_bad += finite ? 0 : 1;
    }
    EXPECT_GE(n_bad, 3) << dtype_name(type);
    EXPECT_LT(n_bad, n_blocks) << dtype_name(type);
  }
}

}  // namespace
}  // namespace sepllm
