// Steps of a tokenizer.json (normalizers, pre-tokenizers, ...) share one form: {"type": T, settings...}, null
// for none, and {"type": "Sequence", LIST: [...]}.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>

#include "base/json.h"

namespace sepllm {

// Error (kUnsupported) naming the key if `object` has one that is not in `known`.
void refuse_unknown_keys(const JsonObject& object, std::initializer_list<const char*> known);

// Calls visit(step, type) for each step under `owner`'s `key`, in order; nested Sequences (whose members lie
// under the key `list`) are flattened. No call if the key is absent or null. Error for wrong types.
void for_each_step(const JsonObject& owner, const char* key, const char* list,
                   const std::function<void(const JsonObject&, const std::string& type)>& visit);

// Error (kUnsupported) naming the type, for steps that are not known.
[[noreturn]] void unknown_step(const JsonObject& step, const std::string& type);

// The single character of the string under `key`. Error if it is not one character.
std::string single_character(const JsonObject& step, const char* key, const std::string& fallback = "");

}  // namespace sepllm
