// YAML files as JSON values: one reader of options for both.
#pragma once

#include <string>

#include "base/json.h"

namespace sepllm {

// One YAML document. Plain scalars become null, booleans (true, false), integers and floats as YAML 1.2's
// core schema has them (and 1e-4, which people write); quoted ones and all others strings. Error (kBadFile)
// with `file`, line and column for syntax errors, duplicate keys, keys that are not scalars, aliases that
// make the document explode, nesting deeper than 64; (kInvalidArgument) if it is larger than 1 MiB.
Json parse_yaml(const std::string& text, const std::string& file);

}  // namespace sepllm
