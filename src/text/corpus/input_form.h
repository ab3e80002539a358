// Determines in which form a file holds its documents, by its first bytes and its name.
#pragma once

#include <string>
#include <string_view>

namespace sepllm {

enum class DocumentFormat {
  kAuto,      // JSON lines where the name (without endings of packed files) ends in .jsonl, .ndjson or .json
  kText,      // one document per file, or what lies between `split_on`
  kJsonLines  // one object per line, or a JSON array of objects; a document's text is under `json_key`
};

enum class InputForm { kText, kJsonLines, kJsonArray };

// The form of a file by the first bytes of its (unpacked) content; give at least kFileKindBytes if it has as
// many. If the file is of a kind that is not text (Parquet, packed by xz, a PDF, UTF-16, a Git LFS pointer,
// ...), throws an Error (kUnsupported) that says what the file is and what to do with it; a file that the
// user declared as text may begin like one of these if the mark consists of plain letters. Warns of a text
// that looks like JSON lines or HTML if the user has not declared it as text.
InputForm input_form(const std::string& file, std::string_view start, DocumentFormat format);

}  // namespace sepllm
