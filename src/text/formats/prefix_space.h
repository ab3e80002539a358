// tokenizer_config.json's add_prefix_space, in the steps of a tokenizer.json that deal with the blank before
// a text.
#pragma once

#include "base/json.h"

namespace sepllm {

// Changes `document`, a tokenizer.json: ByteLevel and Metaspace put a blank before a text, or no longer do;
// without one, the steps go that put Llama's blank mark before a text (Prepend) and take the blank off again
// (Strip). `everywhere`: Metaspace does it behind added tokens, too. Steps of the wrong form stay as they
// are.
void set_prefix_space(Json& document, bool add, bool everywhere);

}  // namespace sepllm
