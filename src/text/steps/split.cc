// The splitting step: how matches and what lies between them become pieces.
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/steps/pre_tokenizer.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

// Joins a stream of spans (each a match or not, tiling the text) into pieces according to a behaviour.
class Joiner {
 public:
  Joiner(const Piece& piece, SplitBehavior behavior, PieceSink next)
      : piece_(piece), behavior_(behavior), next_(next) {}

  void add(Span span, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::kRemoved:
        if (!is_match) emit(span);
        return;
      case SplitBehavior::kIsolated:
        emit(span);
        return;
      case SplitBehavior::kContiguous:
        join(span, is_match == previous_is_match_);
        break;
      case SplitBehavior::kMergedWithPrevious:
        join(span, is_match && !previous_is_match_);
        break;
      case SplitBehavior::kMergedWithNext:
        join(span, !is_match && previous_is_match_);
        break;
    }
    previous_is_match_ = is_match;
  }

  void finish() {
    if (holding_) emit(held_);
  }

 private:
  void join(Span span, bool with_held) {
    if (holding_ && with_held) {
      held_.end = span.end;
      return;
    }
    if (holding_) emit(held_);
    held_ = span;
    holding_ = true;
  }

  void emit(Span span) {
    if (span.begin == span.end) return;
    const bool at_start = span.begin == 0;
    next_({piece_.text.substr(span.begin, span.end - span.begin), piece_.first && at_start,
           piece_.continued && at_start});
  }

  const Piece& piece_;
  SplitBehavior behavior_;
  PieceSink next_;
  Span held_{0, 0};
  bool holding_ = false;
  bool previous_is_match_ = false;
};

class Split : public PreTokenizerStep {
 public:
  Split(std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {
    const bool keeps_matches =
        behavior == SplitBehavior::kIsolated || (behavior == SplitBehavior::kRemoved && invert);
    if (keeps_matches) scanner_ = pattern_->scanner();
  }

  void run(const Piece& piece, RegexScratch& scratch, std::string&, PieceSink next) const override {
    if (scanner_ != nullptr) return scan(piece, next);
    const std::string_view text = piece.text;
    Joiner joiner(piece, behavior_, next);
    size_t done = 0;
    size_t from = 0;
    while (const auto match = pattern_->find(text, from, scratch)) {
      if (match->begin > done) joiner.add({done, match->begin}, invert_);
      joiner.add(*match, !invert_);
      done = match->end;
      from = match->end;
      if (match->begin == match->end) {
        if (from >= text.size()) break;
        int length = 0;
        decode_valid_utf8(text.data() + from, length);
        from += static_cast<size_t>(length);
      }
    }
    if (done < text.size()) joiner.add({done, text.size()}, invert_);
    joiner.finish();
  }

 private:
  void scan(const Piece& piece, PieceSink next) const {
    size_t at = 0;
    while (at < piece.text.size()) {
      const size_t end = scanner_(piece.text, at);
      next({piece.text.substr(at, end - at), piece.first && at == 0, piece.continued && at == 0});
      at = end;
    }
  }

  std::unique_ptr<SplitPattern> pattern_;
  SplitBehavior behavior_;
  bool invert_;
  WordScanner scanner_ = nullptr;
};

}  // namespace

std::unique_ptr<PreTokenizerStep> make_split(std::unique_ptr<SplitPattern> pattern, SplitBehavior behavior,
                                             bool invert) {
  return std::make_unique<Split>(std::move(pattern), behavior, invert);
}

SplitBehavior parse_behavior(const JsonObject& step, const char* key, const char* fallback) {
  const std::string name = step.string_or(key, fallback);
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  throw Error(ErrorCode::kUnsupported, "unknown behaviour of a split",
              {.file = step.file(), .place = step.path_of(key), .got = name});
}

}  // namespace sepllm
