// Figures as people read them.
#pragma once

#include <cstdint>
#include <string>

#include "cache/kv_cache.h"

namespace sepllm {

std::string human_bytes(int64_t bytes);     // "17 B", "3.2 MiB"
std::string duration_text(double seconds);  // "3.4 s", "2 h 05 min"; "-" for what is not finite
std::string counted(double n);              // "812", "1.23 M"; "-" for what is not finite or not above 0
// "keys: mean 97.3, peak 131 | KV: ...": what the closing lines of commands say of the cache.
std::string kv_figures(const KvStats& kv);

}  // namespace sepllm
