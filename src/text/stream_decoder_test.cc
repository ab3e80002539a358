#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "tests/support/fake_tokenizer.h"
#include "tests/support/support.h"
#include "text/formats/llama2c_tokenizer.h"
#include "text/formats/sentencepiece_tokenizer.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;
using test::FakeTokenizer;

// What the decoder shows for `ids` after `prefix`, and what it must show.
void expect_stream_equals_decode(const Tokenizer& tokenizer, const Ids& prefix, const Ids& ids, bool skip) {
  StreamDecoder stream(tokenizer, prefix, skip);
  std::string shown;
  for (const int32_t id : ids) {
    const std::string part = stream.push(id);
    EXPECT_EQ(utf8_find_invalid(part), std::nullopt);
    shown += part;
  }
  shown += stream.finish();
  Ids all = prefix;
  all.insert(all.end(), ids.begin(), ids.end());
  const std::string before = tokenizer.decode(prefix, skip);
  EXPECT_EQ(shown, utf8_sanitize(tokenizer.decode(all, skip).substr(before.size())));
}

TEST(StreamDecoder, HoldsBackUnfinishedCharacters) {
  const FakeTokenizer tokenizer({"a", "\xE2", "\x82\xAC", "\xE2\x82"});
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(0), "a");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(2), "€");
  EXPECT_EQ(stream.push(3), "");
  EXPECT_EQ(stream.push(0), "\uFFFDa");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(StreamDecoder, EqualsDecodeOnRandomTokens) {
  FakeTokenizer tokenizer(
      {"a", " b", "\xE2", "\x82", "\xAC", "\xF0\x9F", "\x98\x80", "€", "<s>", "", "\xFF"});
  tokenizer.make_special(8);
  std::mt19937 rng(3);
  const auto some = [&](size_t most) {
    Ids ids(rng() % (most + 1));
    for (int32_t& id : ids) id = static_cast<int32_t>(rng() % 12);  // 11 is not in the vocabulary
    return ids;
  };
  for (int round = 0; round < 500; ++round) {
    expect_stream_equals_decode(tokenizer, some(3), some(12), round % 2 == 0);
  }
}

TEST(StreamDecoder, DropsTheBlankAtTheStartAsDecodeDoes) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto sentencepiece = load_sentencepiece(data + "/tokenizers/llama2/tokenizer.model");
  const auto llama2c = load_llama2c(data + "/tokenizers/llama2/tokenizer.bin", 32000);
  for (const Tokenizer* tokenizer : {sentencepiece.get(), llama2c.get()}) {
    const Ids ids = tokenizer->encode("Hello, ★ wörld");
    for (const bool skip : {false, true}) {
      for (const Ids& prefix : {Ids{}, Ids{1}, Ids{1, 2}, Ids{15043}, Ids{1, 29871}}) {
        expect_stream_equals_decode(*tokenizer, prefix, ids, skip);
      }
    }
    StreamDecoder stream(*tokenizer, {1}, true);
    EXPECT_EQ(stream.push(15043), "Hello");
    EXPECT_EQ(stream.push(15043), " Hello");
  }
}

}  // namespace
}  // namespace sepllm
