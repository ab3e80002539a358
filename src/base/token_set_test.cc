#include "base/token_set.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "base/check.h"

namespace sepllm {
namespace {

TEST(TokenSet, HoldsWhatWasInserted) {
  TokenSet set(130);
  for (const int32_t id : {129, 0, 63, 64, 63}) set.insert(id);
  EXPECT_EQ(set.ids(), (std::vector<int32_t>{0, 63, 64, 129}));
  EXPECT_EQ(set.size(), 4);
  EXPECT_EQ(set.vocab_size(), 130);
  EXPECT_TRUE(set.contains(63));
  EXPECT_FALSE(set.contains(62));
}

TEST(TokenSet, IdsOutsideTheVocabularyAreNeverInIt) {
  TokenSet set(65);
  set.insert(64);
  for (const int32_t id : {-1, INT32_MIN, 65, 127, 128, INT32_MAX}) EXPECT_FALSE(set.contains(id)) << id;
  for (const int32_t id : {-1, 65, INT32_MAX}) EXPECT_THROW(set.insert(id), CheckFailure) << id;
  EXPECT_EQ(set.size(), 1);
}

TEST(TokenSet, EmptySetsAndEquality) {
  EXPECT_EQ(TokenSet().size(), 0);
  EXPECT_FALSE(TokenSet().contains(0));
  TokenSet a(10), b(10);
  EXPECT_EQ(a, b);
  a.insert(3);
  EXPECT_NE(a, b);
  b.insert(3);
  EXPECT_EQ(a, b);
  EXPECT_NE(TokenSet(10), TokenSet(11));
}

}  // namespace
}  // namespace sepllm
