// Applies add_prefix_space of tokenizer_config.json to the steps of a tokenizer.json that deal with the blank
// before a text.
#pragma once

#include "base/json.h"

namespace sepllm {

// Changes `document`, a tokenizer.json: ByteLevel and Metaspace put a blank before a text, or no longer do.
// Without the blank, the steps are removed that put Llama's blank mark before a text (Prepend) and take the
// blank off again (Strip). `everywhere`: Metaspace also puts the blank after added tokens. Steps of the wrong
// form are not changed.
void set_prefix_space(Json& document, bool add, bool everywhere);

}  // namespace sepllm
