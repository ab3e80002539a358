// Post-processors of a tokenizer.json: the tokens that they put around a text.
#pragma once

#include "base/json.h"
#include "text/formats/named_tokens.h"

namespace sepllm {

// TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (which only moves offsets) and sequences
// of them with one that adds tokens, under the key "post_processor" of `document`: their effect on a single
// text. Error (kUnsupported) for any other.
TextFrame parse_post_processor(const JsonObject& document);

}  // namespace sepllm
