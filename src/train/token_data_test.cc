#include "train/token_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/support.h"
#include "train/training_data.h"

namespace sepllm {
namespace {

using test::expect_error;
using test::TemporaryFolder;

// Documents of these lengths whose tokens count up from `first`.
void write_documents(const std::string& prefix, const std::vector<int64_t>& lengths, int32_t first = 0,
                     int64_t vocab = 65'000) {
  TokenFileWriter writer(prefix, vocab);
  for (const int64_t n : lengths) {
    std::vector<int32_t> tokens(static_cast<size_t>(n));
    for (int32_t& t : tokens) t = first++;
    writer.add(tokens);
    writer.end_document();
  }
  writer.finish();
}

TEST(TokenFile, GivesBackWhatWasWritten) {
  const TemporaryFolder folder;
  for (const int64_t vocab : {65'000, 70'000}) {
    write_documents(folder.file("a"), {3, 1, 0, 6}, 0, vocab);
    const TokenFile file(folder.file("a"));
    EXPECT_EQ(file.type(), vocab < 65'500 ? TokenType::kUint16 : TokenType::kInt32);
    EXPECT_EQ(file.n_tokens(), 10);
    ASSERT_EQ(file.n_documents(), 3);  // the empty document is left out
    EXPECT_EQ(file.document_begin(1), 3);
    EXPECT_EQ(file.document_begin(3), 10);
    EXPECT_EQ(file.document_of(2), 0);
    EXPECT_EQ(file.document_of(3), 1);
    EXPECT_EQ(file.document_of(9), 2);
    std::vector<int32_t> tokens(5);
    file.read(2, tokens, 100);
    EXPECT_EQ(tokens, (std::vector<int32_t>{2, 3, 4, 5, 6}));
    expect_error([&] { file.read(2, tokens, 6); }, ErrorCode::kBadFile, {"a.bin", "token 6", "0 to 5"});
  }
}

TEST(TokenFile, EveryCutAndEveryChangedByteOfAnIndexIsRefusedOrHarmless) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {3, 1, 6});
  const std::string index = read_file(folder.file("a.idx"));
  const auto opens = [&](const std::string& bytes) {
    write_file_atomically(folder.file("a.idx"), bytes);
    try {
      const TokenFile file(folder.file("a"));
      std::vector<int32_t> all(static_cast<size_t>(file.n_tokens()));
      file.read(0, all, 65'536);
      for (int64_t t = 0; t < file.n_tokens(); ++t) file.document_of(t);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("a."), std::string::npos) << error.what();
      return false;
    }
    return true;
  };
  EXPECT_TRUE(opens(index));
  for (size_t n = 0; n < index.size(); ++n) EXPECT_FALSE(opens(index.substr(0, n))) << n;
  EXPECT_FALSE(opens(index + "x"));
  int harmless = 0;
  for (size_t i = 0; i < index.size(); ++i) {
    for (const int change : {1, 0x80}) {
      std::string changed = index;
      changed[i] = static_cast<char>(changed[i] ^ change);
      harmless += opens(changed) ? 1 : 0;
    }
  }
  // Only the bounds between documents can change without a contradiction (and uint16 can become int16).
  EXPECT_LE(harmless, 4);
}

TEST(TokenFile, ATokenFileOfAnotherLengthIsRefused) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {3, 4});
  const std::string data = read_file(folder.file("a.bin"));
  for (const std::string& bytes : {data.substr(0, 13), data + "xy", std::string()}) {
    write_file_atomically(folder.file("a.bin"), bytes);
    expect_error([&] { TokenFile file(folder.file("a")); }, ErrorCode::kBadFile, {"a."});
  }
  expect_error([&] { TokenFile file(folder.file("none")); }, ErrorCode::kNotFound, {"none.idx"});
}

TEST(Permuted, IsABijectionThatDependsOnTheKey) {
  for (const int64_t n : {1, 2, 3, 10, 1000}) {
    std::set<int64_t> seen;
    int moved = 0;
    for (int64_t i = 0; i < n; ++i) {
      seen.insert(permuted(7, i, n));
      moved += permuted(7, i, n) != permuted(8, i, n) ? 1 : 0;
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), n);
    EXPECT_EQ(*seen.begin(), 0);
    EXPECT_EQ(*seen.rbegin(), n - 1);
    EXPECT_GE(moved, n >= 1000 ? n / 2 : 0);
  }
}

TEST(TokenData, APassGivesEverySampleOnceInAnotherOrderEachTime) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {30, 51, 20});
  TokenData data({{folder.file("a")}}, 10, 65'000, 3);
  ASSERT_EQ(data.n_samples(), 10);
  std::vector<std::vector<int32_t>> orders(2);
  for (auto& order : orders) {
    for (int k = 0; k < 10; ++k) {
      Sample sample;
      data.next(&sample);
      ASSERT_EQ(sample.tokens.size(), 11U);
      for (int32_t i = 0; i < 11; ++i) EXPECT_EQ(sample.tokens[static_cast<size_t>(i)], sample.tokens[0] + i);
      order.push_back(sample.tokens[0]);
      // Documents begin at tokens 30 and 81.
      std::vector<int64_t> starts = {0};
      for (const int32_t begin : {30, 81}) {
        if (begin > sample.tokens[0] && begin < sample.tokens[0] + 10)
          starts.push_back(begin - sample.tokens[0]);
      }
      EXPECT_EQ(sample.document_starts, starts);
    }
  }
  EXPECT_NE(orders[0], orders[1]);
  for (auto& order : orders) {
    std::sort(order.begin(), order.end());
    for (int k = 0; k < 10; ++k) EXPECT_EQ(order[static_cast<size_t>(k)], 10 * k);
  }
}

TEST(TokenData, SharesFollowTheWeightsAtEveryPointAndGoOnFromAPosition) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {101}, 0);
  write_documents(folder.file("b"), {401}, 1000);
  write_documents(folder.file("c"), {51}, 2000);
  const std::vector<TokenSource> sources = {
      {folder.file("a"), 5}, {folder.file("b"), 3}, {folder.file("c"), 2}};
  TokenData data(sources, 10, 65'000, 3), other(sources, 10, 65'000, 3);
  std::map<int32_t, int> counts;
  TokenData::Position middle;
  std::vector<std::vector<int32_t>> rest;
  Sample sample;
  for (int k = 1; k <= 200; ++k) {
    if (k == 78) middle = data.position();
    data.next(&sample);
    ++counts[sample.tokens[0] / 1000];
    EXPECT_NEAR(counts[0], 0.5 * k, 1.0);
    EXPECT_NEAR(counts[1], 0.3 * k, 1.0);
    EXPECT_NEAR(counts[2], 0.2 * k, 1.0);
    if (k >= 78) rest.push_back(sample.tokens);
  }
  other.set_position(middle);
  for (const auto& tokens : rest) {
    other.next(&sample);
    EXPECT_EQ(sample.tokens, tokens);
  }
  TokenData skipping(sources, 10, 65'000, 3);
  for (int k = 1; k < 78; ++k) skipping.skip();
  EXPECT_EQ(skipping.position(), middle);
  expect_error([&] { other.set_position({1, 2}); }, ErrorCode::kBadFile, {"position"});
}

TEST(TokenData, TheHeldOutPartIsApartFromTheRest) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {1001});
  TokenData train({{folder.file("a")}}, 10, 65'000, 3, {0, 0.9});
  TokenData held({{folder.file("a")}}, 10, 65'000, 3, {0.9, 1});
  EXPECT_EQ(train.n_samples(), 90);
  EXPECT_EQ(held.n_samples(), 10);
  Sample sample;
  for (int k = 0; k < 180; ++k) {
    train.next(&sample);
    EXPECT_LT(sample.tokens[0], 900);
    held.next(&sample);
    EXPECT_GE(sample.tokens[0], 900);
  }
  EXPECT_NE(train.fingerprint(), held.fingerprint());
  expect_error(
      [&] {
        TokenData none({{folder.file("a")}}, 10, 65'000, 3, {0.9999, 1});
      },
      ErrorCode::kInvalidArgument, {"a", "sample"});
  expect_error(
      [&] {
        TokenData none({{folder.file("a"), -1}}, 10, 65'000, 3);
      },
      ErrorCode::kInvalidArgument, {"weights"});
}

TEST(TrainingData, SeedsChooseTheOrderOfTheSamplesButNotThoseHeldOut) {
  const TemporaryFolder folder;
  write_documents(folder.file("a"), {2001});
  write_documents(folder.file("b"), {501}, 3000);
  const auto first_samples = [](TokenData& data) {
    std::vector<int32_t> begins;
    Sample sample;
    for (int k = 0; k < 5; ++k) {
      data.next(&sample);
      begins.push_back(sample.tokens[0]);
    }
    return begins;
  };
  for (const bool file_of_its_own : {false, true}) {
    TrainConfig config;
    config.seq_length = 10;
    config.data = {{folder.file("a")}};
    if (file_of_its_own) {
      config.valid_data = {{folder.file("b")}};
    } else {
      config.valid_share = 0.3;
    }
    config.seed = 1;
    const TrainingData one = open_training_data(config, 65'000);
    config.seed = 2;
    const TrainingData two = open_training_data(config, 65'000);
    EXPECT_NE(first_samples(*one.train), first_samples(*two.train));
    EXPECT_EQ(first_samples(*one.held_out), first_samples(*two.held_out));
  }
}

}  // namespace
}  // namespace sepllm
