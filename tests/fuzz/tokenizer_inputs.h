// What the fuzzer and the replay of its corpus do with bytes that claim to be a tokenizer.json.
#pragma once

#include <string_view>

#include "base/error.h"
#include "text/formats/tokenizer_json.h"

namespace sepllm::test {

// Reads, encodes a short text and decodes it in both ways. True if the bytes are a tokenizer; false for an
// Error; anything else is a finding.
inline bool try_tokenizer_json(std::string_view bytes) {
  try {
    const auto tokenizer = parse_tokenizer_json(bytes, "fuzz");
    const auto ids =
        tokenizer->encode("Hello <s>w\u00f6rld</s>  12345, it's\n\n\t\u4f60\u597d \U0001f600 aaaaaaaa",
                          {.parse_special = true, .add_special = true});
    tokenizer->decode(ids);
    StreamDecoder stream(*tokenizer, {}, true);
    for (const int32_t id : ids) stream.push(id);
    stream.finish();
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sepllm::test
