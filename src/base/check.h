// Checks of our own logic, also in release builds. A failure is a bug and throws CheckFailure; it never
// aborts.
// Guarded by name: this header is precompiled, and GCC's `#pragma once` takes the precompiled copy for
// another file where a compiler cache brings it from an earlier checkout.
#ifndef SEPLLM_BASE_CHECK_H_
#define SEPLLM_BASE_CHECK_H_

#include <stdexcept>
#include <string>

namespace sepllm {

class CheckFailure : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  throw CheckFailure(std::string(file) + ":" + std::to_string(line) +
                     ": internal check failed: " + condition);
}

}  // namespace sepllm

#define SEPLLM_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::sepllm::check_failed(#condition, __FILE__, __LINE__))

#endif  // SEPLLM_BASE_CHECK_H_
