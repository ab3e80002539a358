// In which form a file holds its documents, by its first bytes and its name.
#pragma once

#include <string>
#include <string_view>

namespace sepllm {

enum class DocumentFormat {
  kAuto,      // JSON lines where the name (without endings of packed files) ends in .jsonl, .ndjson or .json
  kText,      // a document a file, or what lies between `split_on`
  kJsonLines  // an object a line, or a JSON array of objects; a document's text is under `json_key`
};

enum class InputForm { kText, kJsonLines, kJsonArray };

// The form of a file by the first bytes of its (unpacked) content, at least kFileKindBytes where there are as
// many. Error (kUnsupported) that says what the file is and what to do with it, where it is of a kind that is
// no text (Parquet, packed by xz, a PDF, UTF-16, a Git LFS pointer ...); a file that is to be read as text
// may begin as one of these if the letters are plain. Warns of a text that looks like JSON lines or HTML
// where nobody has said that it is text.
InputForm input_form(const std::string& file, std::string_view start, DocumentFormat format);

}  // namespace sepllm
