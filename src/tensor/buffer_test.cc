#include "tensor/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"

namespace sepllm {
namespace {

TEST(Buffer, IsAlignedAndZeroed) {
  for (const int64_t bytes : {1, 63, 64, 65, 100'000}) {
    const Buffer b(bytes);
    EXPECT_EQ(b.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % 64, 0U);
    for (int64_t i = 0; i < bytes; ++i) ASSERT_EQ(b.as<char>()[i], 0);
  }
}

TEST(Buffer, EmptyHoldsNothing) {
  EXPECT_EQ(Buffer().data(), nullptr);
  EXPECT_EQ(Buffer(0).data(), nullptr);
  EXPECT_EQ(Buffer(0).bytes(), 0);
}

TEST(Buffer, MovingKeepsTheMemory) {
  Buffer a(10);
  a.as<char>()[3] = 7;
  void* const at = a.data();
  const Buffer b(std::move(a));
  EXPECT_EQ(b.data(), at);
  EXPECT_EQ(b.as<char>()[3], 7);
  EXPECT_EQ(b.bytes(), 10);
}

TEST(Buffer, TooLargeIsAnErrorThatNamesWhatItWasFor) {
  for (const int64_t bytes : {INT64_MAX, INT64_MAX / 2}) {
    try {
      const Buffer b(bytes, "the cache");
      FAIL() << "no error";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kOutOfRange);
      EXPECT_NE(std::string(e.what()).find("the cache"), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace sepllm
