// Tokenizers of every form with the files that the Hub puts next to them: the same ids and texts as
// transformers (tests/golden/tokenizers/folders.json, made by oracles/make_tokenizer_folder_cases.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/utf8.h"
#include "tests/support/support.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;
using Golden = nlohmann::json;

std::string from_base64(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(digits.find(c));
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    out += static_cast<char>(bits >> n_bits & 0xFF);
  }
  return out;
}

void write_form(const test::TemporaryFolder& folder, const Golden& golden, const std::string& form) {
  const Golden& binary = golden.at("base64");
  const bool coded = std::find(binary.begin(), binary.end(), form) != binary.end();
  for (const auto& [name, content] : golden.at("forms").at(form).items()) {
    const auto text = content.get<std::string>();
    folder.write(name, coded ? from_base64(text) : text);
  }
}

void expect_case(const Tokenizer& tokenizer, const Golden& c) {
  const auto text = c.at("text").get<std::string>();
  SCOPED_TRACE(text);
  const Ids ids = c.at("ids");
  EXPECT_EQ(tokenizer.encode(text), ids);
  EXPECT_EQ(tokenizer.encode(text, {.add_special = true}), c.at("framed").get<Ids>());
  EXPECT_EQ(utf8_sanitize(tokenizer.decode(ids)), c.at("decoded").get<std::string>());
  EXPECT_EQ(utf8_sanitize(tokenizer.decode(ids, true)), c.at("shown").get<std::string>());
}

TEST(LoadTokenizerGolden, EqualsTransformers) {
  const Golden golden =
      Golden::parse(read_file(std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/tokenizers/folders.json"));
  ASSERT_GE(golden.at("folders").size(), 100u);
  for (const auto& entry : golden.at("folders")) {
    SCOPED_TRACE(entry.at("name").get<std::string>());
    const test::TemporaryFolder folder;
    write_form(folder, golden, entry.at("form"));
    for (const auto& [name, content] : entry.at("files").items()) folder.write(name, content.dump());
    const auto tokenizer = load_tokenizer(folder.path());
    EXPECT_EQ(tokenizer->bos_id(), entry.at("bos").get<int32_t>());
    EXPECT_EQ(tokenizer->eos_id(), entry.at("eos").get<int32_t>());
    for (const auto& c : entry.at("cases")) expect_case(*tokenizer, c);
  }
}

}  // namespace
}  // namespace sepllm
