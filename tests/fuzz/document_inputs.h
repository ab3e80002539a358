// What the fuzzer and the replay of its corpus do with bytes that claim to be JSON lines, or text.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"
#include "text/corpus/document_reader.h"

namespace sepllm::test {

// Reads all documents of a block. True if there were no errors; anything but an Error or valid UTF-8 is a
// finding.
inline bool try_documents(std::string_view bytes, bool is_json) {
  try {
    const TextBlock block{.bytes = std::string(bytes), .file = "fuzz", .is_json = is_json};
    for_each_document(block, {.split_on = "\n\n"}, [](const DocumentPart& part) {
      if (utf8_find_invalid(part.text)) throw 0;
    });
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sepllm::test
