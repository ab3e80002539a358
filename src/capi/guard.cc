#include "capi/guard.h"

#include <sepllm/sepllm.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"

namespace sepllm::capi {
namespace {

// Without a destructor, so that a library that is unloaded leaves nothing behind in threads. (Errors are one
// line, and long quotes in them are cut.)
thread_local std::array<char, 2048> last_error{};

void set_error(std::string_view message) noexcept {
  const size_t n = std::min(message.size(), last_error.size() - 1);
  std::copy_n(message.data(), n, last_error.data());
  last_error[n] = '\0';
}

sepllm_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return SEPLLM_INVALID_ARGUMENT;
    case ErrorCode::kNotFound:
      return SEPLLM_NOT_FOUND;
    case ErrorCode::kBadFile:
      return SEPLLM_BAD_FILE;
    case ErrorCode::kUnsupported:
      return SEPLLM_UNSUPPORTED;
    case ErrorCode::kOutOfRange:
      return SEPLLM_OUT_OF_RANGE;
    case ErrorCode::kIo:
      return SEPLLM_IO;
  }
  return SEPLLM_INTERNAL;
}

sepllm_status report(const Error& e) {
  set_error(write_options(e.marked_text(), [](const std::string& name) { return "'" + name + "'"; }));
  return status_of(e.code());
}

}  // namespace

sepllm_status report_current_exception() noexcept {
  try {
    try {
      throw;
    } catch (const Refusal& e) {
      set_error(e.what());
      return e.status();
    } catch (const Error& e) {
      return report(e);
    } catch (const std::bad_alloc&) {
      set_error("out of memory");
      return SEPLLM_OUT_OF_MEMORY;
    } catch (const std::length_error&) {
      set_error("out of memory");
      return SEPLLM_OUT_OF_MEMORY;
    } catch (const std::exception& e) {
      set_error(std::string(e.what()) + " (a bug of sepllm: please report it)");
      return SEPLLM_INTERNAL;
    } catch (...) {
      set_error("an unknown exception (a bug of sepllm: please report it)");
      return SEPLLM_INTERNAL;
    }
  } catch (...) {  // no memory for the message
    set_error("out of memory");
    return SEPLLM_OUT_OF_MEMORY;
  }
}

void refuse_argument(const std::string& message) { throw Error(ErrorCode::kInvalidArgument, message); }

void require(bool condition, const char* message) {
  if (!condition) refuse_argument(message);
}

void apply_options(OptionSet* options, const char* json) {
  if (json == nullptr) return;
  const std::string place = "options";
  Json parsed;
  try {
    parsed = parse_json(json, place, {.refuse_duplicates = true});
  } catch (const Error& e) {  // It is no file.
    throw Error(ErrorCode::kInvalidArgument, e.what());
  }
  require(parsed.is_object(), "options: not a JSON object");
  options->apply_json(JsonObject(parsed, place));
}

void* copy_bytes(const void* data, size_t n_bytes) {
  if (n_bytes == 0) return nullptr;
  void* copy = std::malloc(n_bytes);
  if (copy == nullptr) throw std::bad_alloc();
  return std::memcpy(copy, data, n_bytes);
}

char* copy_text(std::string_view text) {
  auto* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::copy(text.begin(), text.end(), copy);
  copy[text.size()] = '\0';
  return copy;
}

}  // namespace sepllm::capi

using namespace sepllm;  // NOLINT(google-build-using-namespace): the C functions below are the global ones

const char* sepllm_last_error(void) { return capi::last_error.data(); }

const char* sepllm_status_name(sepllm_status status) {
  static constexpr std::array<const char*, 12> kNames = {
      "ok", "invalid argument", "not found", "bad file",      "unsupported", "out of range",
      "io", "out of memory",    "busy",      "invalid state", "cancelled",   "internal error"};
  const auto index = static_cast<size_t>(status);
  return index < kNames.size() ? kNames[index] : "unknown status";
}

const char* sepllm_version(void) { return SEPLLM_VERSION; }

void sepllm_free(void* memory) { std::free(memory); }

sepllm_status sepllm_set_log(sepllm_log_function log, void* user) {
  return capi::guarded([&] {
    LogSink sink;
    if (log != nullptr) {
      sink = [log, user](LogLevel level, const std::string& message) {
        log(static_cast<sepllm_log_level>(level), message.c_str(), user);
      };
    }
    set_log_sink(std::move(sink));
  });
}
