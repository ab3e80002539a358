#include "base/bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace sepllm {
namespace {

TEST(Bytes, ComeBackAsTheyWere) {
  std::string bytes;
  StringWriter out(&bytes);
  const std::vector<int32_t> list = {3, -1, 1 << 30};
  const auto write = [&](ByteWriter& w) {
    w.value<int64_t>(-5);
    w.value(2.5);
    w.list(std::span<const int32_t>(list));
  };
  write(out);
  ByteCounter counter;
  write(counter);
  EXPECT_EQ(counter.count(), bytes.size());
  ByteReader in(bytes, "f", "p");
  EXPECT_EQ(in.integer("n", -5, 0), -5);
  EXPECT_EQ(in.value<double>(), 2.5);
  std::vector<int32_t> again(3);
  EXPECT_THROW(in.finish(), Error);
  in.list(std::span<int32_t>(again));
  EXPECT_EQ(again, list);
  EXPECT_NO_THROW(in.finish());
  EXPECT_THROW(in.value<char>(), Error);
}

TEST(Bytes, ErrorsNameFilePlaceAndValue) {
  const std::string bytes(8, '\1');
  ByteReader in(bytes, "a.state", "cache");
  try {
    in.integer("length", 0, 7);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "a.state: cache: wrong length (expected 0 to 7, got 72340172838076673)");
  }
}

TEST(Hash64, DoesNotDependOnThePieces) {
  const Rng rng(1);
  std::string text;
  for (uint64_t k = 0; k < 200; ++k) text += static_cast<char>(rng.bits(k));
  Hash64 whole;
  whole.add(text.data(), text.size());
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Hash64 pieces;
    uint64_t at = 0;
    for (uint64_t k = 0; at < text.size(); ++k) {
      const uint64_t n = std::min<uint64_t>(text.size() - at, Rng(seed, 1).bits(k) % 70);
      pieces.add(text.data() + at, n);
      at += n;
    }
    EXPECT_EQ(pieces.value(), whole.value());
  }
}

TEST(Hash64, LongOnesAreHashedToTheirEnd) {
  std::string text((size_t{3} << 20) + 45, 'a');
  for (size_t k = 0; k < text.size(); k += 997) text[k] = static_cast<char>(k / 997);
  const auto by = [&](size_t piece, size_t from) {
    Hash64 h;
    h.add(text.data(), from);
    for (size_t at = from; at < text.size(); at += piece)
      h.add(text.data() + at, std::min(piece, text.size() - at));
    return h.value();
  };
  const uint64_t plain = by(16, 0);  // never exactly one block at once
  EXPECT_EQ(by(text.size(), 0), plain);
  EXPECT_EQ(by(text.size(), 7), plain);
  EXPECT_EQ(by((size_t{1} << 20) + 1, 3), plain);
}

TEST(Hash64, EveryBitAndTheLengthCount) {
  std::string text(77, '\0');
  std::set<uint64_t> seen;
  const auto hash = [&](size_t n) {
    Hash64 h;
    h.add(text.data(), n);
    return h.value();
  };
  for (size_t n = 0; n <= text.size(); ++n) EXPECT_TRUE(seen.insert(hash(n)).second) << n;
  for (size_t k = 0; k < text.size(); ++k) {
    for (int bit = 0; bit < 8; ++bit) {
      text[k] = static_cast<char>(1 << bit);
      EXPECT_TRUE(seen.insert(hash(text.size())).second) << k << " " << bit;
    }
    text[k] = 0;
  }
}

}  // namespace
}  // namespace sepllm
