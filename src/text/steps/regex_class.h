// Character classes that a regular expression names (\p{L}, \w, [:punct:]), as PCRE2 must read them to have
// the members that they have in Oniguruma: those of Unicode 16.0, whatever version PCRE2 was made for. Nearly
// all texts have no character on which versions of Unicode disagree; for these a shorter form serves, which
// is matched faster.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/steps/code_point_set.h"

namespace sepllm {

enum class RegexTexts {
  kUndisputed,  // those in which has_disputed() finds nothing
  kAll
};

// Whether `text` (valid UTF-8) has a character that does not have the same category in all versions of
// Unicode from 9.0 to 17.0.
bool has_disputed(std::string_view text);

class RegexClass {
 public:
  // The class of \p{name}: general categories by short and long names, Han, and alnum, alpha, digit, punct,
  // space, word, xdigit. Letter case, blanks, hyphens and underscores in `name` do not count. nullptr: not
  // one of them, PCRE2 has it or nobody.
  static const RegexClass* find(std::string_view name);
  // The class of [:name:]. Its punct has symbols, too.
  static const RegexClass* find_posix(std::string_view name);

  // As a pattern of its own that matches one character.
  std::string alone(bool negated, RegexTexts texts) const;
  // Between the brackets of a class.
  std::string inside(bool negated, RegexTexts texts) const;

 private:
  struct Definition;
  explicit RegexClass(const Definition& definition);
  static const RegexClass* find_folded(const std::string& name);
  static std::optional<Definition> define(const std::string& name);

  std::string native_;  // items of PCRE2's that have nearly these members, or empty
  CodePointSet members_;
  // Superscript digits and fractions of Latin-1 are word characters to Oniguruma, but not between brackets.
  CodePointSet only_alone_;
  CodePointSet extra_;    // undisputed members that native_ does not have
  CodePointSet missing_;  // disputed ones
  CodePointSet excess_;   // disputed code points that native_ has and this does not
};

}  // namespace sepllm
