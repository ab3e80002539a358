#include "text/tokenizer.h"

#include <optional>
#include <string>

namespace sepllm {

std::optional<std::string> Tokenizer::chat_template() const {
  for (const NamedTemplate& own : chat_templates_) {
    if (own.name == "default") return own.text;
  }
  return std::nullopt;
}

}  // namespace sepllm
