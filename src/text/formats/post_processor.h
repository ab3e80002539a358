// Post-processors of a tokenizer.json: which tokens they put around a text.
#pragma once

#include "base/json.h"
#include "text/formats/named_tokens.h"

namespace sepllm {

// The effect on a single text of the step under the key "post_processor" of `document`: TemplateProcessing,
// BertProcessing, RobertaProcessing, ByteLevel (which only moves offsets), or a sequence of them with one
// that adds tokens. Error (kUnsupported) for any other.
TextFrame parse_post_processor(const JsonObject& document);

}  // namespace sepllm
