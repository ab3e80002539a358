#include "text/steps/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>

#include "base/error.h"

namespace sepllm {
namespace {

// White_Space and its complement: PCRE2's own \s also has U+180E.
constexpr const char* kSpaceRanges =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr const char* kNotSpaceRanges =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{d7ff}\x{e000}-\x{10ffff})";
constexpr const char* kWordRanges = R"(\p{L}\p{M}\p{N}\p{Pc})";

constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 1u << 18;

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

// Rewrites one pattern, character by character; knows only escapes and where a class begins and ends.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& file, const std::string& place)
      : in_(pattern), file_(file), place_(place) {}

  std::string run() {
    while (at_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(ErrorCode::kUnsupported, "regular expression uses " + what, {.file = file_, .place = place_});
  }

  void step() {
    const char c = in_[at_];
    if (c == '\\' && at_ + 1 < in_.size()) {
      escape(in_[at_ + 1]);
      at_ += 2;
      return;
    }
    if (in_class_) {
      inside_class(c);
    } else if (c == '[') {
      open_class();
      return;
    }
    out_ += c;
    ++at_;
  }

  void open_class() {
    in_class_ = true;
    out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == '^') out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == ']') {  // literal in this place
      out_ += "\\]";
      ++at_;
    }
  }

  void inside_class(char c) {
    const char next = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    if (c == ']') in_class_ = false;
    if (c == '&' && next == '&') unsupported("an intersection of character classes (&&)");
    if (c == '[' && next != ':') unsupported("a nested character class");
    if (c == '[') {  // [:name:]
      const size_t close = in_.find(":]", at_ + 2);
      if (close == std::string_view::npos) unsupported("an unfinished POSIX class");
      out_ += in_.substr(at_, close + 1 - at_);
      at_ = close + 1;  // step() copies the bracket
    }
  }

  void escape(char c) {
    const auto put = [&](const char* ranges, bool negated) {
      out_ += in_class_ ? ranges : std::string(negated ? "[^" : "[") + ranges + "]";
    };
    switch (c) {
      case 's':
        return put(kSpaceRanges, false);
      case 'S':
        return in_class_ ? put(kNotSpaceRanges, false) : put(kSpaceRanges, true);
      case 'w':
        return put(kWordRanges, false);
      case 'W':
        if (in_class_) unsupported("\\W inside a character class");
        return put(kWordRanges, true);
      default:
        out_ += '\\';
        out_ += c;
    }
  }

  std::string_view in_;
  const std::string& file_;
  const std::string& place_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  bool jit = false;
  ~Compiled() {
    pcre2_code_free(code);
    pcre2_match_context_free(context);
  }
};

RegexScratch::RegexScratch() : data_(pcre2_match_data_create(1, nullptr)) {
  if (data_ == nullptr) throw std::bad_alloc();
}
RegexScratch::~RegexScratch() = default;
void RegexScratch::Free::operator()(void* data) const {
  pcre2_match_data_free(static_cast<pcre2_match_data*>(data));
}

std::string translate_oniguruma(std::string_view pattern, const std::string& file, const std::string& place) {
  return Translator(pattern, file, place).run();
}

Regex::Regex(std::string_view pattern, const std::string& file, const std::string& place)
    : compiled_(std::make_unique<Compiled>()), pattern_(pattern) {
  const std::string translated = translate_oniguruma(pattern, file, place);
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  // \C could end a match inside a character; ^ and $ are those of lines in Oniguruma's (Ruby) syntax.
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                                  &offset, context.get());
  if (compiled_->code == nullptr) {
    throw Error(ErrorCode::kBadFile, "regular expression not understood: " + message_of(code),
                {.file = file, .place = place, .got = pattern_});
  }
  compiled_->context = pcre2_match_context_create(nullptr);
  if (compiled_->context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(compiled_->context, kMatchLimit);
  pcre2_set_heap_limit(compiled_->context, kHeapLimitKib);
  compiled_->jit = pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE) == 0;
}

Regex::~Regex() = default;

std::optional<Span> Regex::find(std::string_view text, size_t from, RegexScratch& scratch) const {
  auto* const data = static_cast<pcre2_match_data*>(scratch.match_data());
  const auto run = [&](uint32_t options) {
    return pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       PCRE2_NO_UTF_CHECK | options, data, compiled_->context);
  };
  int result = run(0);
  // The JIT's stack is small; the interpreter takes from the heap, up to its limit.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    throw Error(ErrorCode::kOutOfRange, "regular expression failed: " + message_of(result),
                {.place = "byte " + std::to_string(from) + " of the text", .got = pattern_});
  }
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(data);
  if (span[0] > span[1] || span[0] < from) {  // \K in a look-around
    throw Error(ErrorCode::kUnsupported, "regular expression matches backwards", {.got = pattern_});
  }
  return Span{span[0], span[1]};
}

}  // namespace sepllm
