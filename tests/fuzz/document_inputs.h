// Used by the fuzzer and by the replay of its corpus for bytes that claim to be JSON lines, a JSON array, or
// text.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/utf8.h"
#include "text/corpus/document_reader.h"

namespace sepllm::test {

// Reads all documents of a block, treating bad lines in each of the possible ways. True if there were no
// errors where bad lines are errors; anything but an Error or valid UTF-8 is a finding.
inline bool try_documents(std::string_view bytes, InputForm form) {
  const TextBlock block{.bytes = std::string(bytes), .file = "fuzz", .form = form};
  const auto visit = [](const DocumentPart& part) {
    if (utf8_find_invalid(part.text)) throw 0;
  };
  bool skipped = false, replaced = false;
  for (const OnBadLine on_bad_line : {OnBadLine::kSkip, OnBadLine::kReplace}) {  // never an Error
    const LineNotes notes = for_each_document(block, {.split_on = "\n\n", .on_bad_line = on_bad_line}, visit);
    skipped = skipped || notes.skipped > 0;
    replaced = replaced || notes.replaced > 0;
  }
  try {
    for_each_document(block, {.split_on = "\n\n"}, visit);
    if (skipped || replaced) throw 0;
    return true;
  } catch (const Error&) {
    if (!skipped && !replaced) throw 0;
    return false;
  }
}

// The same for a JSON array, given in one piece and byte by byte, which must not make a difference.
inline bool try_array(std::string_view bytes) {
  std::string lines, same;
  bool whole = true, same_whole = true;
  try {
    JsonArrayLines array("fuzz");
    array.feed(bytes, &lines);
    array.finish();
  } catch (const Error&) {
    whole = false;
  }
  try {
    JsonArrayLines array("fuzz");
    for (size_t at = 0; at < bytes.size(); ++at) array.feed(bytes.substr(at, 1), &same);
    array.finish();
  } catch (const Error&) {
    same_whole = false;
  }
  if (whole != same_whole || lines != same) throw 0;
  return try_documents(lines, InputForm::kJsonArray) && whole;
}

}  // namespace sepllm::test
