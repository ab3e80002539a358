// A Jinja template, with which a model's files say how to write a conversation: read once, run for each
// prompt. It runs in our own small interpreter; docs/CHAT-TEMPLATES.md says what it knows. A template is not
// trusted: it can compute a text from what it is given, within limits, and nothing else.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/template/ast.h"
#include "text/template/interpreter.h"
#include "text/template/limits.h"
#include "text/template/marked_text.h"

namespace sepllm::jinja {

class Template {
 public:
  // `file`: its source, for errors. Error (kBadFile, kUnsupported, kOutOfRange) that names the line.
  Template(std::string_view source, std::string file, const Limits& limits = {});

  // The text that it writes, given these variables. Error that names the line: kUnsupported for a construct
  // that is left out, kOutOfRange beyond the limits, kInvalidArgument for everything else, including errors
  // that the template itself raises.
  MarkedText render(const Interpreter::Variables& variables, const std::tm& clock) const;

 private:
  std::string file_;
  Limits limits_;
  Block block_;
};

// A JSON value as a template sees it; its texts, including keys, have this origin. Error (kOutOfRange) for
// integers beyond 64 bits and for more than the limits allow.
Value value_from_json(const Json& json, Origin origin, const Limits& limits = {});

}  // namespace sepllm::jinja
