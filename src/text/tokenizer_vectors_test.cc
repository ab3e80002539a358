// Published vectors of real tokenizers (skipped where the data folder is absent).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "tests/support/support.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

struct Case {
  std::string text;
  std::vector<int32_t> ids;
};

std::vector<int32_t> parse_ids(std::string list) {
  std::replace(list.begin(), list.end(), ',', ' ');
  std::istringstream in(list);
  std::vector<int32_t> ids;
  for (int32_t id = 0; in >> id;) ids.push_back(id);
  return ids;
}

std::vector<std::string> split(const std::string& text, const std::string& mark) {
  std::vector<std::string> parts;
  size_t done = 0;
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, done)) {
    parts.push_back(text.substr(done, at - done));
    done = at + mark.size();
  }
  parts.push_back(text.substr(done));
  return parts;
}

// One case per line: "text => 1,2,3".
std::vector<Case> ggml_cases(const std::string& path) {
  std::vector<Case> cases;
  for (const std::string& line : split(read_file(path), "\n")) {
    const size_t arrow = line.rfind(" => ");
    if (arrow != std::string::npos)
      cases.push_back({line.substr(0, arrow), parse_ids(line.substr(arrow + 4))});
  }
  return cases;
}

// Texts in PATH.inp with a marked line between them, and a line of ids for each in PATH.out.
std::vector<Case> llama_cpp_cases(const std::string& path) {
  const auto texts = split(read_file(path + ".inp"), "\n__ggml_vocab_test__\n");
  const auto lines = split(read_file(path + ".out"), "\n");
  std::vector<Case> cases;
  for (size_t k = 0; k < texts.size() && k < lines.size(); ++k)
    cases.push_back({texts[k], parse_ids(lines[k])});
  return cases;
}

std::vector<Case> json_cases(const std::string& path) {
  std::vector<Case> cases;
  const Json document = parse_json(read_file(path), path);
  for (const Json& entry : document.at("cases")) {
    cases.push_back({entry.at("text"), entry.at("ids").get<std::vector<int32_t>>()});
  }
  return cases;
}

void expect_all(const Tokenizer& tokenizer, const std::vector<Case>& cases, size_t at_least) {
  EXPECT_GE(cases.size(), at_least);
  for (const Case& c : cases) {
    EXPECT_EQ(tokenizer.encode(c.text), c.ids) << c.text;
    EXPECT_EQ(tokenizer.decode(c.ids), c.text);
  }
}

TEST(TokenizerVectors, Gpt2) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_tokenizer(data + "/tokenizers/gpt2");
  expect_all(*tokenizer, ggml_cases(data + "/tokenizer_vectors/ggml/gpt-2.txt"), 100);
  expect_all(*tokenizer, llama_cpp_cases(data + "/tokenizer_vectors/llama.cpp/ggml-vocab-gpt-2.gguf"), 46);
  expect_all(*tokenizer, json_cases(data + "/tokenizer_vectors/other/gpt2_cases.json"), 10);
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  EXPECT_EQ(tokenizer->eos_id(), 50256);
  EXPECT_FALSE(tokenizer->adds_bos());
}

TEST(TokenizerVectors, Gpt2OwnFiles) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_tokenizer(data + "/tokenizers/gpt2/vocab.json");
  expect_all(*tokenizer, ggml_cases(data + "/tokenizer_vectors/ggml/gpt-2.txt"), 100);
  expect_all(*tokenizer, llama_cpp_cases(data + "/tokenizer_vectors/llama.cpp/ggml-vocab-gpt-2.gguf"), 46);
  expect_all(*tokenizer, json_cases(data + "/tokenizer_vectors/other/gpt2_cases.json"), 10);
}

TEST(TokenizerVectors, GptNeox) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_tokenizer(data + "/tokenizers/gpt-neox-20b");
  expect_all(*tokenizer, ggml_cases(data + "/tokenizer_vectors/ggml/gpt-neox.txt"), 100);
  expect_all(*tokenizer, ggml_cases(data + "/tokenizer_vectors/ggml/dolly-v2.txt"), 100);
  expect_all(*tokenizer, llama_cpp_cases(data + "/tokenizer_vectors/llama.cpp/ggml-vocab-mpt.gguf"), 46);
  EXPECT_EQ(tokenizer->vocab_size(), 50277);
}

TEST(TokenizerVectors, Falcon) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_tokenizer(data + "/tokenizers/falcon");
  expect_all(*tokenizer, llama_cpp_cases(data + "/tokenizer_vectors/llama.cpp/ggml-vocab-falcon.gguf"), 46);
  EXPECT_EQ(tokenizer->eos_id(), 11);
  EXPECT_EQ(tokenizer->bos_id(), 11);  // from config.json
  EXPECT_EQ(tokenizer->vocab_size(), 65024);
}

TEST(TokenizerVectors, Llama3) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_tokenizer(data + "/tokenizers/llama3");
  EXPECT_EQ(tokenizer->format(), "tiktoken");
  expect_all(*tokenizer, llama_cpp_cases(data + "/tokenizer_vectors/llama.cpp/ggml-vocab-llama-bpe.gguf"),
             46);
  expect_all(*tokenizer, json_cases(data + "/tokenizer_vectors/other/llama3_cases.json"), 10);
  EXPECT_EQ(tokenizer->bos_id(), 128000);
  EXPECT_EQ(tokenizer->find("<|eot_id|>"), 128009);
  EXPECT_EQ(tokenizer->vocab_size(), 128256);
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(TokenizerVectors, Llama3CountsTokensOfABookByLines) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_tokenizer(data + "/tokenizers/llama3");
  const auto counts = split(read_file(data + "/expected/llama3_pg19_10146_line_token_counts.txt"), "\n");
  const auto lines = split(read_file(data + "/text/pg19/test/10146.txt"), "\n");
  ASSERT_GE(counts.size(), 1679u);
  for (size_t k = 0; k < 1679; ++k) {
    ASSERT_EQ(tokenizer->encode(lines[k]).size(), std::stoul(counts[k])) << "line " << k + 1;
  }
}

}  // namespace
}  // namespace sepllm
