#include "model/gguf/keys.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"

namespace sepllm {

double GgufKeys::number(const char* key) const {
  const double value = m_.number(of(key));
  if (static_cast<double>(static_cast<float>(value)) != value) return value;
  return std::stod(fmt::format("{}", static_cast<float>(value)));
}

void GgufKeys::refuse(const char* key, const std::string& message, const std::string& expected,
                      const std::string& got) const {
  throw Error(ErrorCode::kUnsupported, message,
              {.file = m_.file(), .place = of(key), .expected = expected, .got = got});
}

void GgufKeys::require(const char* key, double value) const {
  if (!has(key)) return;
  const double stored = m_.number(of(key));
  if (stored != value)
    refuse(key, "a setting that is not supported", fmt::format("{}", value), fmt::format("{}", stored));
}

}  // namespace sepllm
