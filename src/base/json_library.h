// nlohmann's JSON library, the one place that includes it: what it throws is a JsonFault here, never a type
// of its own. (All sources must see it this way, or they would not be one program: a test looks for other
// includes.)
#pragma once

#include "base/check.h"

namespace sepllm {

// A value of another type than the code takes it for, or a member that is not there. Input is checked before
// (JsonObject), so that this is a bug of ours.
class JsonFault : public CheckFailure {
 public:
  using CheckFailure::CheckFailure;
};

[[noreturn]] inline void json_library_failed(const char* what) { throw JsonFault(what); }

}  // namespace sepllm

#define JSON_THROW_USER(exception) ::sepllm::json_library_failed((exception).what())
#include <nlohmann/json.hpp>
