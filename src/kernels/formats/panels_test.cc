#include "kernels/formats/panels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/rng.h"
#include "kernels/formats/block_matrix_test_support.h"
#include "kernels/formats/blocks.h"
#include "kernels/formats/format.h"
#include "kernels/kernel_test_support.h"
#include "tensor/buffer.h"

namespace sepllm {
namespace {

std::vector<float> random_row(int64_t n, uint64_t stream) {
  const Rng rng(7, stream);
  std::vector<float> row(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    row[static_cast<size_t>(i)] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
  return row;
}

// What remains of x in a block of the plain scale, which puts the element of largest magnitude at the far end
// of the format's range: half a step and the f16 scale at most, and where the range is lopsided, a whole step
// at its near end.
double plain_error(DType type, const float* x, int64_t n) {
  float extreme = 0;
  for (int64_t k = 0; k < n; ++k) extreme = std::fabs(x[k]) > std::fabs(extreme) ? x[k] : extreme;
  const int low = format_of(type).low, high = format_of(type).high;
  const auto far = static_cast<float>(-low > high ? low : high);
  const double scale = to_float(to_f16(extreme / far));
  double sum = 0;
  for (int64_t k = 0; k < n; ++k) {
    const double q = std::clamp(std::nearbyint(x[k] / scale), double{1} * low, double{1} * high);
    sum += (x[k] - q * scale) * (x[k] - q * scale);
  }
  return sum;
}

// No block is worse than one with the plain scale, and all together are better by far; the values are those
// nearest to what the scale allows.
TEST(Blocks, RoundBetterThanThePlainScale) {
  for (const DType type : kBlockTypes) {
    double ours = 0, plain = 0;
    for (const int64_t n : {1, 31, 32, 33, 172, 4096}) {
      const std::vector<float> row = random_row(n, static_cast<uint64_t>(n));
      std::vector<char> blocks(static_cast<size_t>(row_bytes(type, n)));
      quantize_blocks(type, row.data(), n, blocks.data());
      std::vector<float> back(row.size());
      dequantize_blocks(type, blocks.data(), n, back.data());
      const int64_t elements = block_elements(type);
      for (int64_t b = 0; b < n; b += elements) {
        const int64_t count = std::min(n - b, elements);
        Quanta groups[kMostGroups];
        format_of(type).decode(blocks.data() + b / elements * block_bytes(type), groups);
        const float scale = std::fabs(to_float(groups->scale));
        double error = 0;
        for (int64_t k = b; k < b + count; ++k) {
          const double e = back[static_cast<size_t>(k)] - row[static_cast<size_t>(k)];
          error += e * e;
          const bool cut =
              std::fabs(back[static_cast<size_t>(k)]) >= static_cast<float>(format_of(type).high) * scale;
          EXPECT_LE(std::fabs(e), (cut ? 1.3 : 0.50001) * scale);
        }
        const double bound = plain_error(type, row.data() + b, count);
        EXPECT_LE(error, bound * (1 + 1e-5) + 1e-12);
        ours += error;
        plain += bound;
      }
      EXPECT_EQ(find_bad_block(type, blocks.data(), blocks_of_row(type, n)), -1);
    }
    EXPECT_LT(ours, plain * (type == DType::kQ8_0 ? 0.82 : 0.92)) << dtype_name(type);
  }
}

TEST(Blocks, TheSameOnEveryInstructionSet) {
  const std::vector<float> row = random_row(4096, 3);
  for (const DType type : kBlockTypes) {
    std::vector<char> first;
    test::for_each_target([&] {
      std::vector<char> blocks(static_cast<size_t>(row_bytes(type, 4096)));
      quantize_blocks(type, row.data(), 4096, blocks.data());
      if (first.empty()) first = blocks;
      EXPECT_EQ(blocks, first);
    });
  }
}

// Bytes worked out by hand from GGUF's definition.
TEST(Blocks, LayOutBytesAsGguf) {
  std::vector<float> row(32, 0.0F);
  row[0] = -127.0F;
  row[1] = 64.0F;
  row[31] = 1.0F;
  char q8[34];
  quantize_blocks(DType::kQ8_0, row.data(), 32, q8);
  const unsigned char one[] = {0x00, 0x3C};
  EXPECT_EQ(std::memcmp(q8, one, 2), 0);
  EXPECT_EQ(q8[2], -127);
  EXPECT_EQ(q8[3], 64);
  EXPECT_EQ(q8[33], 1);
  row[0] = -8.0F;
  row[1] = 3.0F;
  row[17] = 7.0F;
  char q4[18];
  quantize_blocks(DType::kQ4_0, row.data(), 32, q4);
  EXPECT_EQ(std::memcmp(q4, one, 2), 0);
  EXPECT_EQ(static_cast<uint8_t>(q4[2]), 0x80);       // -8, and 0 in the high half
  EXPECT_EQ(static_cast<uint8_t>(q4[3]), 0xF0 | 11);  // 3, and 7 in the high half
  EXPECT_EQ(static_cast<uint8_t>(q4[17]), 0x98);      // 0, and 1 in the high half
}

TEST(Blocks, NumbersThatAreNoneAreFound) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30F}) {
    for (const DType type : kBlockTypes) {
      std::vector<float> row(96, 1.0F);
      row[70] = bad;
      std::vector<char> blocks(static_cast<size_t>(row_bytes(type, 96)));
      quantize_blocks(type, row.data(), 96, blocks.data());
      EXPECT_EQ(find_bad_block(type, blocks.data(), blocks_of_row(type, 96)), 70 / block_elements(type));
    }
  }
}

TEST(Panels, GiveBackWhatWasPacked) {
  std::mt19937 rng(1);
  for (const DType type : kPanelTypes) {
    for (const int64_t n_in : {1, 32, 33, 64, 172, 256, 768}) {
      for (const int64_t n_out : {1, 15, 16, 17, 40}) {
        const auto bytes = static_cast<size_t>(row_bytes(type, n_in));
        std::vector<std::vector<char>> rows;
        const Buffer panels(panels_bytes(type, n_out, n_in));
        for (int64_t o = 0; o < n_out; ++o) {
          rows.emplace_back(bytes);
          for (int64_t b = 0; b < blocks_of_row(type, n_in); ++b) {
            test::BlockMatrix::fill(type, n_in - b * block_elements(type), rng,
                                    rows.back().data() + b * block_bytes(type));
          }
        }
        for (int64_t p = 0; p < n_panels(n_out); ++p) {
          const void* list[kPanelOutputs];
          const int64_t n = std::min(kPanelOutputs, n_out - p * kPanelOutputs);
          for (int64_t k = 0; k < n; ++k) list[k] = rows[static_cast<size_t>(p * kPanelOutputs + k)].data();
          pack_panel(type, list, n, n_in, panels.as<char>() + p * panel_bytes(type, n_in));
        }
        const Weight w{.type = type, .data = panels.data(), .n_out = n_out, .n_in = n_in};
        for (int64_t o = 0; o < n_out; ++o) {
          std::vector<char> back(bytes);
          unpack_blocks(w, o, back.data());
          EXPECT_EQ(back, rows[static_cast<size_t>(o)]);
          std::vector<float> expected(static_cast<size_t>(n_in)), floats(static_cast<size_t>(n_in));
          dequantize_blocks(type, back.data(), n_in, expected.data());
          panel_row_to_f32(w, o, 0, n_in, floats.data());
          EXPECT_EQ(floats, expected);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sepllm
