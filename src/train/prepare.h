// Turns text into token files.
#pragma once

#include <cstdint>
#include <optional>

#include "base/function_ref.h"
#include "base/thread_pool.h"
#include "base/token_set.h"
#include "text/corpus/document_reader.h"
#include "text/tokenizer.h"
#include "train/token_file.h"

namespace sepllm {

struct PrepareOptions {
  std::optional<int32_t> bos{};  // before each document
  std::optional<int32_t> eod{};  // after each document
  bool parse_special = true;     // names of special tokens in the text become these tokens
};

struct PrepareReport {
  int64_t documents = 0;   // written
  int64_t empty = 0;       // documents without text, which are left out
  int64_t text_bytes = 0;  // of the documents
  int64_t tokens = 0;      // including BOS and EOD
  int64_t separators = 0;  // how many of these are separators
  LineNotes lines{};       // bad lines
};

// Tokenises the documents of `reader` on all threads of `pool` and adds them to `writer` in their order.
// `go_on` is called now and then; if it returns false, an Error "interrupted" is thrown. Ids of special
// tokens and of `separators` belong to the tokenizer. Errors as for DocumentReader and the writer; if there
// was none, call writer.finish().
PrepareReport prepare_tokens(DocumentReader& reader, const Tokenizer& tokenizer, const TokenSet& separators,
                             const PrepareOptions& options, TokenFileWriter& writer, ThreadPool& pool,
                             FunctionRef<bool(const PrepareReport& so_far)> go_on);

}  // namespace sepllm
