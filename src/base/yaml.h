// Reads YAML files as JSON values, so that one reader of options serves both.
#pragma once

#include <string>

#include "base/json.h"

namespace sepllm {

// Parses one YAML document. Plain scalars become null, booleans (true, false), integers and floats as in YAML
// 1.2's core schema (and 1e-4, which people write); quoted scalars and all others become strings. Error
// (kBadFile) with `file`, line and column for syntax errors, duplicate keys, keys that are not scalars,
// aliases that make the document explode, nesting deeper than 64; (kInvalidArgument) if it is larger than 1
// MiB.
Json parse_yaml(const std::string& text, const std::string& file);

}  // namespace sepllm
