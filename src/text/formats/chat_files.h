// The chat templates of a model folder: chat_template.jinja, additional_chat_templates/,
// tokenizer_config.json, chat_template.json.
#pragma once

#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace sepllm {

// Looks in the same places as transformers: chat_template.jinja is the default template, and
// additional_chat_templates/NAME.jinja are those with other names. Only if none of these files exists:
// `chat_template` of tokenizer_config.json (a string, or a list of names and templates), else that of
// chat_template.json, which processors used to write. Error (kBadFile) for values of the wrong type and for
// text that is not UTF-8.
std::vector<NamedTemplate> read_chat_templates(const std::string& folder);

// The names of the template files in the folder, as paths within it.
std::vector<std::string> chat_template_files(const std::string& folder);

}  // namespace sepllm
