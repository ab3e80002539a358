// The one place that includes nlohmann's JSON library. Its exceptions are turned into JsonFault. All sources
// must include it through this file, or the program would see two different definitions; a test looks for
// other includes.
// Guarded by name: this header is precompiled, and GCC's `#pragma once` takes the precompiled copy for
// another file where a compiler cache brings it from an earlier checkout.
#ifndef SEPLLM_BASE_JSON_LIBRARY_H_
#define SEPLLM_BASE_JSON_LIBRARY_H_

#include "base/check.h"

namespace sepllm {

// A value has another type than the code expects, or a member is missing. Input is checked before
// (JsonObject), so this is a bug of ours.
class JsonFault : public CheckFailure {
 public:
  using CheckFailure::CheckFailure;
};

[[noreturn]] inline void json_library_failed(const char* what) { throw JsonFault(what); }

}  // namespace sepllm

#define JSON_THROW_USER(exception) ::sepllm::json_library_failed((exception).what())
#include <nlohmann/json.hpp>

#endif  // SEPLLM_BASE_JSON_LIBRARY_H_
