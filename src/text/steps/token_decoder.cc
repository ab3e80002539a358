#include "text/steps/token_decoder.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/byte_alphabet.h"
#include "base/error.h"
#include "text/steps/json_step.h"

namespace sepllm {
namespace {

constexpr size_t kMaxDecoderSteps = 64;
constexpr size_t kMaxTokenBytes = size_t{1} << 20;

class ByteLevelDecoder : public DecoderStep {
 public:
  std::string apply(std::string token, TokenPlace) const override {
    auto bytes = byte_level_bytes(token);
    return bytes ? std::move(*bytes) : std::move(token);
  }
};

class ReplaceDecoder : public DecoderStep {
 public:
  ReplaceDecoder(std::unique_ptr<SplitPattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string apply(std::string token, TokenPlace) const override {
    RegexScratch scratch;
    std::string out;
    size_t done = 0;
    while (const auto match = pattern_->find(token, done, scratch)) {
      if (match->begin == match->end) break;
      out.append(token, done, match->begin - done);
      out += content_;
      done = match->end;
      if (out.size() > kMaxTokenBytes) throw Error(ErrorCode::kOutOfRange, "decoder makes a token too long");
    }
    return out.append(token, done);
  }

 private:
  std::unique_ptr<SplitPattern> pattern_;
  std::string content_;
};

class ByteFallbackDecoder : public DecoderStep {
 public:
  std::string apply(std::string token, TokenPlace) const override {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return token;
    const auto digit = [](char c) {
      if (c >= '0' && c <= '9') return c - '0';
      if (c >= 'A' && c <= 'F') return c - 'A' + 10;
      return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    };
    const int high = digit(token[3]);
    const int low = digit(token[4]);
    if (high < 0 || low < 0) return token;
    return std::string(1, static_cast<char>(high * 16 + low));
  }
};

// Strip before Fuse: at both ends of every token.
class StripDecoder : public DecoderStep {
 public:
  StripDecoder(std::string mark, size_t start, size_t stop)
      : mark_(std::move(mark)), start_(start), stop_(stop) {}
  std::string apply(std::string token, TokenPlace) const override {
    for (size_t k = 0; k < start_ && token.starts_with(mark_); ++k) token.erase(0, mark_.size());
    for (size_t k = 0; k < stop_ && token.ends_with(mark_); ++k) token.resize(token.size() - mark_.size());
    return token;
  }

 private:
  std::string mark_;
  size_t start_, stop_;
};

class MetaspaceDecoder : public DecoderStep {
 public:
  MetaspaceDecoder(std::string mark, bool drops_first) : mark_(std::move(mark)), drops_first_(drops_first) {}
  std::string apply(std::string token, TokenPlace place) const override {
    std::string out;
    size_t done = 0;
    for (size_t at = token.find(mark_); at != std::string::npos; at = token.find(mark_, done)) {
      out.append(token, done, at - done);
      if (!place.first || !drops_first_) out += ' ';
      done = at + mark_.size();
    }
    return out.append(token, done);
  }
  bool first_differs() const override { return drops_first_; }

 private:
  std::string mark_;
  bool drops_first_;
};

// The suffix of a word's last token becomes the blank after the word; the last word has no blank after it.
class SuffixDecoder : public DecoderStep {
 public:
  explicit SuffixDecoder(std::string suffix) : suffix_(std::move(suffix)) {}
  std::string apply(std::string token, TokenPlace place) const override {
    std::string out;
    size_t done = 0;
    for (size_t at = token.find(suffix_); at != std::string::npos; at = token.find(suffix_, done)) {
      out.append(token, done, at - done);
      if (!place.last) out += ' ';
      done = at + suffix_.size();
    }
    return out.append(token, done);
  }
  bool last_differs() const override { return true; }

 private:
  std::string suffix_;
};

bool drops_first_blank(const JsonObject& step) {
  const bool add = step.boolean_or("add_prefix_space", true);
  return step.string_or("prepend_scheme", add ? "always" : "never") != "never";
}

}  // namespace

TokenDecoder TokenDecoder::byte_level() {
  TokenDecoder decoder;
  decoder.steps_.push_back(std::make_unique<ByteLevelDecoder>());
  return decoder;
}

TokenDecoder::TokenDecoder(const JsonObject& document, bool pieces_are_bytes) {
  for_each_step(document, "decoder", "decoders",
                [&](const JsonObject& step, const std::string& type) { add_step(step, type); });
  if (last_differs() && (first_differs() || strip_count_ > 0)) {
    throw Error(ErrorCode::kUnsupported, "decoders that change both ends of a text",
                {.file = document.file(), .place = "decoder"});
  }
  if (!document.has("decoder") && pieces_are_bytes) steps_.push_back(std::make_unique<ByteLevelDecoder>());
}

void TokenDecoder::add_step(const JsonObject& step, const std::string& type) {
  const auto unsupported = [&](const char* what, const char* key) {
    throw Error(ErrorCode::kUnsupported, what,
                {.file = step.file(), .place = step.path_of(key), .got = type});
  };
  if (steps_.size() >= kMaxDecoderSteps) unsupported("too many decoders", "type");
  if (fused_ && type != "Strip" && type != "Fuse") unsupported("decoder after the tokens are joined", "type");
  if (type == "ByteLevel") {
    refuse_unknown_keys(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    steps_.push_back(std::make_unique<ByteLevelDecoder>());
    fused_ = true;
  } else if (type == "Replace") {
    refuse_unknown_keys(step, {"type", "pattern", "content"});
    steps_.push_back(
        std::make_unique<ReplaceDecoder>(parse_pattern(step, "pattern"), step.string("content")));
  } else if (type == "ByteFallback") {
    refuse_unknown_keys(step, {"type"});
    steps_.push_back(std::make_unique<ByteFallbackDecoder>());
  } else if (type == "Fuse") {
    refuse_unknown_keys(step, {"type"});
    fused_ = true;
  } else if (type == "Strip") {
    refuse_unknown_keys(step, {"type", "content", "start", "stop"});
    const auto start = static_cast<size_t>(step.integer_or("start", 0, 0, 1 << 20));
    const auto stop = static_cast<size_t>(step.integer_or("stop", 0, 0, 1 << 20));
    const std::string mark = single_character(step, "content");
    if (!fused_) {
      steps_.push_back(std::make_unique<StripDecoder>(mark, start, stop));
      return;
    }
    if (stop > 0) unsupported("stripping of the end of a text", "stop");
    // More than one character could be spread over several tokens, which a stream has already shown by then.
    if (strip_count_ + start > 1) unsupported("stripping of more than one character of a text", "start");
    strip_ = mark;
    strip_count_ = start;
  } else if (type == "Metaspace") {
    refuse_unknown_keys(step,
                        {"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
    steps_.push_back(
        std::make_unique<MetaspaceDecoder>(single_character(step, "replacement"), drops_first_blank(step)));
  } else if (type == "BPEDecoder") {
    refuse_unknown_keys(step, {"type", "suffix"});
    const std::string suffix = step.string_or("suffix", "</w>");
    if (suffix.empty()) unsupported("an empty suffix", "suffix");
    steps_.push_back(std::make_unique<SuffixDecoder>(suffix));
  } else {
    unknown_step(step, type);
  }
}

std::string TokenDecoder::token_bytes(std::string_view piece, TokenPlace place) const {
  std::string token(piece);
  for (const auto& step : steps_) token = step->apply(std::move(token), place);
  return token;
}

bool TokenDecoder::last_differs() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->last_differs(); });
}

bool TokenDecoder::first_differs() const {
  for (const auto& step : steps_) {
    if (step->first_differs()) return true;
  }
  return false;
}

void TokenDecoder::strip_start(std::string& text) const {
  size_t at = 0;
  for (size_t k = 0; k < strip_count_ && std::string_view(text).substr(at).starts_with(strip_); ++k) {
    at += strip_.size();
  }
  text.erase(0, at);
}

}  // namespace sepllm
