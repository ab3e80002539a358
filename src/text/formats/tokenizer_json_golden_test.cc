// Small tokenizers with every kind of step: the same ids and texts as the `tokenizers` library
// (tests/golden/tokenizers/cases.json, made by oracles/make_tokenizer_cases.py).
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "tests/support/support.h"
#include "text/formats/tokenizer_json.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;

// A stream that continues after the first half of `ids` shows what decode() adds (if it only adds: BPEDecoder
// with a mark at the start of tokens changes earlier text).
void expect_second_half(const Tokenizer& tokenizer, const Ids& ids) {
  const auto middle = ids.begin() + static_cast<ptrdiff_t>(ids.size() / 2);
  const Ids first(ids.begin(), middle);
  const std::string before = tokenizer.decode(first);
  const std::string whole = tokenizer.decode(ids);
  if (!whole.starts_with(before)) return;
  StreamDecoder stream(tokenizer, first);
  std::string shown;
  for (auto id = middle; id != ids.end(); ++id) shown += stream.push(*id);
  EXPECT_EQ(shown + stream.finish(), utf8_sanitize(whole.substr(before.size())));
}

TEST(TokenizerJsonGolden, EqualsTheTokenizersLibrary) {
  const std::string path = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/tokenizers/cases.json";
  const nlohmann::json golden = nlohmann::json::parse(read_file(path));
  ASSERT_GE(golden.at("tokenizers").size(), 70u);
  for (const auto& entry : golden.at("tokenizers")) {
    SCOPED_TRACE(entry.at("name").get<std::string>());
    nlohmann::json document = entry.at("tokenizer");
    document["model"] = golden.at("models").at(document.at("model").get<size_t>());
    const auto tokenizer = parse_tokenizer_json(document.dump(), "tokenizer.json");
    for (const auto& c : entry.at("cases")) {
      const auto text = c.at("text").get<std::string>();
      SCOPED_TRACE(text);
      const Ids ids = c.at("ids");
      EXPECT_EQ(tokenizer->encode(text), ids);
      EXPECT_EQ(tokenizer->encode(text, {.add_special = true}), c.value("framed", ids));
      EXPECT_EQ(tokenizer->encode(text, {.parse_special = false}), c.value("plain", ids));
      EXPECT_EQ(utf8_sanitize(tokenizer->decode(ids)), c.at("decoded").get<std::string>());
      StreamDecoder stream(*tokenizer);
      std::string shown;
      for (const int32_t id : ids) shown += stream.push(id);
      EXPECT_EQ(shown + stream.finish(), c.at("decoded").get<std::string>());
      expect_second_half(*tokenizer, ids);
    }
  }
}

}  // namespace
}  // namespace sepllm
