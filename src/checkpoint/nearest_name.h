// "Did you mean": the known name that is most like a missing one.
#pragma once

#include <string>
#include <vector>

namespace sepllm {

// The name of smallest edit distance to `wanted` (the first of equals); "" if there is none. Looks at no more
// than the first 20,000 names and at none longer than 256 bytes: names come from untrusted files.
std::string nearest_name(const std::string& wanted, const std::vector<std::string>& names);

}  // namespace sepllm
