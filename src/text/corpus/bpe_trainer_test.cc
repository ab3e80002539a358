#include "text/corpus/bpe_trainer.h"

#include <gtest/gtest.h>

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"
#include "text/formats/tokenizer_json.h"

namespace sepllm {
namespace {

using test::expect_error;

std::vector<CountedWord> count(const std::vector<std::string>& texts,
                               const std::vector<std::string>& specials = {}, int n_workers = 1) {
  WordCounter counter(n_workers, specials);
  for (size_t i = 0; i < texts.size(); ++i) counter.add(texts[i], static_cast<int>(i) % n_workers);
  return counter.take();
}

TrainedBpe train(const std::vector<CountedWord>& words, const BpeTrainOptions& options) {
  return train_bpe(words, options, [](int64_t) { return true; });
}

std::vector<std::string> merges_of(const TrainedBpe& bpe) {
  std::vector<std::string> out;
  for (const auto& [left, right] : bpe.merges) {
    out.push_back(bpe.pieces[static_cast<size_t>(left)] + " " + bpe.pieces[static_cast<size_t>(right)]);
  }
  return out;
}

TEST(WordCounter, CountsWordsOnAllWorkersAndLeavesSpecialsOut) {
  const std::vector<std::string> texts = {"a b a<s>b b", "<s><s>a<sb<s", " b\n\n", "", "a<s>", "<s>b"};
  for (const int n_workers : {1, 4}) {
    std::map<std::string, int64_t> got;
    for (const CountedWord& word : count(texts, {"<s", "<s>", "none"}, n_workers)) {
      EXPECT_TRUE(got.empty() || got.rbegin()->first < word.bytes);  // ordered
      got[word.bytes] = word.count;
    }
    const std::map<std::string, int64_t> want = {{"a", 3}, {" b", 3}, {" a", 1}, {"b", 3}, {"\n\n", 1}};
    EXPECT_EQ(got, want);
  }
}

TEST(WordCounter, APartOfATextIsCountedAsTheWhole) {
  const std::string text = "one two\n\n three\n  four\r\n five five";
  const auto whole = count({text});
  for (size_t at = 1; at < text.size(); ++at) {
    if ((text[at] != '\n' && text[at] != '\r') || std::isalpha(text[at - 1]) == 0) continue;
    const auto parts = count({text.substr(0, at), text.substr(at)});
    ASSERT_EQ(parts.size(), whole.size()) << at;
    for (size_t i = 0; i < parts.size(); ++i) {
      EXPECT_EQ(parts[i].bytes, whole[i].bytes);
      EXPECT_EQ(parts[i].count, whole[i].count);
    }
  }
}

TEST(BpeTrainer, FindsTheTokenizersLibrarysMerges) {
  const Json golden = test::read_json(test::golden_folder() + "/bpe_training/golden.json");
  const auto documents = golden["documents"].get<std::vector<std::string>>();
  const auto words = count(documents);
  for (const Json& c : golden["cases"]) {
    const BpeTrainOptions options = {.vocab_size = c["vocab_size"],
                                     .min_frequency = c["min_frequency"],
                                     .specials = c["specials"].get<std::vector<std::string>>()};
    const TrainedBpe bpe = train(words, options);
    EXPECT_EQ(bpe.pieces, c["pieces"].get<std::vector<std::string>>());
    EXPECT_EQ(merges_of(bpe), c["merges"].get<std::vector<std::string>>());
    // The written file gives the same ids as that library.
    const auto tokenizer = parse_tokenizer_json(tokenizer_json_of(bpe), "trained");
    EXPECT_EQ(tokenizer->vocab_size(), static_cast<int64_t>(bpe.pieces.size()));
    for (size_t d = 0; d < documents.size(); ++d) {
      const auto ids = tokenizer->encode(documents[d]);
      EXPECT_EQ(ids, c["ids"][d].get<std::vector<int32_t>>()) << documents[d];
      EXPECT_EQ(tokenizer->decode(ids), documents[d]);
    }
  }
}

// The definition: all pairs are counted again for every merge.
std::vector<std::string> plain_merges(const std::vector<CountedWord>& words, const TrainedBpe& base, int n) {
  std::vector<std::string> pieces = base.pieces;
  std::map<std::string, int32_t> ids;
  for (size_t i = 0; i < pieces.size(); ++i) ids[pieces[i]] = static_cast<int32_t>(i);
  std::vector<std::vector<int32_t>> texts;
  for (const CountedWord& word : words) {
    texts.emplace_back();
    for (const char c : word.bytes) texts.back().push_back(ids.at(std::string(1, c)));
  }
  std::vector<std::string> merges;
  while (static_cast<int>(merges.size()) < n) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (size_t w = 0; w < texts.size(); ++w) {
      for (size_t i = 1; i < texts[w].size(); ++i) counts[{texts[w][i - 1], texts[w][i]}] += words[w].count;
    }
    auto best = counts.end();
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      if (best == counts.end() || it->second > best->second) best = it;
    }
    if (best == counts.end() || best->second < 2) break;
    const auto [left, right] = best->first;
    merges.push_back(pieces[static_cast<size_t>(left)] + " " + pieces[static_cast<size_t>(right)]);
    const std::string joined = pieces[static_cast<size_t>(left)] + pieces[static_cast<size_t>(right)];
    if (ids.contains(joined)) break;  // two ways to make the text of one token: not part of this test
    ids[joined] = static_cast<int32_t>(pieces.size());
    pieces.push_back(joined);
    for (auto& text : texts) {
      std::vector<int32_t> out;
      for (size_t i = 0; i < text.size(); ++i) {
        const bool here = i + 1 < text.size() && text[i] == left && text[i + 1] == right;
        out.push_back(here ? ids[joined] : text[i]);
        i += here ? 1 : 0;
      }
      text = out;
    }
  }
  return merges;
}

TEST(BpeTrainer, AgreesWithCountingAnew) {
  const TrainedBpe base = train({}, {.vocab_size = 257});
  EXPECT_TRUE(base.merges.empty());
  uint64_t state = 1;
  const auto random = [&](uint64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
  };
  for (int round = 0; round < 30; ++round) {
    const uint64_t n_letters = 1 + random(4);
    std::map<std::string, int64_t> drawn;
    for (int w = 0; w < 60; ++w) {
      std::string word;
      for (uint64_t n = 1 + random(9); n > 0; --n) word += static_cast<char>('a' + random(n_letters));
      drawn[word] += static_cast<int64_t>(1 + random(3));
    }
    std::vector<CountedWord> words;
    for (const auto& [word, n] : drawn) words.push_back({word, n});
    const auto want = plain_merges(words, base, 40);
    auto got = merges_of(train(words, {.vocab_size = 257 + static_cast<int64_t>(want.size())}));
    EXPECT_EQ(got, want) << round;
  }
}

TEST(BpeTrainer, EndsWhereNoPairIsLeft) {
  const TrainedBpe bpe = train(count({"abc abc"}), {.vocab_size = 1000});
  EXPECT_EQ(merges_of(bpe), (std::vector<std::string>{"a b", "ab c"}));
  EXPECT_EQ(bpe.pieces.size(), 259u);
}

TEST(BpeTrainer, RefusesWhatCannotBe) {
  const auto refuses = [](const BpeTrainOptions& options, const std::string& part) {
    expect_error([&] { train({}, options); }, ErrorCode::kInvalidArgument, {part});
  };
  refuses({.vocab_size = 256}, "at least 257");
  refuses({.vocab_size = int64_t{1} << 31}, "size of the vocabulary");
  refuses({.vocab_size = 300, .specials = {"a", ""}}, "empty");
  refuses({.vocab_size = 300, .specials = {"a", "a"}}, "twice");
  refuses({.vocab_size = 300, .specials = {"\xff"}}, "UTF-8");
  std::vector<CountedWord> words;
  for (int i = 0; i < 300; ++i) words.push_back({std::to_string(1000 + i), 2});
  expect_error([&] { train_bpe(words, {.vocab_size = 1000}, [](int64_t) { return false; }); },
               ErrorCode::kInvalidArgument, {"interrupted"});
}

}  // namespace
}  // namespace sepllm
