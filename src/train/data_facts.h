// What `prepare` notes next to a token file, in PREFIX.meta.json: whose ids they are. Files of other programs
// have no such note.
#pragma once

#include <string>

#include "text/tokenizer.h"
#include "train/token_file.h"

namespace sepllm {

// Of the first n tokens as their file writes them, 16 hexadecimal digits.
std::string hash_of_pieces(const Tokenizer& tokenizer, int64_t n);

std::string data_facts_path(const std::string& prefix);

// The note on a file of so many documents and tokens.
std::string data_facts(const Tokenizer& tokenizer, int64_t documents, int64_t tokens);

// Error (kInvalidArgument) where the note says that the ids are of a tokenizer in which they mean something
// else; that one may have more tokens behind them. Nothing is known, and nothing said, without a note or
// where it is about another file. Error (kBadFile) where it cannot be read.
void check_prepared_with(const TokenFile& file, const Tokenizer& tokenizer);

}  // namespace sepllm
