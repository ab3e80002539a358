// Splits a block, of JSON lines or of a text, into its documents.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/corpus/document_reader.h"

namespace sepllm {
namespace {

using Visit = FunctionRef<void(const DocumentPart&)>;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// A text in which each surrogate (three bytes that JsonRules::keep_surrogates has left) becomes one U+FFFD,
// as in the tiktoken library.
std::string without_surrogates(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool is_surrogate =
        text.size() - at >= 3 && text[at] == '\xed' && static_cast<unsigned char>(text[at + 1]) >= 0xA0;
    if (is_surrogate) {
      out += kReplacement;
    } else {
      out += text[at];
    }
    at += is_surrogate ? 3 : 1;
  }
  return out;
}

// Keeps only the first of several.
void keep_first(std::string* first, const std::string& what) {
  if (first->empty()) *first = what;
}

class LineReader {
 public:
  LineReader(const TextBlock& block, const DocumentOptions& options, Visit visit)
      : block_(block), options_(options), visit_(visit) {}

  LineNotes run() {
    const std::string_view bytes = block_.bytes;
    int64_t number = block_.line;
    for (size_t at = 0; at < bytes.size(); ++number) {
      const size_t end = std::min(bytes.find('\n', at), bytes.size());
      const std::string_view line = bytes.substr(at, end - at);
      at = end + 1;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      const char* unit = block_.form == InputForm::kJsonArray ? "element" : "line";
      place_ = fmt::format("{}: {} {}", block_.file, unit, number);
      read(line);
    }
    return notes_;
  }

 private:
  void read(std::string_view line) {
    std::string text;
    try {
      text = text_of(line);
    } catch (const Error& e) {
      if (options_.on_bad_line == OnBadLine::kError) {
        throw Error(
            e.code(), e.marked_text(),
            {.hint = option_name("on-bad-line") + " skip leaves such lines out, replace mends what it can"});
      }
      ++notes_.skipped;
      keep_first(&notes_.first_skipped, e.marked_text());
      return;
    }
    visit_({text});
  }

  std::string text_of(std::string_view line) {
    const bool mend = options_.on_bad_line == OnBadLine::kReplace;
    const bool invalid = mend && utf8_find_invalid(line).has_value();
    std::string mended;
    if (invalid) line = mended = utf8_sanitize(line);
    JsonOddities oddities;
    const Json value = parse_json(line, place_, {.keep_surrogates = true}, &oddities);
    std::string text = member(value);
    const bool surrogates = utf8_find_invalid(text).has_value();
    if (surrogates && !mend) {
      throw Error(ErrorCode::kBadFile, "a lone surrogate, half of a character",
                  {.file = place_, .place = options_.json_key});
    }
    if (surrogates) text = without_surrogates(text);
    if (invalid || surrogates) {
      ++notes_.replaced;
      keep_first(&notes_.first_replaced, place_ + (invalid ? ": invalid UTF-8" : ": a lone surrogate"));
    }
    if (oddities.count > 0) {
      ++notes_.odd;
      keep_first(&notes_.first_odd, place_ + ": " + oddities.first);
    }
    return text;
  }

  std::string member(const Json& value) const {
    const std::string& key = options_.json_key;
    const JsonObject object(value, place_);
    if (value.contains(key)) return object.string(key.c_str());
    std::string keys;
    for (const auto& [name, unused] : value.items()) keys += (keys.empty() ? "" : ", ") + name;
    throw Error(ErrorCode::kBadFile, "no key \"" + key + "\"",
                {.file = place_,
                 .got = keys.empty() ? "no keys" : keys,
                 .hint = option_name("json-key") + " names another"});
  }

  const TextBlock& block_;
  const DocumentOptions& options_;
  Visit visit_;
  std::string place_;  // the line's place
  LineNotes notes_;
};

// The valid lines of a text, with their line breaks; counts the others in `n_invalid`.
std::string valid_lines(std::string_view text, int64_t* n_invalid) {
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    if (utf8_find_invalid(text.substr(0, end))) {
      ++*n_invalid;
    } else {
      out += text.substr(0, end);
    }
    text.remove_prefix(end);
  }
  return out;
}

class TextReader {
 public:
  TextReader(const TextBlock& block, const DocumentOptions& options, Visit visit)
      : block_(block), options_(options), visit_(visit) {}

  LineNotes run() {
    std::string_view left = block_.bytes;
    if (const auto bad = utf8_find_invalid(left)) {
      place_ = line_and_byte(left, *bad, block_.line);
      if (options_.on_bad_line == OnBadLine::kError) {
        throw Error(
            ErrorCode::kBadFile, "invalid UTF-8",
            {.file = block_.file,
             .place = place_,
             .hint = option_name("on-bad-line") + " replace puts U+FFFD there, skip leaves such lines out"});
      }
    }
    bool begins = block_.begins;
    const std::string& mark = options_.split_on;
    for (size_t end = 0; !mark.empty() && (end = left.find(mark)) != std::string_view::npos; begins = true) {
      give(left.substr(0, end), begins, true);
      left.remove_prefix(end + mark.size());
    }
    // After the last separator of a block that ends with it, there is no document.
    if (!left.empty() || !begins) give(left, begins, block_.ends);
    return notes_;
  }

 private:
  void give(std::string_view text, bool begins, bool ends) {
    if (place_.empty() || !utf8_find_invalid(text)) return visit_({text, begins, ends});
    int64_t n_invalid = 0;
    std::string mended = valid_lines(text, &n_invalid);
    const bool skip = options_.on_bad_line == OnBadLine::kSkip;
    if (!skip) mended = utf8_sanitize(text);
    (skip ? notes_.skipped : notes_.replaced) += n_invalid;
    keep_first(skip ? &notes_.first_skipped : &notes_.first_replaced,
               fmt::format("{}: {}: invalid UTF-8", block_.file, place_));
    visit_({mended, begins, ends});
  }

  const TextBlock& block_;
  const DocumentOptions& options_;
  Visit visit_;
  std::string place_;  // of the first invalid byte; empty if all is valid
  LineNotes notes_;
};

}  // namespace

void LineNotes::add(const LineNotes& next) {
  skipped += next.skipped;
  replaced += next.replaced;
  odd += next.odd;
  keep_first(&first_skipped, next.first_skipped);
  keep_first(&first_replaced, next.first_replaced);
  keep_first(&first_odd, next.first_odd);
}

LineNotes for_each_document(const TextBlock& block, const DocumentOptions& options, Visit visit) {
  if (block.form == InputForm::kText) return TextReader(block, options, visit).run();
  return LineReader(block, options, visit).run();
}

}  // namespace sepllm
