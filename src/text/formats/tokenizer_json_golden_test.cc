// Small tokenizers with every kind of step: the same ids and texts as the `tokenizers` library
// (tests/golden/tokenizers/cases.json, made by oracles/make_tokenizer_cases.py).
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "tests/support/support.h"
#include "text/formats/tokenizer_json.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;

TEST(TokenizerJsonGolden, EqualsTheTokenizersLibrary) {
  const std::string path = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/tokenizers/cases.json";
  const nlohmann::json golden = nlohmann::json::parse(read_file(path));
  ASSERT_GE(golden.at("tokenizers").size(), 40u);
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
      EXPECT_EQ(tokenizer->encode(text, {.add_special = true}), c.at("framed").get<Ids>());
      EXPECT_EQ(tokenizer->encode(text, {.parse_special = false}), c.at("plain").get<Ids>());
      EXPECT_EQ(utf8_sanitize(tokenizer->decode(ids)), c.at("decoded").get<std::string>());
      StreamDecoder stream(*tokenizer);
      std::string shown;
      for (const int32_t id : ids) shown += stream.push(id);
      EXPECT_EQ(shown + stream.finish(), c.at("decoded").get<std::string>());
    }
  }
}

}  // namespace
}  // namespace sepllm
