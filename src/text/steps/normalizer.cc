#include "text/steps/normalizer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "text/steps/json_step.h"
#include "text/steps/split_pattern.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

// A chain of replacements can grow a text without bound.
constexpr size_t kMaxGrowth = 64;
constexpr size_t kFreeGrowth = size_t{1} << 20;

class Prepend : public NormalizerStep {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  bool apply(std::string_view in, std::string& out, RegexScratch&) const override {
    if (in.empty()) return false;
    out = prefix_;
    out += in;
    return true;
  }

 private:
  std::string prefix_;
};

class Replace : public NormalizerStep {
 public:
  Replace(std::unique_ptr<SplitPattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  bool apply(std::string_view in, std::string& out, RegexScratch& scratch) const override {
    if (pattern_->is_regex()) scratch.look_at(in);
    std::optional<Span> match = pattern_->find(in, 0, scratch);
    if (!match) return false;
    out.clear();
    size_t done = 0;
    while (match) {
      out += in.substr(done, match->begin - done);
      out += content_;
      done = match->end;
      size_t from = match->end;
      if (match->begin == match->end) {  // an empty match: continue after the next character
        if (from >= in.size()) break;
        int length = 0;
        decode_valid_utf8(in.data() + from, length);
        from += static_cast<size_t>(length);
      }
      match = pattern_->find(in, from, scratch);
    }
    out += in.substr(done);
    return true;
  }

 private:
  std::unique_ptr<SplitPattern> pattern_;
  std::string content_;
};

class Strip : public NormalizerStep {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  bool apply(std::string_view in, std::string& out, RegexScratch&) const override {
    const uint8_t* classes = unicode_classes();
    const char* begin = in.data();
    const char* end = in.data() + in.size();
    if (left_) begin = skip_class(begin, end, classes, kSpace);
    while (right_ && end > begin) {
      const char* last = previous_char(end);
      int length = 0;
      if ((classes[decode_valid_utf8(last, length)] & kSpace) == 0) break;
      end = last;
    }
    out.assign(begin, end);
    return true;
  }

 private:
  bool left_, right_;
};

// Steps without settings; nullptr for any other.
std::unique_ptr<NormalizerStep> make_plain_step(const std::string& type) {
  if (type == "NFC") return make_unicode_normalizer(NormalForm::kNfc);
  if (type == "NFD") return make_unicode_normalizer(NormalForm::kNfd);
  if (type == "NFKC") return make_unicode_normalizer(NormalForm::kNfkc);
  if (type == "NFKD") return make_unicode_normalizer(NormalForm::kNfkd);
  if (type == "Lowercase") return make_lowercase();
  if (type == "StripAccents") return make_class_remover(kMark);
  if (type == "Nmt") return make_nmt();
  if (type == "ByteLevel") return make_byte_level_normalizer();
  return nullptr;
}

}  // namespace

Normalizer::Normalizer(const JsonObject& document) {
  for_each_step(document, "normalizer", "normalizers",
                [&](const JsonObject& step, const std::string& type) { add_step(step, type); });
}

void Normalizer::add_step(const JsonObject& step, const std::string& type) {
  if (type == "Prepend") {
    refuse_unknown_keys(step, {"type", "prepend"});
    steps_.push_back(std::make_unique<Prepend>(step.string("prepend")));
  } else if (type == "Replace") {
    refuse_unknown_keys(step, {"type", "pattern", "content"});
    steps_.push_back(std::make_unique<Replace>(parse_pattern(step, "pattern"), step.string("content")));
  } else if (type == "Strip") {
    refuse_unknown_keys(step, {"type", "strip_left", "strip_right"});
    steps_.push_back(
        std::make_unique<Strip>(step.boolean_or("strip_left", true), step.boolean_or("strip_right", true)));
  } else if (type == "BertNormalizer") {
    add_bert_steps(step);
  } else {
    auto plain = make_plain_step(type);
    if (plain == nullptr) unknown_step(step, type);
    refuse_unknown_keys(step, {"type"});
    steps_.push_back(std::move(plain));
  }
}

void Normalizer::add_bert_steps(const JsonObject& step) {
  refuse_unknown_keys(step, {"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
  const bool lowercase = step.boolean_or("lowercase", true);
  if (step.boolean_or("clean_text", true)) steps_.push_back(make_bert_cleaner());
  if (step.boolean_or("handle_chinese_chars", true)) steps_.push_back(make_han_spacer());
  if (step.boolean_or("strip_accents", lowercase)) {  // null: same as `lowercase`
    steps_.push_back(make_unicode_normalizer(NormalForm::kNfd));
    steps_.push_back(make_class_remover(kNonspacingMark));
  }
  if (lowercase) steps_.push_back(make_lowercase());
}

bool Normalizer::cuts_before_line_break() const {
  return std::all_of(steps_.begin(), steps_.end(),
                     [](const auto& step) { return step->cuts_before_line_break(); });
}

std::string_view Normalizer::apply(std::string_view text, NormalizerScratch& scratch) const {
  std::string_view current = text;
  for (const auto& step : steps_) {
    if (!step->apply(current, scratch.next, scratch.regex)) continue;
    std::swap(scratch.current, scratch.next);
    current = scratch.current;
    if (current.size() > kMaxGrowth * text.size() + kFreeGrowth) {
      throw Error(ErrorCode::kOutOfRange, "the tokenizer's normalizers make the text too long",
                  {.expected = "at most " + std::to_string(kMaxGrowth) + " times its size"});
    }
  }
  return current;
}

}  // namespace sepllm
