// Text in which the author of every byte is known: the template, or the user. Special tokens are recognised
// only in the template's bytes, so that nobody can type "<|im_end|>" and end a turn.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace sepllm {

enum class Origin : bool { kTemplate, kUser };

class MarkedText {
 public:
  MarkedText() = default;
  MarkedText(std::string bytes, Origin origin);

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // The author of the byte at `at` < size().
  Origin origin_at(size_t at) const { return runs_[run_of(at)].origin; }
  bool has_user_bytes() const;

  void append(std::string_view bytes, Origin origin);
  void append(const MarkedText& other) { append(other, 0, other.size()); }
  void append(const MarkedText& other, size_t begin, size_t end);  // appends its bytes [begin, end)
  MarkedText slice(size_t begin, size_t end) const;

  // The template's bytes as ranges [begin, end), which are ascending and do not touch.
  std::vector<TextRange> template_ranges() const;

 private:
  struct Run {
    size_t end;  // end of its bytes; it begins where the run before it ends
    Origin origin;
  };
  size_t run_of(size_t at) const;

  std::string bytes_;
  std::vector<Run> runs_;  // neighbours differ in origin; none is empty
};

}  // namespace sepllm
