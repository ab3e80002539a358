// Where a result comes from: the object "program" of JSON outputs, and the last line of pages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"

namespace sepllm {

// {"version", "commit", "cpu", "instruction_sets", "threads", "seed"}. `seed` only if the result depends on
// one.
Json provenance(int threads, std::optional<int64_t> seed = std::nullopt);
// The same as a sentence for people.
std::string provenance_line(const Json& provenance);

}  // namespace sepllm
