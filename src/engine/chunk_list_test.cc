#include "engine/chunk_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace sepllm {
namespace {

std::vector<int64_t> lengths(const std::vector<ChunkList::Run>& runs) {
  std::vector<int64_t> out;
  for (const ChunkList::Run& run : runs) out.insert(out.end(), static_cast<size_t>(run.count), run.length);
  return out;
}

// Compares with a plain list of lengths, for random chunks and places.
TEST(ChunkList, KnowsTheChunksOfAnyPart) {
  const Rng rng(5);
  uint64_t draw = 0;
  for (int trial = 0; trial < 50; ++trial) {
    ChunkList list;
    std::vector<int64_t> plain, ends = {0};
    for (int k = 0; k < 40; ++k) {
      const int64_t n = 1 + static_cast<int64_t>(rng.bits(draw++) % 3);
      list.append(n);
      plain.push_back(n);
      ends.push_back(ends.back() + n);
    }
    ASSERT_EQ(list.n_tokens(), ends.back());
    const auto first = static_cast<size_t>(rng.bits(draw++) % 30);
    const int64_t from = ends[first];
    for (int64_t to = from; to <= ends.back(); ++to) {
      std::vector<int64_t> expected;
      for (size_t k = first; k < plain.size() && ends[k] < to; ++k)
        expected.push_back(std::min(plain[k], to - ends[k]));
      ASSERT_EQ(lengths(list.between(from, to)), expected) << from << " to " << to;
      ASSERT_EQ(list.end_before(to), *(std::upper_bound(ends.begin(), ends.end(), to) - 1));
    }
    ChunkList cut = list;
    const int64_t kept = from + static_cast<int64_t>(rng.bits(draw++) % 5);
    cut.keep_first(kept);
    ASSERT_EQ(cut.n_tokens(), kept);
    ASSERT_EQ(lengths(cut.between(0, kept)), lengths(list.between(0, kept)));
    list.drop_first(from);
    ASSERT_EQ(list.n_tokens(), ends.back() - from);
    ASSERT_EQ(lengths(list.between(0, list.n_tokens())),
              std::vector<int64_t>(plain.begin() + static_cast<std::ptrdiff_t>(first), plain.end()));
  }
}

TEST(ChunkList, DecodingTakesNoMemoryPerToken) {
  ChunkList list;
  list.append(512);
  for (int k = 0; k < 100000; ++k) list.append(1);
  EXPECT_EQ(list.between(0, list.n_tokens()), (std::vector<ChunkList::Run>{{512, 1}, {1, 100000}}));
  EXPECT_LT(list.bytes(), 100);
}

TEST(ChunkList, BytesOfOthersAreRefused) {
  ChunkList list;
  for (const int64_t n : {5, 5, 1, 1, 1, 7}) list.append(n);
  std::string bytes;
  StringWriter out(&bytes);
  list.save(out);
  const auto read = [](const std::string& from, int64_t n_tokens) {
    ByteReader in(from, "file", "chunks");
    return ChunkList::read(in, n_tokens);
  };
  EXPECT_EQ(lengths(read(bytes, 20).between(0, 20)), (std::vector<int64_t>{5, 5, 1, 1, 1, 7}));
  EXPECT_THROW(read(bytes, 19), Error);
  EXPECT_THROW(read(bytes, 21), Error);
  EXPECT_THROW(read(bytes.substr(0, bytes.size() - 1), 20), Error);
  for (const int64_t wrong : {int64_t{0}, int64_t{-1}, INT64_MAX, int64_t{1} << 33}) {
    for (size_t at = 0; at < bytes.size(); at += sizeof wrong) {
      std::string bad = bytes;
      std::memcpy(bad.data() + at, &wrong, sizeof wrong);
      EXPECT_THROW(read(bad, 20), Error) << at << " " << wrong;
    }
  }
}

}  // namespace
}  // namespace sepllm
