// What the operating system says of this process.
#pragma once

#include <cstdint>

namespace sepllm {

// Memory of this process that lies in RAM, in bytes: now, and at its peak.
int64_t rss_bytes();
int64_t peak_rss_bytes();

}  // namespace sepllm
