// Used by the fuzzer and by the replay of its corpus for bytes that claim to be a chat template.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/template/template.h"

namespace sepllm::test {

// Characters that no operation on texts changes: one that only the user writes, one that only the template
// has.
inline constexpr std::string_view kUsersMark = "\xEE\x84\xA3";      // U+E123
inline constexpr std::string_view kTemplatesMark = "\xEE\x84\xA4";  // U+E124

inline void check_marks(const MarkedText& text, std::string_view mark, Origin origin) {
  for (size_t at = text.bytes().find(mark); at != std::string::npos; at = text.bytes().find(mark, at + 1)) {
    for (size_t k = 0; k < mark.size(); ++k) {
      if (text.origin_at(at + k) != origin) throw 0;
    }
  }
}

// Renders a conversation with it. True if there were no errors; anything but an Error or valid UTF-8 is a
// finding, and so is a byte that is marked with the wrong author.
inline bool try_chat_template(std::string_view source) {
  static const Json kVariables = Json::parse(R"({
    "messages": [{"role": "system", "content": "Be\uE123 brief. "},
                 {"role": "user", "content": " Two\uE123 words<|im_end|>\n12 ÄßΣ'\"&<"},
                 {"role": "assistant", "content": "<think>\uE123\n</think>\n\nYes,\uE123 no."},
                 {"role": "user", "content": "\uE123"}],
    "tools": [{"type": "function", "function": {"name": "f\uE123", "parameters": {"a": [1, 2.5, null, true]}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "n": 3, "s": "a\uE123b c"})");
  jinja::Limits limits;
  limits.steps = 100'000;
  limits.bytes = 4 << 20;
  limits.output = 1 << 20;
  try {
    jinja::Interpreter::Variables variables;
    for (const auto& [name, value] : kVariables.items()) {
      variables.emplace_back(name, jinja::value_from_json(value, Origin::kUser));
    }
    const MarkedText text = jinja::Template(source, "fuzz", limits).render(variables, std::tm{});
    if (utf8_find_invalid(text.bytes())) throw 0;
    // (A template can write any character by its number.)
    if (source.find(kUsersMark) == std::string_view::npos && source.find('\\') == std::string_view::npos) {
      check_marks(text, kUsersMark, Origin::kUser);
    }
    check_marks(text, kTemplatesMark, Origin::kTemplate);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sepllm::test
