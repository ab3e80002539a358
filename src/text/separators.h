// Which tokens are separators: chosen by a text rule, by the reference's id lists, or by given characters or
// ids (docs/METHOD.md#separators).
#pragma once

#include <cstdint>
#include <string>

#include "base/token_set.h"
#include "text/tokenizer.h"

namespace sepllm {

// `rule`: "text", "paper", "special", "ids:1,2,3" or "strings:S" (the value of the option separators); or
// several with '+' between, for all their tokens ("strings:S", which ends where the rule does, is the last).
// "special" are the tokenizer's special tokens, which stand at the borders of a chat's turns. `vocab_size`:
// rows of the model's embedding; all ids of the set are smaller. `streaming`: "paper" then has additional ids
// for NeoX/Pythia. Error (kInvalidArgument) for an unknown rule, ids out of range, an empty S, or "paper"
// with a tokenizer that is not one of the reference's four (recognised by the pieces that the ids stand for).
TokenSet make_separators(const Tokenizer& tokenizer, const std::string& rule, int64_t vocab_size,
                         bool streaming);

// True for a rule that needs a tokenizer, false for only "ids:...".
bool separators_need_tokenizer(const std::string& rule);
// The same for a rule that needs no tokenizer.
TokenSet separators_from_ids(const std::string& rule, int64_t vocab_size);

}  // namespace sepllm
