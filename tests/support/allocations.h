// Counts allocations, for tests that something allocates nothing. A program that calls this gets a counting
// operator new; under the sanitizers, which bring their own, the count stays 0.
#pragma once

#include <cstdint>

namespace sepllm::test {

// Calls of operator new so far, of all threads.
int64_t allocation_count();

}  // namespace sepllm::test
