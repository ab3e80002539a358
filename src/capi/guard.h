// The edge between C++ and C: exceptions become codes, and what the caller gave is checked.
#pragma once

#include <sepllm/sepllm.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/options.h"

namespace sepllm::capi {

// A failure with a code that no Error has: busy, wrong state, cancelled.
class Refusal : public std::exception {
 public:
  Refusal(sepllm_status status, std::string message) : status_(status), message_(std::move(message)) {}
  sepllm_status status() const { return status_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  sepllm_status status_;
  std::string message_;
};

// The code of the exception that is being handled; its text becomes sepllm_last_error().
sepllm_status report_current_exception() noexcept;

// Runs the body of a C function.
template <typename Body>
sepllm_status guarded(const Body& body) noexcept {
  try {
    body();
    return SEPLLM_OK;
  } catch (...) {
    return report_current_exception();
  }
}

// Error (kInvalidArgument) with this message.
[[noreturn]] void refuse_argument(const std::string& message);
// The same unless the condition holds.
void require(bool condition, const char* message);
// `pointer`, which must not be null; `name`: of the argument.
template <typename T>
T& given(T* pointer, const char* name) {
  if (pointer == nullptr) refuse_argument(std::string(name) + " is NULL");
  return *pointer;
}
// An array of the caller.
template <typename T>
std::span<const T> array(const T* data, size_t n, const char* name) {
  if (n > 0) given(data, name);
  require(n <= size_t{1} << 40, "an array is longer than 2^40");
  return {data, n};
}

// Sets options from the text of a JSON object; null is an empty one. Error (kInvalidArgument) naming the key.
void apply_options(OptionSet* options, const char* json);

// Memory that sepllm_free() frees.
char* copy_text(std::string_view text);
void* copy_bytes(const void* data, size_t n_bytes);  // null for 0 bytes
template <typename T>
T* copy_array(std::span<const T> values) {
  return static_cast<T*>(copy_bytes(values.data(), values.size_bytes()));
}

// Whether a call uses a handle at this moment.
using InUse = std::atomic<bool>;

// While it lives, no other call uses the handle to which the flag belongs. Refusal (kBusy) if one does:
// waiting would hide a mistake of the caller.
class Use {
 public:
  Use(InUse& flag, const char* what) : flag_(flag) {
    if (flag_.exchange(true)) throw Refusal(SEPLLM_BUSY, std::string("another call uses the ") + what);
  }
  ~Use() { flag_ = false; }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  InUse& flag_;
};

}  // namespace sepllm::capi
