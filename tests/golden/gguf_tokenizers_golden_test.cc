// Tokenizers of GGUF files: ids are those of llama.cpp, under every name of a pre-tokenizer that is known
// (tests/golden/make_gguf_tokenizers_golden.py), and a tokenizer survives being written as GGUF.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_writer.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"
#include "text/formats/gguf_pre_tokenizers.h"
#include "text/formats/gguf_tokenizer.h"
#include "text/formats/gguf_tokenizer_fields.h"

namespace sepllm::test {
namespace {

class GgufTokenizers : public testing::Test {
 protected:
  GgufTokenizers() : golden_(read_json(golden_folder() + "/gguf_tokenizers.json")) {}

  static GgufFields fields(const Json& vocabulary, const std::string& model, const std::string& pre) {
    GgufFields out;
    out.text("tokenizer.ggml.model", model);
    out.text("tokenizer.ggml.pre", pre);
    out.texts("tokenizer.ggml.tokens", vocabulary["tokens"].get<std::vector<std::string>>());
    out.i32s("tokenizer.ggml.token_type", vocabulary["types"].get<std::vector<int32_t>>());
    if (vocabulary.contains("merges"))
      out.texts("tokenizer.ggml.merges", vocabulary["merges"].get<std::vector<std::string>>());
    if (vocabulary.contains("scores"))
      out.f32s("tokenizer.ggml.scores", vocabulary["scores"].get<std::vector<float>>());
    out.u32("tokenizer.ggml.bos_token_id", vocabulary["bos"].get<uint32_t>());
    out.u32("tokenizer.ggml.eos_token_id", vocabulary["eos"].get<uint32_t>());
    return out;
  }
  // A file without tensors.
  std::string write(const GgufFields& fields) const {
    const std::string path = folder_.file("tokenizer.gguf");
    GgufWriter(path, fields, {}).commit();
    return path;
  }
  std::string write_case(const Json& one) const {
    const std::string model = one["model"];
    GgufFields out = fields(golden_["vocabularies"][model], model, one["pre"]);
    for (const auto& [key, value] : one["flags"].items()) out.flag("tokenizer.ggml." + key, value);
    return write(out);
  }

  Json golden_;
  TemporaryFolder folder_;
};

std::vector<std::vector<int32_t>> encode_all(const Tokenizer& tokenizer, const Json& texts, bool special) {
  std::vector<std::vector<int32_t>> out;
  for (const Json& text : texts)
    out.push_back(
        tokenizer.encode(text.get<std::string>(), {.parse_special = special, .add_special = special}));
  return out;
}

TEST_F(GgufTokenizers, IdsAreThoseOfLlamaCpp) {
  std::set<std::string> names;
  for (const Json& one : golden_["cases"]) {
    const std::string what = json_text(one["pre"]) + json_text(one["flags"]);
    names.insert(one["pre"].get<std::string>());
    const auto tokenizer = load_tokenizer(write_case(one));
    for (const bool special : {false, true}) {
      const auto ours = encode_all(*tokenizer, golden_["texts"], special);
      for (size_t k = 0; k < ours.size(); ++k) {
        const auto theirs = one[special ? "special" : "plain"][k].get<std::vector<int32_t>>();
        EXPECT_EQ(ours[k], theirs) << one["model"] << " " << what << " special " << special << ": "
                                   << golden_["texts"][k];
      }
    }
  }
  for (const char* name : {"llama-bpe", "qwen2", "tekken", "default"}) EXPECT_TRUE(names.count(name)) << name;
}

// Written as GGUF from what a file was read as, and from a folder.
TEST_F(GgufTokenizers, TheWayBackGivesTheSameIds) {
  for (const Json& one : golden_["cases"]) {
    const std::string path = write_case(one);
    const auto first = load_tokenizer(path);
    const auto second = load_tokenizer(write(gguf_tokenizer_fields(path, first->vocab_size())));
    for (const bool special : {false, true}) {
      EXPECT_EQ(encode_all(*second, golden_["texts"], special), encode_all(*first, golden_["texts"], special))
          << one["pre"] << one["flags"];
    }
    EXPECT_EQ(second->bos_id(), first->bos_id());
    EXPECT_EQ(second->eos_id(), first->eos_id());
  }
}

TEST_F(GgufTokenizers, UnknownAndContradictoryMetadataAreErrors) {
  const Json& bpe = golden_["vocabularies"]["gpt2"];
  const auto expect = [&](GgufFields fields, ErrorCode code, const std::vector<std::string>& parts) {
    const std::string path = write(fields);
    expect_error([&] { load_tokenizer(path); }, code, parts);
  };
  expect(fields(bpe, "gpt2", "whoever"), ErrorCode::kUnsupported,
         {"tokenizer.ggml.pre", "whoever", "llama-bpe", "tokenizer.json"});
  expect(fields(bpe, "bert", "default"), ErrorCode::kUnsupported, {"tokenizer.ggml.model", "bert"});
  GgufFields none;
  none.text("general.architecture", "llama");
  expect(none, ErrorCode::kNotFound, {"no tokenizer"});
  Json changed = bpe;
  changed["types"].erase(0);
  expect(fields(changed, "gpt2", "gpt-2"), ErrorCode::kBadFile, {"tokenizer.ggml.token_type"});
  changed = bpe;
  changed["types"][5] = 9;
  expect(fields(changed, "gpt2", "gpt-2"), ErrorCode::kBadFile, {"tokenizer.ggml.token_type"});
  changed = bpe;
  changed["bos"] = 100000;
  expect(fields(changed, "gpt2", "gpt-2"), ErrorCode::kBadFile, {"tokenizer.ggml.bos_token_id"});
  changed = bpe;
  changed["merges"][3] = "nothing here";
  expect(fields(changed, "gpt2", "gpt-2"), ErrorCode::kBadFile, {});
  changed = golden_["vocabularies"]["llama"];
  changed["scores"].erase(0);
  expect(fields(changed, "llama", "default"), ErrorCode::kBadFile, {"tokenizer.ggml.scores"});
}

TEST_F(GgufTokenizers, ChatTemplatesComeFromTheMetadata) {
  GgufFields all = fields(golden_["vocabularies"]["gpt2"], "gpt2", "gpt-2");
  all.text("tokenizer.chat_template", "the usual one");
  all.text("tokenizer.chat_template.tool_use", "another");
  const auto tokenizer = load_tokenizer(write(all));
  EXPECT_EQ(tokenizer->chat_template(), "the usual one");
  ASSERT_EQ(tokenizer->chat_templates().size(), 2U);
  EXPECT_EQ(tokenizer->chat_templates()[1].name, "tool_use");
  EXPECT_EQ(tokenizer->chat_templates()[1].text, "another");
}

}  // namespace
}  // namespace sepllm::test
