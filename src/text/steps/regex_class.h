// Character classes that a regular expression names (\p{L}, \w, [:punct:]), written so that PCRE2 gives them
// the members that they have in Oniguruma: those of Unicode 16.0, whatever version PCRE2 was built for.
// Nearly all texts have no character on which versions of Unicode disagree; for these a shorter form is used,
// which is matched faster.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/steps/code_point_set.h"

namespace sepllm {

enum class RegexTexts {
  kUndisputed,  // texts in which has_disputed() finds nothing
  kAll
};

// Whether `text` (valid UTF-8) has a character that does not have the same category in all versions of
// Unicode from 9.0 to 17.0.
bool has_disputed(std::string_view text);

class RegexClass {
 public:
  // Finds the class of \p{name}: general categories by short and long names, Han, and alnum, alpha, digit,
  // punct, space, word, xdigit. Letter case, blanks, hyphens and underscores in `name` do not count. nullptr
  // if it is not one of them; then only PCRE2 may know it.
  static const RegexClass* find(std::string_view name);
  // Finds the class of [:name:]. Its punct includes symbols.
  static const RegexClass* find_posix(std::string_view name);

  // The class as a pattern that matches one character.
  std::string outside_brackets(bool negated, RegexTexts texts) const;
  // The class as it is written between the brackets of another class.
  std::string inside_brackets(bool negated, RegexTexts texts) const;

 private:
  struct Definition;
  explicit RegexClass(const Definition& definition);
  static const RegexClass* find_folded(const std::string& name);
  static std::optional<Definition> define(const std::string& name);

  std::string native_;  // items of PCRE2 that have nearly these members, or empty
  CodePointSet members_;
  // In Oniguruma, superscript digits and fractions of Latin-1 are word characters, but not between brackets.
  CodePointSet only_alone_;
  CodePointSet extra_;    // undisputed members that native_ does not have
  CodePointSet missing_;  // disputed members that are missing in native_
  CodePointSet excess_;   // disputed code points that native_ has but this class does not
};

}  // namespace sepllm
