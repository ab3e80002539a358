// What the operating system tells about this process.
#pragma once

#include <cstdint>

namespace sepllm {

// Bytes of this process's memory that are in RAM: now, and at the peak.
int64_t rss_bytes();
int64_t peak_rss_bytes();

}  // namespace sepllm
