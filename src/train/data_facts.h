// What `prepare` notes next to a token file, in PREFIX.meta.json: which tokenizer its ids belong to. Files of
// other programs have no such note.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"
#include "train/token_file.h"

namespace sepllm {

// A hash of the first n tokens as their file writes them, 16 hexadecimal digits.
std::string hash_of_pieces(const Tokenizer& tokenizer, int64_t n);

std::string data_facts_path(const std::string& prefix);

// The note on a file of this many documents and tokens.
std::string data_facts(const Tokenizer& tokenizer, int64_t documents, int64_t tokens);

// Error (kInvalidArgument) if the note says that the ids belong to a tokenizer in which they have another
// meaning; `tokenizer` may have extra tokens at the end. Without a note, or if it is about another file,
// nothing is checked. Error (kBadFile) if the note cannot be read.
void check_prepared_with(const TokenFile& file, const Tokenizer& tokenizer);

}  // namespace sepllm
