// Parses the statements of the grammar; also has the parser's functions for tokens.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/parser.h"

namespace sepllm::jinja {
namespace {

using Type = Token::Type;

std::string shown(const Token& token) {
  switch (token.type) {
    case Type::kBlockEnd:
      return "'%}'";
    case Type::kVariableEnd:
      return "'}}'";
    case Type::kEnd:
      return "the end of the template";
    case Type::kString:
      return "a string";
    default:
      return "'" + token.text + "'";
  }
}

std::string joined(const std::vector<std::string_view>& names) {
  std::string out;
  for (const std::string_view name : names) out += (out.empty() ? "" : " or ") + std::string(name);
  return out;
}

Limits for_parsing(Limits limits) {
  limits.depth = limits.nesting;
  return limits;
}

}  // namespace

Block parse_template(std::string_view source, const Limits& limits) {
  if (static_cast<int64_t>(source.size()) > limits.source_bytes) {
    throw Failure{ErrorCode::kOutOfRange,
                  "a template of more than " + std::to_string(limits.source_bytes) + " bytes"};
  }
  return Parser(tokenize(source), limits).parse();
}

Parser::Parser(std::vector<Token> tokens, const Limits& limits)
    : tokens_(std::move(tokens)), budget_(for_parsing(limits)) {}

// ---- Tokens

void Parser::refuse(const std::string& message) const {
  throw Failure{ErrorCode::kBadFile, message, current().line};
}

void Parser::refuse_token(const std::string& expected) const {
  refuse("expected " + expected + ", got " + shown(current()));
}

Token Parser::take() {
  Token token = current();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  take();
  return true;
}

bool Parser::skip_operator(std::string_view sign) {
  if (!current().is_operator(sign)) return false;
  take();
  return true;
}

void Parser::expect_operator(std::string_view sign) {
  if (!skip_operator(sign)) refuse_token("'" + std::string(sign) + "'");
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) refuse_token("'" + std::string(name) + "'");
}

std::string Parser::expect_identifier() {
  if (current().type != Type::kName) refuse_token("a name");
  return take().text;
}

void Parser::expect(Type type, const char* what) {
  if (current().type != type) refuse_token(what);
  take();
}

// ---- Statements

Block Parser::parse() {
  Block out = block_until({});
  if (current().type != Type::kEnd) refuse_token("the end of the template");
  return out;
}

Block Parser::block_until(const Names& ends) {
  const Level level(budget_);
  Block out;
  const int opened = current().line;
  for (;;) {
    const Token& token = current();
    if (token.type == Type::kData) {
      const int line = token.line;
      out.push_back(std::make_unique<DataStatement>(line, take().text));
    } else if (token.type == Type::kVariableBegin) {
      const int line = take().line;
      out.push_back(std::make_unique<OutputStatement>(line, tuple(true)));
      expect(Type::kVariableEnd, "'}}'");
    } else if (token.type == Type::kBlockBegin) {
      take();
      const bool is_end =
          std::any_of(ends.begin(), ends.end(), [&](auto name) { return current().is_name(name); });
      if (is_end) return out;
      out.push_back(statement());
      expect(Type::kBlockEnd, "'%}'");
    } else if (token.type == Type::kEnd && !ends.empty()) {
      throw Failure{ErrorCode::kBadFile, "the template ends where " + joined(ends) + " should come", opened};
    } else {
      return out;
    }
  }
}

Block Parser::body_until(const Names& ends) {
  skip_operator(":");
  expect(Type::kBlockEnd, "'%}'");
  return block_until(ends);
}

std::unique_ptr<Statement> Parser::statement() {
  constexpr std::array<std::string_view, 9> kLeftOut = {"include",    "import", "from",  "extends", "block",
                                                        "autoescape", "do",     "trans", "debug"};
  const std::string name = current().text;
  if (current().type != Type::kName) refuse_token("a statement");
  if (name == "for") return parse_for();
  if (name == "if") return parse_if();
  if (name == "set") return parse_set();
  if (name == "macro") return parse_macro();
  if (name == "call") return parse_call();
  if (name == "filter") return parse_filter_block();
  if (name == "with") return parse_with();
  if (name == "break") return parse_jump(Flow::kBreak);
  if (name == "continue") return parse_jump(Flow::kContinue);
  if (name == "print") {
    const int line = take().line;
    return std::make_unique<OutputStatement>(line, tuple(true));
  }
  if (name == "generation") {
    auto out = std::make_unique<GenerationStatement>(take().line);
    const int n_loops = std::exchange(n_loops_, 0);
    out->body = body_until({"endgeneration"});
    n_loops_ = n_loops;
    take();
    return out;
  }
  if (std::find(kLeftOut.begin(), kLeftOut.end(), name) != kLeftOut.end()) {
    throw Failure{ErrorCode::kUnsupported, "the statement '" + name + "' is not supported", current().line};
  }
  refuse("unknown statement '" + name + "'");
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto out = std::make_unique<ForStatement>(take().line);
  out->target = target(false, true);
  expect_name("in");
  out->items = tuple(false, "recursive");
  if (skip_name("if")) out->condition = expression();
  if (current().is_name("recursive")) {
    throw Failure{ErrorCode::kUnsupported, "recursive loops are not supported", current().line};
  }
  ++n_loops_;
  out->body = body_until({"endfor", "else"});
  --n_loops_;
  if (take().text == "else") {
    out->otherwise = body_until({"endfor"});
    take();
  }
  return out;
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto out = std::make_unique<IfStatement>(current().line);
  do {
    take();
    ExpressionPtr condition = tuple(false);
    Block body = body_until({"elif", "else", "endif"});
    out->branches.emplace_back(std::move(condition), std::move(body));
  } while (current().is_name("elif"));
  if (take().text == "else") {
    out->otherwise = body_until({"endif"});
    take();
  }
  return out;
}

std::unique_ptr<Statement> Parser::parse_set() {
  const int line = take().line;
  Target left = target(true, true);
  if (skip_operator("=")) {
    auto out = std::make_unique<SetStatement>(line);
    out->target = std::move(left);
    out->value = tuple(true);
    return out;
  }
  auto out = std::make_unique<SetBlockStatement>(line);
  out->target = std::move(left);
  out->filters = filter_chain(false);
  const int n_loops = std::exchange(n_loops_, 0);  // jumps out of a captured body are not supported
  out->body = body_until({"endset"});
  n_loops_ = n_loops;
  take();
  return out;
}

std::vector<std::unique_ptr<FilterExpression>> Parser::filter_chain(bool first_is_given) {
  std::vector<std::unique_ptr<FilterExpression>> out;
  if (first_is_given) out.push_back(filter());
  while (skip_operator("|")) out.push_back(filter());
  return out;
}

Target Parser::single_target(bool with_namespace) {
  Target out;
  if (skip_operator("(")) {
    out = target(with_namespace, true);
    expect_operator(")");
    return out;
  }
  out.name = expect_identifier();
  for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
    if (out.name == constant) refuse("cannot assign to '" + out.name + "'");
  }
  if (with_namespace && skip_operator(".")) out.attribute = expect_identifier();
  return out;
}

Target Parser::target(bool with_namespace, bool tuple) {
  const Level level(budget_);
  Target first = single_target(with_namespace);
  if (!tuple || !current().is_operator(",")) return first;
  Target out;
  out.parts.push_back(std::move(first));
  while (skip_operator(",")) {
    const bool more = current().type == Type::kName || current().is_operator("(");
    if (!more || current().is_name("in")) break;
    out.parts.push_back(single_target(with_namespace));
  }
  return out;
}

void Parser::signature(MacroStatement& macro) {
  expect_operator("(");
  while (!current().is_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    MacroParameter parameter;
    parameter.name = expect_identifier();
    if (skip_operator("=")) {
      parameter.fallback = expression();
    } else if (!macro.parameters.empty() && macro.parameters.back().fallback) {
      refuse("a parameter without default after one with default");
    }
    macro.parameters.push_back(std::move(parameter));
  }
  expect_operator(")");
}

void Parser::macro_body(MacroStatement& macro, std::string_view end) {
  const int n_loops = std::exchange(n_loops_, 0);
  MacroStatement* outer = std::exchange(macro_, &macro);
  macro.body = body_until({end});
  macro_ = outer;
  n_loops_ = n_loops;
  take();
}

std::unique_ptr<Statement> Parser::parse_macro() {
  auto out = std::make_unique<MacroStatement>(take().line);
  out->name = expect_identifier();
  signature(*out);
  macro_body(*out, "endmacro");
  return out;
}

std::unique_ptr<Statement> Parser::parse_call() {
  auto out = std::make_unique<CallStatement>(take().line);
  out->caller = std::make_unique<MacroStatement>(out->line);
  out->caller->name = "caller";
  if (current().is_operator("(")) signature(*out->caller);
  ExpressionPtr call = expression();
  auto* as_call = dynamic_cast<CallExpression*>(call.get());
  if (as_call == nullptr) refuse("expected a call");
  call.release();
  out->call.reset(as_call);
  macro_body(*out->caller, "endcall");
  return out;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto out = std::make_unique<FilterStatement>(take().line);
  out->filters = filter_chain(true);
  const int n_loops = std::exchange(n_loops_, 0);
  out->body = body_until({"endfilter"});
  n_loops_ = n_loops;
  take();
  return out;
}

std::unique_ptr<Statement> Parser::parse_with() {
  auto out = std::make_unique<WithStatement>(take().line);
  while (current().type != Type::kBlockEnd) {
    if (!out->values.empty()) expect_operator(",");
    Target left = target(false, false);
    expect_operator("=");
    out->values.emplace_back(std::move(left), expression());
  }
  out->body = body_until({"endwith"});
  take();
  return out;
}

std::unique_ptr<Statement> Parser::parse_jump(Flow flow) {
  const Token name = take();
  if (n_loops_ == 0) {
    throw Failure{ErrorCode::kBadFile, "'" + name.text + "' outside of a loop", name.line};
  }
  return std::make_unique<JumpStatement>(name.line, flow);
}

}  // namespace sepllm::jinja
