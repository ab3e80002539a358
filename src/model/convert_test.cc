#include "model/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "checkpoint/safetensors.h"
#include "kernels/formats/blocks.h"
#include "kernels/formats/format.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/weight_types.h"

namespace sepllm {
namespace {

using test::expect_error;

constexpr int64_t kOut = 21, kIn = 45;  // neither whole panels nor whole blocks

// A matrix [kOut, kIn] stored as some type, at an odd address.
struct Stored {
  Stored(DType stored_type, bool transposed, uint64_t seed = 1) {
    const Rng rng(seed);
    values.resize(kOut * kIn);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.normal(i));
    const int64_t n_rows = transposed ? kIn : kOut, n_columns = transposed ? kOut : kIn;
    bytes.resize(static_cast<size_t>(1 + n_rows * row_bytes(stored_type, n_columns)));
    std::vector<float> row(static_cast<size_t>(n_columns));
    for (int64_t r = 0; r < n_rows; ++r) {
      for (int64_t c = 0; c < n_columns; ++c) row[static_cast<size_t>(c)] = transposed ? at(c, r) : at(r, c);
      char* to = bytes.data() + 1 + r * row_bytes(stored_type, n_columns);
      if (is_block_type(stored_type)) {
        quantize_blocks(stored_type, row.data(), n_columns, to);
      } else {
        row_from_f32(stored_type, row.data(), n_columns, to);
      }
    }
    matrix = {.type = stored_type,
              .data = bytes.data() + 1,
              .n_out = kOut,
              .n_in = kIn,
              .transposed = transposed,
              .file = "model.safetensors",
              .name = "layer.weight"};
  }
  float& at(int64_t out, int64_t in) { return values[static_cast<size_t>(out * kIn + in)]; }
  char* stored(int64_t byte) { return bytes.data() + 1 + byte; }

  std::vector<float> values;
  std::vector<char> bytes;
  StoredMatrix matrix;
};

std::vector<float> row_of(const Weight& w, int64_t r) {
  std::vector<float> out(static_cast<size_t>(w.n_in));
  if (is_block_type(w.type)) {
    panel_row_to_f32(w, r, 0, w.n_in, out.data());
  } else {
    row_to_f32(w.type, static_cast<const char*>(w.data) + r * row_bytes(w.type, w.n_in), w.n_in, out.data());
  }
  return out;
}

// The largest difference that rounding x to `type` may make, where the largest magnitude of its block is m.
double rounding(DType type, double x, double m) {
  if (type == DType::kF32) return 0;
  if (type == DType::kF16) return std::abs(x) / 2048 + 1e-7;
  if (type == DType::kBF16) return std::abs(x) / 256;
  // Half a step, or what is cut at the ends of a lopsided range (panels_test has the narrow bounds).
  const BlockFormat& format = format_of(type);
  return format.low == -format.high ? m / format.high * 0.56 + m / 2048 : m / 3;
}

TEST(Convert, EveryTypeIntoEveryOther) {
  const std::vector<DType> all = test::weight_types();
  ThreadPool pool(2);
  for (const DType from : all) {
    for (const DType to : all) {
      for (const bool transposed : {false, true}) {
        if (transposed && is_block_type(from)) continue;
        Stored s(from, transposed);
        std::vector<Buffer> owner;
        const Weight w = convert_matrix(s.matrix, to, pool, &owner);
        EXPECT_EQ(w.type, to);
        EXPECT_EQ(w.n_out, kOut);
        EXPECT_EQ(w.n_in, kIn);
        EXPECT_FALSE(w.transposed);
        EXPECT_EQ(owner.back().data(), w.data);
        for (int64_t r = 0; r < kOut; ++r) {
          const std::vector<float> row = row_of(w, r);
          for (int64_t i = 0; i < kIn; ++i) {
            const double x = s.at(r, i);
            double m = 0;
            const int64_t size = std::max({block_elements(from), block_elements(to)});
            for (int64_t k = i / size * size; k < std::min(kIn, i / size * size + size); ++k)
              m = std::max(m, double{std::abs(s.at(r, k))});
            ASSERT_NEAR(row[static_cast<size_t>(i)], x, rounding(from, x, m) + rounding(to, x, m) * 1.1)
                << dtype_name(from) << " to " << dtype_name(to) << (transposed ? ", transposed" : "");
          }
        }
      }
    }
  }
}

TEST(Convert, TheRowsOfAFileAreThoseOfThePanels) {
  for (const DType type : kBlockTypes) {
    for (const bool transposed : {false, true}) {
      const Stored s(DType::kF32, transposed);
      ThreadPool one(1), three(3);
      std::vector<Buffer> owner;
      const Weight w = convert_matrix(s.matrix, type, one, &owner);
      const Buffer rows = convert_to_rows(s.matrix, type, three);
      ASSERT_EQ(rows.bytes(), kOut * row_bytes(type, kIn));
      std::vector<char> blocks(static_cast<size_t>(row_bytes(type, kIn)));
      for (int64_t r = 0; r < kOut; ++r) {
        unpack_blocks(w, r, blocks.data());
        EXPECT_EQ(std::memcmp(blocks.data(), rows.as<char>() + r * row_bytes(type, kIn), blocks.size()), 0);
      }
    }
  }
}

// tests/golden/blocks.safetensors: the bytes that the gguf package makes of some numbers, and what they stand
// for.
TEST(Convert, BlocksAreThoseOfGguf) {
  const SafetensorsFile golden(std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/blocks.safetensors");
  const auto entry = [&](const std::string& name) { return golden.entries().at(name); };
  const StoredTensor values = entry("values");
  const int64_t n_out = values.shape[0], n_in = values.shape[1];
  const auto matrix = [&](DType type, const void* data) {
    return StoredMatrix{.type = type, .data = data, .n_out = n_out, .n_in = n_in, .file = "f", .name = "n"};
  };
  ThreadPool pool(1);
  for (const DType type : kBlockTypes) {
    if (golden.entries().count(dtype_name(type)) == 0) continue;  // not a type of GGUF
    const StoredTensor theirs = entry(std::string(dtype_name(type)) + "_values");
    ASSERT_EQ(entry(dtype_name(type)).shape, (std::vector<int64_t>{n_out, row_bytes(type, n_in)}));
    const Buffer read = convert_to_rows(matrix(type, entry(dtype_name(type)).data), DType::kF32, pool);
    ASSERT_EQ(read.bytes(), theirs.bytes);
    EXPECT_EQ(std::memcmp(read.data(), theirs.data, static_cast<size_t>(theirs.bytes)), 0)
        << dtype_name(type);
    // Our own blocks of the same numbers are nearer to them, or equally near if nothing can be gained.
    const Buffer ours =
        convert_to_rows(matrix(type, convert_to_rows(matrix(DType::kF32, values.data), type, pool).data()),
                        DType::kF32, pool);
    for (int64_t r = 0; r < n_out; ++r) {
      double own = 0, other = 0;
      for (int64_t k = r * n_in; k < (r + 1) * n_in; ++k) {
        float x = 0, y = 0;
        std::memcpy(&x, values.data + 4 * k, 4);
        std::memcpy(&y, theirs.data + 4 * k, 4);
        own += std::pow(ours.as<float>()[k] - double{x}, 2);
        other += std::pow(y - double{x}, 2);
      }
      EXPECT_LE(own, other * (1 + 1e-5)) << dtype_name(type) << ", row " << r;
    }
  }
}

TEST(Convert, BlocksOfTheSameTypeStayAsTheyAre) {
  for (const DType type : kBlockTypes) {
    const Stored s(type, false);
    ThreadPool pool(2);
    const Buffer rows = convert_to_rows(s.matrix, type, pool);
    EXPECT_EQ(std::memcmp(rows.data(), s.matrix.data, static_cast<size_t>(rows.bytes())), 0);
  }
}

TEST(Convert, WhatIsNoNumberIsAnErrorNamingTensorAndRow) {
  ThreadPool pool(2);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (const DType to : test::weight_types()) {
      if (to == DType::kF32) continue;
      Stored s(DType::kF32, false);
      std::memcpy(s.stored((17 * kIn + 44) * 4), &bad, 4);
      expect_error([&] { convert_to_rows(s.matrix, to, pool); }, ErrorCode::kBadFile,
                   {"model.safetensors", "layer.weight, row 17", "NaN or infinite"});
    }
  }
  for (const DType type : kBlockTypes) {
    for (const DType to : test::weight_types()) {
      if (to == DType::kF16 || to == DType::kBF16) continue;
      Stored s(type, false);
      char* last = s.stored(4 * row_bytes(type, kIn) - block_bytes(type));
      Quanta groups[kMostGroups];
      format_of(type).decode(last, groups);
      for (Quanta& group : groups) group.scale = f16{0x7C00};  // infinity
      format_of(type).encode(groups, last);
      std::vector<Buffer> owner;
      expect_error([&] { convert_matrix(s.matrix, to, pool, &owner); }, ErrorCode::kBadFile,
                   {"layer.weight, row 3", "scale"});
    }
  }
}

TEST(Convert, WhatATypeCannotHoldIsAnError) {
  ThreadPool pool(1);
  const auto refused = [&](float value, DType to) {
    Stored s(DType::kF32, false);
    std::memcpy(s.stored(5 * kIn * 4), &value, 4);
    expect_error([&] { convert_to_rows(s.matrix, to, pool); }, ErrorCode::kOutOfRange,
                 {"layer.weight, row 5", "too large for", dtype_name(to)});
  };
  refused(65520, DType::kF16);
  refused(-3.4e38F, DType::kBF16);
  refused(65520.0F * 127.01F, DType::kQ8_0);
  refused(-65520.0F * 8.01F, DType::kQ4_0);
  Stored s(DType::kF32, false);
  const float fits = -65504.0F * 8;
  std::memcpy(s.stored(0), &fits, 4);
  EXPECT_NO_THROW(convert_to_rows(s.matrix, DType::kQ4_0, pool));
}

// Rows that lose digits which rows of the usual size keep are counted, whatever the type and the layout.
TEST(Convert, RowsThatAreTooSmallAreCounted) {
  ThreadPool pool(3);
  const auto small_rows = [&](DType type, bool transposed, float scale) {
    Stored s(DType::kF32, transposed);
    for (const int64_t row : {7, 8, 20}) {  // scaled where they lie
      for (int64_t i = 0; i < kIn; ++i) {
        const float x = s.at(row, i) * scale;
        std::memcpy(s.stored(4 * (transposed ? i * kOut + row : row * kIn + i)), &x, sizeof x);
      }
    }
    SmallRows small;
    convert_to_rows(s.matrix, type, pool, &small);
    EXPECT_EQ(small.n_rows, kOut);
    if (small.n_small > 0) {
      EXPECT_EQ(small.first, "layer.weight, row 7");
      EXPECT_EQ(small.type, type);
      EXPECT_LT(small.largest, 10 * scale);
    }
    return small.n_small;
  };
  struct Case {
    DType type;
    float fits, too_small;
  };
  const Case cases[] = {{DType::kF32, 1e-37F, 0},     {DType::kF16, 1e-4F, 1e-6F},
                        {DType::kF16, 1.0F, 1e-12F},  {DType::kBF16, 1e-36F, 1e-40F},
                        {DType::kQ8_0, 1e-2F, 1e-5F}, {DType::kQ8_0, 1.0F, 1e-20F},
                        {DType::kQ4_0, 1e-3F, 1e-7F}};
  for (const Case& c : cases) {
    for (const bool transposed : {false, true}) {
      SCOPED_TRACE(std::string(dtype_name(c.type)) + " " + std::to_string(c.too_small));
      EXPECT_EQ(small_rows(c.type, transposed, c.fits), 0);
      if (c.too_small == 0) continue;
      EXPECT_EQ(small_rows(c.type, transposed, c.too_small), 3);
    }
  }
}

// A block or a few elements that are small compared with the rest of their row lose nothing that counts.
TEST(Convert, SmallPartsOfARowAreNoLoss) {
  ThreadPool pool(1);
  for (const DType type : test::weight_types()) {
    Stored s(DType::kF32, false);
    for (int64_t i = 32; i < kIn; ++i) {  // the second block of each row
      for (int64_t r = 0; r < kOut; ++r) {
        const float x = r == 0 ? 0.0F : s.at(r, i) * 1e-9F;
        std::memcpy(s.stored(4 * (r * kIn + i)), &x, sizeof x);
      }
    }
    SmallRows small;
    convert_to_rows(s.matrix, type, pool, &small);
    EXPECT_EQ(small.n_small, 0) << dtype_name(type);
  }
}

TEST(Convert, F64) {
  ThreadPool pool(1);
  const double values[] = {1.0, -2.5, 1e-50, 1e300};
  StoredMatrix m{.type = DType::kF64, .data = values, .n_out = 1, .n_in = 3, .file = "f", .name = "n"};
  SmallRows small;
  const Buffer rows = convert_to_rows(m, DType::kF32, pool, &small);
  EXPECT_EQ(rows.as<float>()[1], -2.5F);
  EXPECT_EQ(small.n_small, 0);
  m.n_in = 4;
  expect_error([&] { convert_to_rows(m, DType::kF32, pool); }, ErrorCode::kBadFile,
               {"n, row 0", "too large for f32"});
  m.data = values + 2;
  m.n_in = 1;
  convert_to_rows(m, DType::kBF16, pool, &small);
  EXPECT_EQ(small.n_small, 1);
  EXPECT_EQ(small.type, DType::kF32);
  EXPECT_EQ(small.largest, 1e-50);
}

}  // namespace
}  // namespace sepllm
