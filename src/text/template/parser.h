// Turns tokens into a tree: Jinja's grammar, without what only templates of several files use.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/ast.h"
#include "text/template/lexer.h"

namespace sepllm::jinja {

// Failure with a line: kBadFile if it is not a template, kUnsupported for statements that are left out,
// kOutOfRange if it is too large or nested too deep. `source` is valid UTF-8.
Block parse_template(std::string_view source, const Limits& limits);

class Parser {
 public:
  Parser(std::vector<Token> tokens, const Limits& limits);
  Block parse();

 private:
  using Names = std::vector<std::string_view>;

  // --- tokens
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take();
  bool skip_name(std::string_view name);
  bool skip_operator(std::string_view sign);
  void expect_operator(std::string_view sign);
  void expect_name(std::string_view name);
  std::string expect_identifier();
  void expect(Token::Type type, const char* what);
  [[noreturn]] void refuse(const std::string& message) const;
  [[noreturn]] void refuse_token(const std::string& expected) const;

  // --- statements (parse_statement.cc)
  // Up to a block that begins with one of these names, whose name is not yet taken.
  Block block_until(const Names& ends);
  Block body_until(const Names& ends);  // the same after the end of the opening tag
  void end_block(std::string_view name);
  std::unique_ptr<Statement> statement();
  std::unique_ptr<Statement> parse_for();
  std::unique_ptr<Statement> parse_if();
  std::unique_ptr<Statement> parse_set();
  std::unique_ptr<Statement> parse_macro();
  std::unique_ptr<Statement> parse_call();
  std::unique_ptr<Statement> parse_filter_block();
  std::unique_ptr<Statement> parse_with();
  std::unique_ptr<Statement> parse_jump(Flow flow);
  void signature(MacroStatement& macro);
  void macro_body(MacroStatement& macro, std::string_view end);
  std::vector<std::unique_ptr<FilterExpression>> filter_chain(bool first_is_given);
  Target target(bool with_namespace, bool tuple);
  Target single_target(bool with_namespace);

  // --- expressions (parse_expression.cc)
  // The expression itself; Failure if its tree is too high.
  template <typename T>
  std::unique_ptr<T> checked(std::unique_ptr<T> made) const;
  // `ends`: a name that ends the tuple. `conditional`: `a if b else c` is part of it.
  ExpressionPtr tuple(bool conditional, std::string_view end = "", bool in_parentheses = false);
  bool tuple_ends(std::string_view end) const;
  ExpressionPtr expression(bool conditional = true);
  ExpressionPtr conditional_expression();
  ExpressionPtr logic_or();
  ExpressionPtr logic_and();
  ExpressionPtr logic_not();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr string_constant();
  ExpressionPtr number_constant();
  ExpressionPtr list();
  ExpressionPtr dictionary();
  ExpressionPtr postfix(ExpressionPtr operand);
  ExpressionPtr filters_and_tests(ExpressionPtr operand);
  ExpressionPtr subscript(ExpressionPtr object);
  ExpressionPtr slice(ExpressionPtr object, ExpressionPtr start);
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr test(ExpressionPtr operand);
  std::unique_ptr<FilterExpression> filter();
  CallArguments call_arguments();
  std::string dotted_name();

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Budget budget_;
  int n_loops_ = 0;                  // around the statement
  MacroStatement* macro_ = nullptr;  // the macro whose body this is
};

}  // namespace sepllm::jinja
