#include "text/bpe/bpe_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;

// BPE by its definition: join the neighbours of the lowest rank, the leftmost first, until none are left.
Ids plain_bpe(const MergeTable& table, Ids ids) {
  for (;;) {
    const Merge* best = nullptr;
    size_t at = 0;
    for (size_t k = 0; k + 1 < ids.size(); ++k) {
      const Merge* merge = table.find(ids[k], ids[k + 1]);
      if (merge != nullptr && (best == nullptr || merge->rank < best->rank)) {
        best = merge;
        at = k;
      }
    }
    if (best == nullptr) return ids;
    ids[at] = best->result;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(at) + 1);
  }
}

// Random merges over the letters a to d, each of two pieces that exist.
struct RandomModel {
  std::vector<VocabEntry> vocab{{"a", 0}, {"b", 1}, {"c", 2}, {"d", 3}};
  std::vector<MergePair> merges;

  explicit RandomModel(std::mt19937& rng) {
    for (int k = 0; k < 40; ++k) {
      const std::string left = vocab[rng() % vocab.size()].first;
      const std::string right = vocab[rng() % vocab.size()].first;
      merges.emplace_back(left, right);
      const auto same = [&](const VocabEntry& e) { return e.first == left + right; };
      if (std::none_of(vocab.begin(), vocab.end(), same)) vocab.emplace_back(left + right, vocab.size());
    }
  }
  MergeTable table() const {
    MergeTable result;
    const PieceTable pieces(vocab, "f");
    for (size_t k = 0; k < merges.size(); ++k) {
      const auto& [left, right] = merges[k];
      result.set(pieces.find(left), pieces.find(right), {static_cast<int32_t>(k), pieces.find(left + right)});
    }
    return result;
  }
};

TEST(BpeModel, BothMergingLoopsAndCutsGiveTheDefinitionsResult) {
  std::mt19937 rng(11);
  for (int round = 0; round < 60; ++round) {
    const RandomModel random(rng);
    const MergeTable table = random.table();
    const BpeModel model(PieceTable(random.vocab, "f"), random.merges, {}, "f");
    BpeScratch scratch;
    for (int word = 0; word < 30; ++word) {
      std::string text;
      Ids letters;
      for (size_t k = 1 + rng() % 200; k > 0; --k) {
        letters.push_back(static_cast<int32_t>(rng() % 4));
        text += static_cast<char>('a' + letters.back());
      }
      const Ids expected = plain_bpe(table, letters);
      Ids short_form = letters;
      std::vector<Merge> merges;
      merge_short(table, short_form, merges);
      ASSERT_EQ(short_form, expected) << text;
      scratch.symbols = letters;
      merge_long(table, scratch);
      ASSERT_EQ(scratch.symbols, expected) << text;
      for (int time = 0; time < 2; ++time) {  // the second time the result comes from the cache
        Ids out;
        model.encode_word(text, scratch, out);
        ASSERT_EQ(out, expected) << text;
      }
    }
  }
}

TEST(BpeModel, AWordOfTenMegabytesIsNotQuadratic) {
  std::vector<VocabEntry> vocab{{"a", 0}};
  std::vector<MergePair> merges;
  std::string run = "a";
  for (int k = 1; k <= 6; ++k) {
    merges.emplace_back(run, run);
    run += run;
    vocab.emplace_back(run, k);
  }
  const BpeModel model(PieceTable(vocab, "f"), merges, {}, "f");
  BpeScratch scratch;
  Ids out;
  model.encode_word(std::string(10'000'000, 'a'), scratch, out);
  ASSERT_EQ(out.size(), 10'000'000u / 64);
  EXPECT_EQ(out, Ids(out.size(), 6));
  EXPECT_LE(scratch.symbols.capacity(), size_t{1} << 20);  // large buffers are released
}

TEST(BpeModel, RefusesMergesThatDoNotFitTheVocabulary) {
  const std::vector<VocabEntry> vocab{{"a", 0}, {"b", 1}, {"ab", 2}};
  const auto make = [&](const std::vector<MergePair>& merges) {
    return BpeModel(PieceTable(vocab, "f"), merges, {}, "f");
  };
  EXPECT_NO_THROW(make({{"a", "b"}, {"a", "b"}}));
  EXPECT_THROW(make({{"a", "x"}}), Error);
  EXPECT_THROW(make({{"b", "a"}}), Error);
  EXPECT_THROW(BpeModel(PieceTable(vocab, "f"), {}, {.unk_token = "<unk>"}, "f"), Error);
}

TEST(PieceTable, RefusesIdsAndPiecesTwiceOrOutOfRange) {
  EXPECT_THROW(PieceTable({{"a", 0}, {"b", 0}}, "f"), Error);
  EXPECT_THROW(PieceTable({{"a", 0}, {"a", 1}}, "f"), Error);
  EXPECT_THROW(PieceTable({{"a", -1}}, "f"), Error);
  EXPECT_THROW(PieceTable({{"a", 1 << 30}}, "f"), Error);
  EXPECT_THROW(PieceTable({{"", 0}}, "f"), Error);
  const PieceTable gap({{"a", 0}, {"b", 5}}, "f");
  EXPECT_EQ(gap.size(), 6);
  EXPECT_EQ(gap.find("b"), 5);
  EXPECT_EQ(gap.find("c"), -1);
  EXPECT_EQ(gap.piece(3), "");
}

}  // namespace
}  // namespace sepllm
