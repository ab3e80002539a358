// Which tokens are separators: by text rule, by the reference's id lists, by given characters or ids
// (docs/METHOD.md#separators).
#pragma once

#include <string>

#include "base/token_set.h"
#include "text/tokenizer.h"

namespace sepllm {

// `rule`: "text", "paper", "strings:S" or "ids:1,2,3" (the value of the option separators). `vocab_size`:
// rows of the model's embedding; ids of the set are below it. `streaming`: "paper" has additional ids for
// NeoX/Pythia then. Error (kInvalidArgument) for an unknown rule, ids out of range, an empty S, or "paper"
// with a tokenizer that is none of the reference's four (recognised by the pieces behind the ids).
TokenSet make_separators(const Tokenizer& tokenizer, const std::string& rule, int64_t vocab_size,
                         bool streaming);

// For a rule that needs no tokenizer ("ids:..."): true.
bool separators_need_tokenizer(const std::string& rule);
// As above for such a rule.
TokenSet separators_from_ids(const std::string& rule, int64_t vocab_size);

}  // namespace sepllm
