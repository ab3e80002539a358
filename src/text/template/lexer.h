// Cuts a template into tokens. White space follows Jinja's rules as transformers sets them: the line feed
// after a block is dropped (trim_blocks), and so are blanks before a block at the start of a line
// (lstrip_blocks).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/template/limits.h"

namespace sepllm::jinja {

struct Token {
  enum class Type {
    kData,
    kBlockBegin,
    kBlockEnd,
    kVariableBegin,
    kVariableEnd,
    kName,
    kString,  // for text: its value
    kInteger,
    kFloat,
    kOperator,
    kEnd
  };
  Type type;
  std::string text;
  int line;

  bool is(Type t, std::string_view value) const { return type == t && text == value; }
  bool is_name(std::string_view name) const { return is(Type::kName, name); }
  bool is_operator(std::string_view sign) const { return is(Type::kOperator, sign); }
};

// The tokens; the last one has type kEnd. `source` is valid UTF-8. Failure (kBadFile) with a line if it is
// not a valid template.
std::vector<Token> tokenize(std::string_view source);

}  // namespace sepllm::jinja
