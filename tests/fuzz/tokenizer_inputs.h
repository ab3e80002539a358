// Used by the fuzzers and by the replay of their corpora for bytes that claim to be a tokenizer.json, or the
// files next to one.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "text/formats/tokenizer_config.h"
#include "text/formats/tokenizer_json.h"

namespace sepllm::test {

inline void use_tokenizer(const Tokenizer& tokenizer) {
  const auto ids =
      tokenizer.encode("Hello <s>w\u00f6rld</s>  12345, it's\n\n\t\u4f60\u597d \U0001f600 aaaaaaaa",
                       {.parse_special = true, .add_special = true});
  tokenizer.decode(ids);
  StreamDecoder stream(tokenizer, {}, true);
  for (const int32_t id : ids) stream.push(id);
  stream.finish();
}

// Reads, encodes a short text and decodes it in both ways, also with settings of the files next to it. True
// if the bytes are a tokenizer; false for an Error; anything else is a finding.
inline bool try_tokenizer_json(std::string_view bytes) {
  try {
    use_tokenizer(*parse_tokenizer_json(bytes, "fuzz"));
    for (const bool on : {false, true}) {
      TokenizerConfig config;
      config.add_bos = config.add_eos = config.add_prefix_space = on;
      config.prefix_everywhere = on;
      config.tokens.push_back({{.id = on ? 5 : -1, .content = "<s>", .special = true}, "fuzz"});
      config.eos.text = "<s>";
      use_tokenizer(*parse_tokenizer_json(bytes, "fuzz", config));
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

// `bytes`: tokenizer_config.json, special_tokens_map.json, added_tokens.json, generation_config.json and
// config.json, separated by lines "---"; the last ones may be missing. They are read and given to a small
// tokenizer.
inline bool try_tokenizer_config(std::string_view bytes) {
  const std::string_view tokenizer =
      R"({"version":"1.0","added_tokens":[{"id":3,"content":"<s>","special":true}],)"
      R"("normalizer":{"type":"Prepend","prepend":"\u2581"},"pre_tokenizer":{"type":"ByteLevel"},)"
      R"("decoder":{"type":"ByteLevel"},)"
      R"("model":{"type":"BPE","vocab":{"H":0,"e":1,"He":2},"merges":["H e"]}})";
  HubDocuments documents;
  try {
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                             "generation_config.json", "config.json"}) {
      const size_t end = bytes.find("\n---\n");
      documents.emplace(name, parse_json(bytes.substr(0, end), name));
      if (end == std::string_view::npos) break;
      bytes.remove_prefix(end + 5);
    }
    use_tokenizer(*parse_tokenizer_json(tokenizer, "fuzz", parse_tokenizer_config(documents, "fuzz")));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sepllm::test
