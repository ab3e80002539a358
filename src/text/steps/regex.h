// Regular expressions of tokenizer files. They are written for Oniguruma and matched by PCRE2 (with its JIT).
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "text/steps/regex_class.h"

namespace sepllm {

struct Span {
  size_t begin;
  size_t end;
};

// Room for one match, reused between matches and patterns; not to be shared by threads.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(RegexScratch&&) noexcept = default;
  RegexScratch& operator=(RegexScratch&&) noexcept = default;
  void* match_data() const { return data_.get(); }

  // Tells that the texts from here on are parts of this one: most texts allow a faster form of the pattern.
  // Without this call the slower form is used, which is right for all texts.
  void look_at(std::string_view text);
  RegexTexts texts() const { return texts_; }

 private:
  struct Free {
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
  RegexTexts texts_ = RegexTexts::kAll;
};

class Regex {
 public:
  // Error (kBadFile if it is not a pattern, kUnsupported for a construct that only Oniguruma has) with
  // `place`, the key that it came from.
  Regex(std::string_view pattern, const std::string& file, const std::string& place);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // The first match in `text` (valid UTF-8) at or after byte `from`. Error (kOutOfRange) if the pattern needs
  // more steps or memory than PCRE2's limits. Safe from many threads, each with its own scratch.
  std::optional<Span> find(std::string_view text, size_t from, RegexScratch& scratch) const;

 private:
  class Form;
  std::unique_ptr<const Form> make_form(RegexTexts texts) const;
  const Form& form(RegexTexts texts) const;

  std::string pattern_, file_, place_;
  std::unique_ptr<const Form> undisputed_;
  mutable std::once_flag all_made_;
  mutable std::unique_ptr<const Form> all_;  // compiled when a text needs it
};

}  // namespace sepllm
