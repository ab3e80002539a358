// Regular expressions of tokenizer files: written for Oniguruma, matched by PCRE2 (with its JIT).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

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

 private:
  struct Free {
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
};

class Regex {
 public:
  // Error (kBadFile: not a pattern; kUnsupported: a construct of Oniguruma's own) with `place`, the key it
  // came from.
  Regex(std::string_view pattern, const std::string& file, const std::string& place);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // The first match in `text` (valid UTF-8) at or after byte `from`. Error (kOutOfRange) if the pattern needs
  // more steps or memory than PCRE2's limits. Safe from many threads, each with its own scratch.
  std::optional<Span> find(std::string_view text, size_t from, RegexScratch& scratch) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
  std::string pattern_;
};

// The pattern as PCRE2 must read it: \s, \S, \w, \W as Unicode defines them. Error as the constructor.
std::string translate_oniguruma(std::string_view pattern, const std::string& file, const std::string& place);

}  // namespace sepllm
