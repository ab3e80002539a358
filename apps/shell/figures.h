// Formats figures for people.
#pragma once

#include <cstdint>
#include <string>

#include "cache/kv_cache.h"

namespace sepllm {

std::string human_bytes(int64_t bytes);     // "17 B", "3.2 MiB"
std::string duration_text(double seconds);  // "3.4 s", "2 h 05 min"; "-" for values that are not finite
// "812", "1.23 M"; "-" for values that are not finite or not above 0
std::string counted(double n);
// "keys: mean 97.3, peak 131 | KV: ...": the cache's figures in the closing lines of commands.
std::string kv_figures(const KvStats& kv);

}  // namespace sepllm
